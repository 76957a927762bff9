"""The edit that inpainting, outpainting and sketching share: pixels outside a mask are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lcm_studio.edits import masks
from lcm_studio.edits.finish import keep_pixels, to_bytes
from lcm_studio.edits.geometry import PART_PIXELS, Box, around, resize
from lcm_studio.edits.harmonic import ROUGH, harmonic, near
from lcm_studio.edits.membrane import Membrane
from lcm_studio.edits.methods import method_of
from lcm_studio.edits.pixels import errors_outside, fitting, frame_for, join, picture, tensor
from lcm_studio.edits.problem import PIXELS, Known, Method, Problem, one_by_one
from lcm_studio.edits.schedule import schedule_for, top_of_extent
from lcm_studio.edits.seams import feathered, match_colour, poisson, seam_score
from lcm_studio.edits.view import View
from lcm_studio.models.protocol import Model
from lcm_studio.operators import Mask
from lcm_studio.sampling import Report
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.edits.task import Masked
    from lcm_studio.spec.requests import Edit, Pixels

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]

RING = 8  # pixels around a hole that its colours are matched on


def hole_of(mask: Pixels, size: tuple[int, ...], settings: Masked) -> tuple[Bools, tuple[str, ...]]:
    """Where the picture of `size` (height, width) may change, and what is to say of it. Raises BadRequest for nowhere."""
    if mask.ndim == 3:
        mask = mask[..., :3].max(axis=2)
    fitted, resized = masks.fit(mask, size[0], size[1])
    hole, greys = masks.hole_of(fitted)
    ready = np.where(hole, 255, 0).astype(np.uint8)
    if settings.invert:
        ready = masks.invert(ready)
    ready = masks.grow(ready, settings.grow)
    if not ready.any():
        raise BadRequest(
            "the mask is empty, so there is nothing to do: paint white where the picture may change"
        )
    warnings = [resized, greys]
    if ready.all():
        warnings.append("the mask covers the whole picture, so nothing of it is kept")
    return ready > 0, tuple(text for text in warnings if text)


def extent(hole: Bools, crop: tuple[int, int], work: tuple[int, int]) -> float:
    """How far the hole reaches, in pixels that are sampled: the shorter side of what holds it."""
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    sides = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    return min(side * there / here for side, here, there in zip(sides, crop, work, strict=True))


def check_part(hole: Bools) -> None:
    """Raises BadRequest for a hole that spans more than can be blended in at once."""
    rows, columns = near(hole, 0)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height * width > PART_PIXELS:
        raise BadRequest(
            f"the part to paint spans {width} x {height} pixels; at most {PART_PIXELS / 1e6:.0f} megapixels can be painted at "
            "once: paint a smaller part, or scale the picture down"
        )


def hole_problem(
    request: Edit,
    settings: Masked,
    model: Model,
    *,
    rgb: Pixels,
    alpha: Pixels | None,
    hole: Bools,
    warnings: tuple[str, ...],
    top: float | None = None,
    own: Box | None = None,
) -> Problem:
    """The edit of `rgb` inside `hole`: crop, scale, align, fill, and blend at the end.

    `own`: where the request's picture lies in `rgb`; None = it is all of it.

    `top`: the first sigma where the hole starts from what the picture shows there; None = it starts empty.
    """
    box = Box(0, 0, *hole.shape)
    if not hole.all():
        box = around(hole, (model.info.height, model.info.width), settings.context)
    crop, crop_hole = box.of(rgb), box.of(hole)
    check_part(hole)
    height, width = fitting(box.height, box.width, model)
    empty = top is None
    if top is None:
        reach = extent(crop_hole, (box.height, box.width), (height, width))
        top = top_of_extent(reach, model)
    schedule = schedule_for(request, settings, model, top=top, by_strength=not empty)
    method = method_of(settings, schedule, None if empty or hole.all() else "latent")
    work = resize(crop, height, width)
    work_hole = resize(crop_hole.astype(np.float32), height, width) > 0
    if empty:
        work = fill(work, work_hole)
    frame = frame_for(height, width, model)
    full, full_hole = frame.pad(work), frame.pad(work_hole)
    if (height, width) != (box.height, box.width):
        warnings = (
            *warnings,
            f"the part to paint was sampled at {width} x {height} and enlarged",
        )

    def placed(x: Floats) -> tuple[Floats, Pixels, Pixels]:
        """The part that was made, at its size; a copy of the whole picture; and where it lies in that."""
        out = rgb.copy()
        return resize(frame.cut(x), box.height, box.width), out, box.of(out)

    def unfinished(estimates: Tensor) -> tuple[Pixels, ...]:
        pictures = []
        for x in estimates:
            made, out, patch = placed(picture(x))
            patch[crop_hole] = to_bytes(made)[crop_hole]
            pictures.append(join(out, alpha))
        return tuple(pictures)

    def finish(x: Floats, report: Report) -> Pixels:
        made, out, patch = placed(x)
        if crop_hole.all():
            patch[:] = to_bytes(made)
        else:
            part = near(crop_hole, RING + 4)
            patch[part] = blended(made[part], crop[part], crop_hole[part], settings)
        return join(out, alpha)

    def measure(result: Pixels) -> dict[str, Any]:
        found = result[..., :3]
        figures: dict[str, Any] = {"known": "nothing" if hole.all() else "pixels"}
        figures |= errors_outside(found, rgb, hole)
        return figures if hole.all() else figures | {"seam": seam_score(found, hole)}

    known, keep, window = _kept(request, model, full, full_hole, method)
    return Problem(
        schedule=schedule,
        size=full_hole.shape,
        start=tensor(full),
        finish=one_by_one(finish, measure),
        unfinished=unfinished,
        known=known,
        keep=keep,
        method=method,
        project_last=False,
        window=window,
        view=View(size=hole.shape, box=box, frame=frame, own=own),
        warnings=warnings,
    )


def _kept(
    request: Edit, model: Model, full: Floats, hole: Bools, method: Method
) -> tuple[Known | None, Any, Box | None]:
    """The known pixels, the latent cells that stay, and the window that is decoded at the end; None for what is not."""
    known = keep = window = None
    cell = model.info.height // model.sample_shape(model.info.width, model.info.height)[1]
    if not hole.all() and method in PIXELS:
        mask = torch.from_numpy(~hole).float()[None, None]
        known = Known(op=Mask(mask), y=mask * tensor(full), inverse=Membrane(hole))
    if not hole.all() and method in ("latent", "replace"):
        keep = masks.latent_keep(hole, cell)
    reach = model.decoder_reach
    if model.latent and reach is not None and request.decoder == "default":
        window = masks.window(hole, cell, reach=reach, ring=RING)
    return known, keep, window


def blended(made: Floats, kept: Pixels, hole: Bools, settings: Masked) -> Pixels:
    """`made` inside the hole, fitted to what lies around it; the bytes of `kept` outside."""
    before = kept.astype(np.float32)
    if settings.blend != "none":
        made = match_colour(made, before, hole, RING)
    if settings.blend == "poisson":
        made = poisson(made, before, hole)
    return keep_pixels(feathered(made, before, hole, settings.feather), kept, ~hole)


def fill(work: Floats, hole: Bools) -> Floats:
    """The hole painted with the smooth continuation of its border; grey where nothing is known."""
    if hole.all():
        return np.full_like(work, 127.5)
    return harmonic(work, hole, ROUGH)
