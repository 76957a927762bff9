"""Inpainting, outpainting and sketching: pixels outside a mask are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lcm_studio.edits import masks
from lcm_studio.edits.finish import keep_pixels, to_bytes
from lcm_studio.edits.geometry import Box, around, check_size, resize
from lcm_studio.edits.harmonic import ROUGH, harmonic, near
from lcm_studio.edits.membrane import Membrane
from lcm_studio.edits.options import Options
from lcm_studio.edits.prepare import (
    emphasis_of,
    errors_outside,
    eta_of,
    frame_for,
    join,
    levels_of,
    method_of,
    noise_scale_of,
    room,
    split,
    tensor,
)
from lcm_studio.edits.problem import PIXELS, Known, Method, Problem
from lcm_studio.edits.schedules import default_anchors, from_strength
from lcm_studio.edits.seams import feathered, match_colour, poisson, seam_score
from lcm_studio.models.protocol import Model
from lcm_studio.operators import Mask
from lcm_studio.sampling import Report
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Edit, Pixels

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]

MASK_OPTIONS = ("grow", "feather", "invert", "context", "blend")
BLENDS = ("poisson", "colour", "none")
MAX_BORDER = 1024
RING = 8  # pixels around a hole that its colours are matched on


def inpaint(request: Edit, model: Model) -> Problem:
    """Repaints where the mask is white. Raises BadRequest for a missing or empty mask."""
    options = Options("inpaint", request.options, MASK_OPTIONS)
    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    if request.mask is None:
        raise BadRequest(
            "inpaint needs a mask: paint or upload one, white where the picture may change"
        )
    hole, said = _hole(request.mask, rgb.shape[:2], options)
    return _problem(request, model, options, rgb, alpha, hole, said)


def outpaint(request: Edit, model: Model) -> Problem:
    """Adds borders (left, top, right, bottom) and paints them. Raises BadRequest where there are none."""
    options = Options("outpaint", request.options, (*MASK_OPTIONS, "borders"))
    rgb, alpha = split(request.image)
    left, top, right, bottom = borders_of(options.given.get("borders"))
    height, width = rgb.shape[:2]
    check_size(height + top + bottom, width + left + right, "the widened picture")
    pads = ((top, bottom), (left, right))
    hole = np.pad(np.zeros((height, width), bool), pads, constant_values=True)
    said: tuple[str, ...] = ()
    if request.mask is not None:
        extra, said = _hole(request.mask, (height, width), options)
        hole[top : top + height, left : left + width] |= extra
    wide = np.pad(rgb, (*pads, (0, 0)), mode="symmetric")
    wide_alpha = None if alpha is None else np.pad(alpha, pads, constant_values=255)
    return _problem(request, model, options, wide, wide_alpha, hole, said)


def sketch(request: Edit, model: Model) -> Problem:
    """Strokes become a picture; with a mask, only inside it. SDEdit (Meng et al. 2022) with Algorithm 1."""
    options = Options("sketch", request.options, (*MASK_OPTIONS, "strength"))
    strength = options.number("strength", 0.6, 0.0, 1.0)
    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    said: tuple[str, ...] = ()
    hole = np.ones(rgb.shape[:2], bool)
    if request.mask is not None:
        hole, said = _hole(request.mask, rgb.shape[:2], options)
    first = from_strength(strength, model) / (1.0 if model.latent else 0.5)
    last = min(default_anchors("sketch", request.steps)[-1], first / 2)
    return _problem(request, model, options, rgb, alpha, hole, said, (first, last), keep_start=True)


def borders_of(value: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of pixels to add, from four numbers. Raises BadRequest otherwise."""
    try:
        borders = tuple(int(v) for v in value)
    except (TypeError, ValueError) as error:
        raise BadRequest(
            f"borders={value!r} must be four whole numbers: left, top, right, bottom, e.g. 0,0,64,0"
        ) from error
    if len(borders) != 4 or any(not 0 <= b <= MAX_BORDER for b in borders) or not any(borders):
        raise BadRequest(
            f"borders={','.join(map(str, borders))} must be four numbers from 0 to {MAX_BORDER} "
            "(left, top, right, bottom), not all 0"
        )
    return borders


def _hole(mask: Pixels, size: tuple[int, ...], options: Options) -> tuple[Bools, tuple[str, ...]]:
    if mask.ndim == 3:
        mask = mask[..., :3].max(axis=2)
    fitted, resized = masks.fit(mask, size[0], size[1])
    hole, greys = masks.hole_of(fitted)
    ready = np.where(hole, 255, 0).astype(np.uint8)
    if options.given.get("invert"):
        ready = masks.invert(ready)
    ready = masks.grow(ready, options.whole("grow", 0, -masks.MAX_GROW, masks.MAX_GROW))
    if not ready.any():
        raise BadRequest(
            "the mask is empty, so there is nothing to do: paint white where the picture may change"
        )
    said = [resized, greys]
    if ready.all():
        said.append("the mask covers the whole picture, so nothing of it is kept")
    return ready > 0, tuple(s for s in said if s)


def _problem(
    request: Edit,
    model: Model,
    options: Options,
    rgb: Pixels,
    alpha: Pixels | None,
    hole: Bools,
    said: tuple[str, ...],
    span: tuple[float, float] | None = None,
    keep_start: bool = False,
) -> Problem:
    """The mask edit of `rgb` inside `hole`: crop, scale, align, fill, and blend at the end."""
    context = options.number("context", 0.5, 0.0, 4.0)
    feather = options.whole("feather", 0, 0, 128)
    blend = options.choice("blend", "poisson", BLENDS)
    anchors = span or default_anchors(request.task, request.steps)
    levels = levels_of(request, options, model, anchors)
    default: Method | None = "latent" if keep_start and not hole.all() else None
    method = method_of(options, levels, default)
    native = (model.info.height, model.info.width)
    box = Box(0, 0, *hole.shape) if hole.all() else around(hole, native, context)
    crop, crop_hole = box.of(rgb), box.of(hole)
    height, width = _working(box, model)
    work = resize(crop, height, width)
    work_hole = resize(crop_hole.astype(np.float32), height, width) > 0
    if not keep_start:
        work = fill(work, work_hole)
    frame = frame_for(height, width, model)
    full, full_hole = frame.pad(work), frame.pad(work_hole)
    known = keep = window = None
    cell = model.info.height // model.sample_shape(model.info.width, model.info.height)[1]
    if not hole.all() and method in PIXELS:
        mask = torch.from_numpy(~full_hole).float()[None, None]
        known = Known(op=Mask(mask), y=mask * tensor(full), inverse=Membrane(full_hole))
    if not hole.all() and method in ("latent", "replace"):
        keep = masks.latent_keep(full_hole, cell)
    if model.latent and model.local_decoder and request.decoder == "default":
        window = masks.window(full_hole, cell, RING)
    if (height, width) != (box.height, box.width):
        said = (*said, f"the part to paint was sampled at {width} x {height} and enlarged")

    def finish(x: Floats, report: Report) -> Pixels:
        made = resize(frame.cut(x), box.height, box.width)
        out = rgb.copy()
        patch = out[box.top : box.bottom, box.left : box.right]
        if crop_hole.all():
            patch[:] = to_bytes(made)
        else:
            part = near(crop_hole, RING + 4)
            made, kept, inside = made[part], crop[part], crop_hole[part]
            before = kept.astype(np.float32)
            if blend != "none":
                made = match_colour(made, before, inside, RING)
            if blend == "poisson":
                made = poisson(made, before, inside)
            made = feathered(made, before, inside, feather)
            patch[part] = keep_pixels(made, kept, ~inside)
        return join(out, alpha)

    def measure(result: Pixels) -> dict[str, Any]:
        found, _ = split(result)
        return {
            "known": "nothing" if hole.all() else "pixels",
            **errors_outside(found, rgb, hole),
        } | ({} if hole.all() else {"seam": seam_score(found, hole)})

    return Problem(
        start=tensor(full),
        levels=levels,
        finish=finish,
        measure=measure,
        known=known,
        keep=keep,
        method=method,
        eta=eta_of(options, request.task, levels),
        noise_scale=noise_scale_of(options, request.task, len(levels)),
        emphasis=emphasis_of(options, request.task, model),
        project_last=False,
        window=window,
        warnings=said,
    )


def fill(work: Floats, hole: Bools) -> Floats:
    """The hole painted with the smooth continuation of its border; grey where nothing is known."""
    if hole.all():
        return np.full_like(work, 127.5)
    return harmonic(work, hole, ROUGH)


def _working(box: Box, model: Model) -> tuple[int, int]:
    """The size at which a crop is sampled: its own, or what fits the model in one piece."""
    scale = min(1.0, math.sqrt(room(model) / (box.height * box.width)))
    return max(1, round(box.height * scale)), max(1, round(box.width * scale))
