"""Pictures as tensors and back, the frames that models can sample, and errors between pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from lcm_studio.edits.geometry import Frame, align
from lcm_studio.maths.pixels import to_pixels
from lcm_studio.models.protocol import Model
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Pixels

    Floats = NDArray[np.float32]

ROOM = 2.0  # a picture of up to this many times the model's own pixels is sampled in one piece


def tensor(picture: NDArray[np.generic]) -> Tensor:
    """`(H, W, C)` in [0, 255] -> float32 `(1, C, H, W)` in [-1, 1]."""
    x = np.ascontiguousarray(np.asarray(picture, np.float32).transpose(2, 0, 1))
    return torch.from_numpy(x)[None] / 127.5 - 1


def picture(x: Tensor) -> Floats:
    """`(C, H, W)` in [-1, 1] -> float32 `(H, W, C)` in [0, 255], not clipped."""
    array: Floats = ((x.detach().float().cpu() + 1) * 127.5).permute(1, 2, 0).numpy()
    return array


def split(image: Pixels) -> tuple[Pixels, Pixels | None]:
    """(RGB, alpha or None) of a picture with 1, 3 or 4 channels. Raises BadRequest for another shape."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.dtype != np.uint8:
        raise BadRequest(
            f"a picture of shape {image.shape} and {image.dtype} is not usable; give 8-bit RGB or RGBA"
        )
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2), None
    return image[..., :3], image[..., 3] if image.shape[2] == 4 else None


def join(rgb: Pixels, alpha: Pixels | None) -> Pixels:
    """RGB with its alpha back, if it had one."""
    return rgb if alpha is None else np.dstack([rgb, alpha])


def frame_for(height: int, width: int, model: Model, multiple: int | None = None) -> Frame:
    """A frame that the model can sample: its multiple, and at least its own size."""
    step = multiple or model.info.multiple
    return align(height, width, step, (model.info.height, model.info.width))


def unframed(frame: Frame, alpha: Pixels | None = None) -> Callable[[Tensor], tuple[Pixels, ...]]:
    """`Problem.unfinished` of a picture that is sampled inside a frame: estimates without what surrounds it."""

    def cut(estimates: Tensor) -> tuple[Pixels, ...]:
        return tuple(join(frame.cut(x).copy(), alpha) for x in to_pixels(estimates))

    return cut


def room(model: Model) -> float:
    """How many pixels are sampled in one piece."""
    return ROOM * model.info.width * model.info.height


def tile_for(frame: Frame, model: Model) -> tuple[int, int] | None:
    """The model's own size, where a frame is too large for one piece."""
    if frame.full_height * frame.full_width <= room(model):
        return None
    return model.info.height, model.info.width


def fitting(height: int, width: int, model: Model) -> tuple[int, int]:
    """The size at which a part is sampled: its own, or what fits the model in one piece."""
    scale = min(1.0, math.sqrt(room(model) / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def errors_outside(found: Pixels, wanted: Pixels, hole: NDArray[np.bool_]) -> dict[str, float]:
    """`errors` of the pixels that are not in the hole, `(H, W, 3)` uint8 each."""
    known = int(hole.size - np.count_nonzero(hole)) * found.shape[2]
    if not known:
        return {}
    gap = cv2.absdiff(found, wanted)
    gap[hole] = 0
    squares = float(cv2.norm(gap, cv2.NORM_L2SQR))
    return {"max_error": float(gap.max()), "rms_error": math.sqrt(squares / known)}


def errors(found: NDArray[np.generic], wanted: NDArray[np.generic]) -> dict[str, float]:
    """Largest and root-mean-square difference, of 255; nothing where nothing is known."""
    gap = np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64))
    if not gap.size:
        return {}
    return {"max_error": float(gap.max()), "rms_error": float(np.sqrt((gap**2).mean()))}
