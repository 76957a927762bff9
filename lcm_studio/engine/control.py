"""What a ControlNet and an IP-Adapter add to the conditioning of the levels that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lcm_studio.edits.view import View
from lcm_studio.images.control import control_image
from lcm_studio.models.protocol import Cond
from lcm_studio.spec.requests import ControlSpec, IPAdapterSpec

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels


def shown(
    spec: ControlSpec, width: int, height: int, view: View | None = None, own: Pixels | None = None
) -> Tensor:
    """What the ControlNet is shown, `(1, 3, height, width)` in [0, 1].

    `view`: of an edit whose picture is `own`, uint8 `(h, w, 3)`.
    """
    if view is None or own is None:
        pixels = control_image(spec, width, height)
    else:
        pixels = view.shown(spec, own)
    image = torch.from_numpy(pixels.copy())
    return image.permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True, kw_only=True, eq=False)
class Steer:
    """`image`: of `shown`, for `control`. The picture of `ip_adapter` is in the conditioning already, at every level."""

    control: ControlSpec | None = None
    image: Tensor | None = None
    ip_adapter: IPAdapterSpec | None = None

    def each(self, cond: Cond, lead: Sequence[Cond], levels: int, device: str) -> tuple[Cond, ...]:
        """The conditioning of one picture at each of so many levels; `lead` has that of the first ones.

        They hold where no part of a step lies outside their start and end, as ControlNets do in stock pipelines.
        """
        every = [lead[k] if k < len(lead) else cond for k in range(levels)]
        if self.control is not None and self.image is not None:
            strength = torch.tensor([self.control.strength], dtype=torch.float32, device=device)
            more = {"control": self.image.to(device), "control_scale": strength}
            for k in range(levels):
                if holds(self.control, k, levels):
                    every[k] = replace(every[k], tensors={**every[k].tensors, **more})
        if self.ip_adapter is not None:
            off = torch.zeros(1, device=device)
            for k in range(levels):
                if not holds(
                    self.ip_adapter, k, levels
                ):  # the rows of others may be in the same call
                    every[k] = replace(every[k], tensors={**every[k].tensors, "ip_scale": off})
        return tuple(every)


def holds(spec: ControlSpec | IPAdapterSpec, k: int, levels: int) -> bool:
    """Whether step k of so many lies between start and end."""
    return k / levels >= spec.start and (k + 1) / levels <= spec.end
