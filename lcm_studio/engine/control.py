"""A ControlNet's picture beside the conditioning of the levels that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_studio.images.control import control_image
from lcm_studio.models.protocol import Cond
from lcm_studio.spec.requests import ControlSpec


def shown(spec: ControlSpec, width: int, height: int) -> Tensor:
    """What the ControlNet is shown, `(1, 3, height, width)` in [0, 1]."""
    pixels = torch.from_numpy(control_image(spec, width, height).copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True, eq=False)
class Control:
    """`image`: of `shown`."""

    spec: ControlSpec
    image: Tensor

    def steered(
        self, cond: Cond, lead: Sequence[Cond], levels: int, device: str
    ) -> tuple[Cond, ...]:
        """The conditioning of one picture at each of so many levels; `lead` has that of the first ones.

        It holds where no part of a step lies outside its start and end, as in stock pipelines.
        """
        image = self.image.to(device)
        strength = torch.tensor([self.spec.strength], dtype=torch.float32, device=device)
        more = {"control": image, "control_scale": strength}
        each = []
        for k in range(levels):
            one = lead[k] if k < len(lead) else cond
            if k / levels >= self.spec.start and (k + 1) / levels <= self.spec.end:
                one = Cond(tensors={**one.tensors, **more}, batch=one.batch, group=one.group)
            each.append(one)
        return tuple(each)
