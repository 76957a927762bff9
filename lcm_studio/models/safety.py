"""The safety checker of a model folder, asked the way stock diffusers asks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.maths.pixels import to_pixels

SafetyCheck = Callable[[Tensor], tuple[bool, ...]]


def safety_check(checker: Any, extractor: Any, placement: Placement) -> SafetyCheck | None:
    """A function from images `(B, 3, H, W)` in [-1, 1] to flags, or None without a checker."""
    if checker is None or extractor is None:
        return None

    def check(images: Tensor) -> tuple[bool, ...]:
        from PIL import Image

        pictures = [Image.fromarray(pixels) for pixels in to_pixels(images)]
        values = extractor(pictures, return_tensors="pt").pixel_values
        values = values.to(placement.device, placement.torch_dtype())
        blank = torch.zeros(len(images), 1)
        _, flags = checker(images=blank, clip_input=values)
        return tuple(bool(flag) for flag in flags)

    return check
