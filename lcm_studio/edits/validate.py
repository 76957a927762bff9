"""What can be refused before a model is loaded. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lcm_studio.edits.geometry import WHOLE_PIXELS, check_size
from lcm_studio.edits.tasks import task_of
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.schema import read

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo
    from lcm_studio.spec.requests import Edit


def check_edit(request: Edit, info: ModelInfo) -> tuple[str, ...]:
    """Warnings about an edit. Raises BadRequest for an unknown task or setting, a wrong picture or no mask."""
    task = task_of(request.task)
    read(task.settings, request.options, task.name)
    if request.control is not None and not task.takes_control:
        raise BadRequest(f"{task.name} takes no ControlNet; leave control out")
    for what, image in (("the picture", request.image), ("the second picture", request.image_b)):
        if image is None and what == "the picture":
            raise BadRequest(f"{task.name} needs a picture; give one")
        if image is not None:
            check_picture(image, what)
    if task.in_one_piece:
        height, width = request.image.shape[:2]
        check_size(height, width, most=WHOLE_PIXELS, purpose=f"for {task.name}")
    if request.mask is not None:
        check_picture(request.mask, "the mask")
        if "mask" in task.needs and not request.options.get("invert") and not request.mask.any():
            raise BadRequest(
                "the mask is empty, so there is nothing to do: paint white where the picture may change"
            )
    elif "mask" in task.needs:
        raise BadRequest(
            f"{task.name} needs a mask: paint or upload one, white where the picture may change"
        )
    return () if info.fitted is not None or task.by_strength else (untuned(info),)


def untuned(info: ModelInfo) -> str:
    """What is said of a model whose folder holds no numbers for edits."""
    return (
        f"{info.id} has no edits.yaml of its own: levels and noise of its edits are the textbook's"
    )


def check_picture(image: object, what: str) -> None:
    """Raises BadRequest for anything but an 8-bit array `(H, W)` or `(H, W, 1, 3 or 4)` of a bearable size."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise BadRequest(f"{what} is {kind}; give an array of 8-bit pixels (uint8)")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise BadRequest(
            f"{what} has shape {image.shape}; give (height, width, 3), or 4 channels with alpha"
        )
    check_size(image.shape[0], image.shape[1], what)
