"""Enlarge: a few times larger; a mask on the small picture marks samples that are unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.task import EditTask, Relaxed, Whole
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.schema import text, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Report
    from lcm_studio.spec.requests import Edit, Pixels


@dataclass(frozen=True, kw_only=True)
class Settings(Relaxed):
    """By how much, and how the picture was shrunk."""

    scale: int = whole(
        4, title="Enlarge", help="times larger", low=2, high=8, unit="x", offers=(2, 3, 4, 8)
    )
    operator: str = text(
        "area",
        title="It was shrunk by",
        help="how it was shrunk",
        example="area, bicubic or blur:SIGMA",
        offers=("area", "bicubic", "blur:1.0"),
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest for an unknown operator or a picture that would be too large."""
    import math

    import cv2
    import numpy as np
    import torch

    from lcm_studio.edits.blurs import SMOOTH_DAMPING, downsampler
    from lcm_studio.edits.finish import meet_block_means, meet_operator
    from lcm_studio.edits.framed import problem_in
    from lcm_studio.edits.geometry import Frame, check_enlarged
    from lcm_studio.edits.pixels import errors, frame_for, join, picture, split, tensor
    from lcm_studio.edits.problem import Known
    from lcm_studio.edits.schedule import schedule_for, top_of_extent
    from lcm_studio.edits.seams import block_seam_score
    from lcm_studio.operators import Compose, Histospline, LinearOperator, Mask

    p, name = settings.scale, settings.operator
    rgb, alpha = split(request.image)
    height, width = rgb.shape[0] * p, rgb.shape[1] * p
    check_enlarged(rgb.shape[0], rgb.shape[1], p)
    frame = frame_for(height, width, model, math.lcm(model.info.multiple, p))
    sides = (frame.full_height // p, frame.full_width // p)
    small = Frame(0, 0, rgb.shape[0], rgb.shape[1], *sides)
    op = downsampler(name, p, frame.full_height, frame.full_width)
    exact = downsampler(name, p, height, width)
    full = small.pad(rgb)
    warnings: tuple[str, ...] = ()
    keep = np.ones(rgb.shape[:2], bool)
    known_op: LinearOperator = op
    y = tensor(full)
    if request.mask is not None:
        keep, warnings = known_samples(request.mask, rgb)
        mask = torch.from_numpy(small.pad(keep)).float()[None, None]
        known_op, y = Compose(Mask(mask), op), mask * y
        full = small.pad(_filled(rgb, keep))
    start = cv2.resize(full, (frame.full_width, frame.full_height), interpolation=cv2.INTER_CUBIC)
    damping = 0.0 if name == "area" else SMOOTH_DAMPING / p**2

    def finish(x: NDArray[np.float32], report: Report) -> Pixels:
        made, wanted = frame.cut(x), rgb.astype(np.float32)
        if not keep.all():
            of_made = picture(exact.A(tensor(np.clip(made, 0, 255)))[0])
            wanted = np.where(keep[..., None], wanted, of_made)
        if name == "area":
            met = meet_block_means(made, wanted, p, report)
        else:
            met = meet_operator(exact, made, wanted, damping=damping, report=report)
        large = None
        if alpha is not None:
            large = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC)
        return join(met, large)

    def measure(result: Pixels) -> dict[str, Any]:
        found = picture(exact.A(tensor(result[..., :3]).double())[0])
        figures = {"known": f"{name} samples", **errors(found[keep], rgb[keep])}
        return figures | {"seam": block_seam_score(result[..., :3], p)}

    schedule = schedule_for(
        request, settings, model, top=top_of_extent(p, model), like=f"superres{p}"
    )
    inverse = Histospline(p) if name == "area" else None
    return problem_in(
        frame,
        model,
        settings,
        schedule,
        start=tensor(start),
        known=Known(op=known_op, y=y, damping=(damping,), inverse=inverse),
        finish=finish,
        measure=measure,
        warnings=warnings,
    )


def by_tiles(request: Edit, settings: Settings) -> Whole:
    """Samples reach a few of their own over the border of a tile. Raises BadRequest for what would be too large."""
    from lcm_studio.edits.geometry import check_enlarged

    height, width = request.image.shape[:2]
    check_enlarged(height, width, settings.scale)
    return Whole(reach=8 * settings.scale)


def known_samples(mask: Pixels, rgb: Pixels) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which samples `(h, w)` of the small picture are known. Raises BadRequest for none."""
    from lcm_studio.edits import masks

    flat = mask if mask.ndim == 2 else mask[..., :3].max(axis=2)
    fitted, resized = masks.fit(flat, *rgb.shape[:2])
    hole, greys = masks.hole_of(fitted)
    if hole.all():
        raise BadRequest(
            "the mask covers the whole small picture, so nothing is known; leave some of it black"
        )
    return ~hole, tuple(words for words in (resized, greys) if words)


def _filled(rgb: Pixels, keep: NDArray[np.bool_]) -> Pixels:
    import numpy as np

    from lcm_studio.edits.finish import to_bytes
    from lcm_studio.edits.harmonic import harmonic

    return to_bytes(harmonic(rgb.astype(np.float32), ~keep))


TASK = EditTask(
    name="superres",
    title="Enlarge",
    by_tiles=by_tiles,
    help="enlarge it",
    known="the mean of every block of pixels",
    settings=Settings,
    build=build,
    takes=("mask",),
    bound=1.0,
    hint="Make it 2 to 8 times as large.",
)
