"""An exact consistency model: data are Gaussian, so f is known in closed form. Tests sampling without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.kinds import Kind
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import LoraSpec


class GaussianToy:
    """f of x_0 ~ N(mu, s^2 I): the probability-flow ODE keeps (x - alpha mu) / sqrt(alpha^2 s^2 + sigma^2).

    f(x_t, t) = mu + s (x_t - alpha_t mu) / sqrt(alpha_t^2 s^2 + sigma_t^2), in the precision of x_t.
    A prompt shifts mu (`shift`), so that rows of a batch can be told apart.
    """

    latent = False
    decoder_reach = 0
    device = "cpu"
    placement = Placement()

    def __init__(
        self,
        schedule: NoiseSchedule | KarrasSchedule,
        *,
        mu: float = 0.3,
        s: float = 0.5,
        size: int = 8,
        info: ModelInfo | None = None,
    ) -> None:
        self.schedule = schedule
        self.mu = mu
        self.s = s
        self.info = info or ModelInfo(
            id="toy", path="", kind="cm", width=size, height=size, multiple=1, guidance="none"
        )

    preview_decoder = "default"

    def use(self, *, loras: tuple[LoraSpec, ...] = (), decoder: str = "default") -> None:
        """Nothing to switch."""

    def close(self) -> None:
        """Nothing to end."""

    def sample_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(3, H, W): the toy lives in pixels."""
        return 3, height, width

    scheduler: Mapping[str, Any] = MappingProxyType({})

    def levels(self) -> list[float]:
        """The whole grid."""
        return self.grid(self.info.max_steps)

    def grid(
        self,
        steps: int,
        timesteps: Sequence[int] | None = None,
        *,
        kind: Kind | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[float]:
        """The LCM grid for VP, evenly spaced indices for VE."""
        if isinstance(self.schedule, KarrasSchedule):
            index = timesteps or [i * len(self.schedule) // steps for i in reversed(range(steps))]
            return [self.schedule.sigma_at(i) for i in reversed(list(index))]
        return [float(t) for t in timesteps or lcm_timesteps(steps)]

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        """The shift of mu per prompt."""
        shift = [self.shift(prompt.text) for prompt in prompts]
        return Cond(tensors={"shift": torch.tensor(shift)}, batch=len(prompts))

    def shift(self, text: str) -> Sequence[float]:
        """Of all channels, or of each: the number that the prompt is. Raises ValueError for words."""
        return (float(text or 0),)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """The exact f, `(B, C, H, W)`."""
        alpha, sigma = self.schedule.alpha_sigma(t, x_t)
        mu = self.mu + cond.tensors["shift"].to(x_t)[..., None, None]
        scale = self.s / (alpha**2 * self.s**2 + sigma**2).sqrt()
        return mu + (x_t - alpha * mu) * scale

    def decode(self, latents: Tensor) -> Tensor:
        """The identity."""
        return latents

    def encode(self, images: Tensor) -> Tensor:
        """The identity."""
        return images

    def check(self, images: Tensor) -> tuple[bool, ...]:
        """Nothing to object to."""
        return (False,) * len(images)

    def notes(self, loras: tuple[LoraSpec, ...]) -> tuple[str, ...]:
        """Nothing is left out."""
        return ()

    def truncated(self, text: str) -> str:
        """Nothing is cut."""
        return ""
