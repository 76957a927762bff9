"""Colorizing, super-resolution, denoising and deblurring: a measurement of the picture is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from lcm_studio.edits.finish import meet_block_means, meet_luma, meet_operator, to_bytes
from lcm_studio.edits.geometry import Frame, check_size, resize
from lcm_studio.edits.noise_level import estimate_sigma
from lcm_studio.edits.options import Options
from lcm_studio.edits.prepare import (
    emphasis_of,
    errors,
    eta_of,
    frame_for,
    join,
    levels_of,
    method_of,
    noise_scale_of,
    picture,
    relax_of,
    room,
    split,
    tensor,
    tile_for,
)
from lcm_studio.edits.problem import Known, Problem
from lcm_studio.edits.schedules import default_anchors
from lcm_studio.edits.seams import block_seam_score
from lcm_studio.models.protocol import Model
from lcm_studio.operators import (
    LUMA,
    BlockMean,
    Compose,
    Convolution,
    Correlated,
    Histospline,
    Identity,
    LinearOperator,
    Luma,
    Mask,
    Neutral,
    bicubic_downsample,
    gaussian_blur,
    gaussian_downsample,
    line_blur,
    motion_kernel,
    parse_kernel,
)
from lcm_studio.sampling import Report
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Edit, Pixels

    Floats = NDArray[np.float32]

ROUNDED = 1.2  # of 255: an error just above 1 is that of rounding the result, which a closer fit makes room for
SMOOTH_DAMPING = 3e-3  # of a blur's projection: 8-bit rounding of y is not to be amplified


def luma_of(rgb: Pixels) -> NDArray[np.float64]:
    """The luma `(H, W)` of a picture; of a grey one its grey value."""
    if bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all()):
        return np.minimum(rgb[..., 0].astype(np.float64), 255 * sum(LUMA))
    luma: NDArray[np.float64] = rgb.astype(np.float64) @ np.asarray(LUMA)
    return luma


def colorize(request: Edit, model: Model) -> Problem:
    """New colours for the luma of a picture. Large pictures are coloured small: colour may be coarse, luma not."""
    options = Options("colorize", request.options, ("relax",))
    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    y = luma_of(rgb)
    height, width = y.shape
    scale = min(1.0, math.sqrt(room(model) / (height * width)))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    grey = resize(y.astype(np.float32), *small)
    frame = frame_for(*small, model)
    full = frame.pad(grey)[..., None]
    known = torch.from_numpy(full[..., 0].copy())[None, None] / 127.5 - sum(LUMA)

    def finish(x: Floats, report: Report) -> Pixels:
        made = frame.cut(x)
        chroma = made - (made @ np.asarray(LUMA, np.float32))[..., None]
        coloured = resize(chroma, height, width) + y[..., None].astype(np.float32)
        return join(meet_luma(coloured, y), alpha)

    def measure(result: Pixels) -> dict[str, Any]:
        found = split(result)[0].astype(np.float64) @ np.asarray(LUMA)
        return {"known": "luma", **errors(found, y)}

    levels = levels_of(request, options, model, default_anchors("colorize", request.steps))
    return Problem(
        start=tensor(np.repeat(full, 3, axis=2)),
        levels=levels,
        finish=finish,
        measure=measure,
        known=Known(op=Luma(), y=known, inverse=Neutral()),
        method=method_of(options, levels),
        eta=eta_of(options, "colorize", levels),
        noise_scale=noise_scale_of(options, "colorize", len(levels)),
        relax=relax_of(options, "colorize", len(levels)),
        emphasis=emphasis_of(options, "colorize", model),
    )


def superres(request: Edit, model: Model) -> Problem:
    """`scale` times larger; a mask `(h, w)` on the small picture marks samples that are unknown."""
    options = Options("superres", request.options, ("scale", "operator", "relax"))
    p = options.whole("scale", 4, 2, 8)
    name = options.text("operator", "area")
    rgb, alpha = split(request.image)
    height, width = rgb.shape[0] * p, rgb.shape[1] * p
    check_size(height, width, "the enlarged picture")
    multiple = math.lcm(model.info.multiple, p)
    frame = frame_for(height, width, model, multiple)
    small = Frame(0, 0, rgb.shape[0], rgb.shape[1], frame.full_height // p, frame.full_width // p)
    op, own = (
        _downsampler(name, p, *size)
        for size in ((frame.full_height, frame.full_width), (height, width))
    )
    full = small.pad(rgb)
    said: tuple[str, ...] = ()
    keep = np.ones(rgb.shape[:2], bool)
    known_op: LinearOperator = op
    y = tensor(full)
    if request.mask is not None:
        keep, said = _known_samples(request.mask, rgb)
        mask = torch.from_numpy(small.pad(keep)).float()[None, None]
        known_op, y = Compose(Mask(mask), op), mask * y
        full = small.pad(_filled(rgb, keep))
    start = cv2.resize(full, (frame.full_width, frame.full_height), interpolation=cv2.INTER_CUBIC)
    damping = 0.0 if name == "area" else SMOOTH_DAMPING / p**2

    def finish(x: Floats, report: Report) -> Pixels:
        made = frame.cut(x)
        if not keep.all():
            target = own.A(tensor(np.clip(made, 0, 255)))
            y_made = picture(target[0])
            wanted = np.where(keep[..., None], rgb.astype(np.float32), y_made)
        else:
            wanted = rgb.astype(np.float32)
        if name == "area":
            met = meet_block_means(made, wanted, p)
        else:
            met = meet_operator(own, made, wanted, damping=damping, report=report)
        return join(met, None if alpha is None else _enlarge(alpha, height, width))

    def measure(result: Pixels) -> dict[str, Any]:
        found = picture(own.A(tensor(split(result)[0]).double())[0])
        return {
            "known": f"{name} samples",
            **errors(found[keep], rgb[keep]),
            "seam": block_seam_score(split(result)[0], p),
        }

    levels = levels_of(request, options, model, default_anchors(f"superres{p}", request.steps))
    return Problem(
        start=tensor(start),
        levels=levels,
        finish=finish,
        measure=measure,
        known=Known(
            op=known_op,
            y=y,
            damping=(damping,),
            inverse=Histospline(p) if name == "area" else None,
        ),
        method=method_of(options, levels),
        eta=eta_of(options, f"superres{p}", levels),
        noise_scale=noise_scale_of(options, f"superres{p}", len(levels)),
        relax=relax_of(options, f"superres{p}", len(levels)),
        emphasis=emphasis_of(options, "superres", model),
        tile=tile_for(frame, model),
        warnings=said,
    )


def denoise(request: Edit, model: Model) -> Problem:
    """Removes white noise of `sigma` (for pixels in [0, 1]), given or estimated ("auto")."""
    options = Options("denoise", request.options, ("sigma", "relax"))
    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    estimated = options.given.get("sigma", "auto") == "auto"
    sigma = estimate_sigma(rgb) / 255 if estimated else options.number("sigma", 0.1, 0.001, 1.0)
    sigma = max(sigma, 1 / 255)
    frame = frame_for(rgb.shape[0], rgb.shape[1], model)
    noisy = frame.pad(rgb)
    levels = levels_of(request, options, model, denoise_range(sigma, request.steps))
    damping = (2 * sigma) ** 2 / ESTIMATE_POWER
    known = Known(
        op=Identity(),
        y=tensor(noisy),
        damping=(*(damping for _ in levels[1:]), LAST * damping),
        inverse=Correlated(),
    )

    def measure(result: Pixels) -> dict[str, Any]:
        gap = (split(result)[0].astype(np.float64) - rgb) / 255
        return {
            "known": "noisy picture",
            "sigma": sigma,
            "sigma_estimated": estimated,
            "residual": float(gap.std()),
            "residual_ratio": float(gap.std() / sigma),
        }

    return Problem(
        start=known.project(tensor(smoothed(noisy, sigma)), 0).clamp(-1, 1),
        levels=levels,
        finish=lambda x, report: join(to_bytes(frame.cut(x)), alpha),
        measure=measure,
        known=known,
        method=method_of(options, levels),
        eta=eta_of(options, "denoise", levels),
        noise_scale=noise_scale_of(options, "denoise", len(levels)),
        relax=relax_of(options, "denoise", len(levels), relaxed_share(sigma)),
        emphasis=emphasis_of(options, "denoise", model),
        tile=tile_for(frame, model),
    )


def deblur(request: Edit, model: Model) -> Problem:
    """Undoes a known blur: "gaussian:SIGMA" or "motion:LENGTH,ANGLE" in pixels of the picture."""
    options = Options("deblur", request.options, ("kernel", "relax"))
    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    kernel = options.text("kernel", "gaussian:2")
    height, width = rgb.shape[:2]
    own = blur_operator(kernel, height, width)
    frame = frame_for(height, width, model)
    whole = (frame.full_height, frame.full_width)
    op = own if whole == (height, width) else blur_operator(kernel, *whole)
    y = tensor(frame.pad(rgb))
    start = op.pinv(y, 0.02).clamp(-1, 1)

    def finish(x: Floats, report: Report) -> Pixels:
        # y is rounded, so a closer fit would amplify its rounding into a visible texture; rounding adds about 0.1
        made, wanted = frame.cut(x), rgb.astype(np.float32)
        for goal in (0.9, 0.87, 0.84):
            met = meet_operator(own, made, wanted, damping=0.02, goal=goal, report=report)
            if not 1 < gap(met)["max_error"] < ROUNDED:  # met, or out of reach
                break
        return join(met, alpha)

    def gap(made: Pixels) -> dict[str, float]:
        return errors(picture(own.A(tensor(made).double())[0]), rgb)

    def measure(result: Pixels) -> dict[str, Any]:
        return {"known": f"{kernel} blur", **gap(split(result)[0])}

    levels = levels_of(request, options, model, default_anchors("deblur", request.steps))
    return Problem(
        start=start,
        levels=levels,
        finish=finish,
        measure=measure,
        known=Known(op=op, y=y, damping=(SMOOTH_DAMPING,)),
        method=method_of(options, levels),
        eta=eta_of(options, "deblur", levels),
        noise_scale=noise_scale_of(options, "deblur", len(levels)),
        relax=relax_of(options, "deblur", len(levels)),
        emphasis=emphasis_of(options, "deblur", model),
        tile=tile_for(frame, model),
    )


# of a clean estimate's error, in the unit of `Correlated`: variance per cosine of pixels in [-1, 1]. Measured: .015 at
# sigma .25 to .03 at 1.2
ESTIMATE_POWER = 0.025
# times the damping at the last level: the errors lie at edges, so that what is let through in flat parts is noise, and
# no prediction follows that would take it for such; four times halves the grain there, and the PSNR rises
LAST = 4.0


def denoise_range(sigma: float, steps: int) -> tuple[float, float]:
    """First and last level for pixel noise `sigma`: high enough to repaint what the noise has hidden."""
    first, *_, last = default_anchors("denoise", steps)
    return max(first * sigma / 0.1, 0.4), max(last * min(sigma / 0.1, 1.0), 0.2)


def relaxed_share(sigma: float) -> float:
    """How much of the over-relaxation is good for pixel noise `sigma`: none where the noise hides little, all from 0.1."""
    return float(np.clip(sigma / 0.05 - 1, 0, 1))


def smoothed(noisy: Pixels, sigma: float) -> Pixels:
    """Non-local means as a first guess, so that the noise itself does not enter the latents."""
    strength = float(np.clip(sigma * 255 * 0.9, 1, 90))
    smooth: Pixels = cv2.fastNlMeansDenoisingColored(
        np.ascontiguousarray(noisy), None, strength, strength, 5, 13
    )
    return smooth


def blur_operator(kernel: str, height: int, width: int) -> LinearOperator:
    """The operator of a kernel's name; diagonal in cosines where it can be."""
    name, numbers = parse_kernel(kernel)
    if name == "gaussian":
        return gaussian_blur(numbers[0], height, width)
    k = motion_kernel(*numbers)
    radius = k.shape[0] // 2
    if radius >= min(height, width):
        return Convolution(k, height, width)  # raises the sentence
    if numbers[1] % 180 == 0:
        return line_blur(k[radius], height, width, along=1)
    if numbers[1] % 180 == 90:
        return line_blur(k[:, radius], height, width, along=0)
    return Convolution(k, height, width, iterations=8)


def _downsampler(name: str, p: int, height: int, width: int) -> LinearOperator:
    if name == "area":
        return BlockMean(p, height, width)
    if name == "bicubic":
        return bicubic_downsample(p, height, width)
    kind, _, rest = name.partition(":")
    try:
        sigma = float(rest) if kind == "blur" else math.nan
    except ValueError:
        sigma = math.nan
    if not math.isfinite(sigma):
        raise BadRequest(f"operator={name!r} is unknown; use area, bicubic or blur:SIGMA")
    return gaussian_downsample(sigma, p, height, width)


def _known_samples(mask: Pixels, rgb: Pixels) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    from lcm_studio.edits import masks

    flat = mask if mask.ndim == 2 else mask[..., :3].max(axis=2)
    fitted, said = masks.fit(flat, *rgb.shape[:2])
    hole, greys = masks.hole_of(fitted)
    if hole.all():
        raise BadRequest(
            "the mask covers the whole small picture, so nothing is known; leave some of it black"
        )
    return ~hole, tuple(s for s in (said, greys) if s)


def _filled(rgb: Pixels, keep: NDArray[np.bool_]) -> Pixels:
    from lcm_studio.edits.harmonic import harmonic

    return to_bytes(harmonic(rgb.astype(np.float32), ~keep))


def _enlarge(alpha: Pixels, height: int, width: int) -> Pixels:
    large: Pixels = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC)
    return large
