"""What sampling and editing need of a model, whichever family it comes from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from lcm_studio.models.kinds import Kind
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import EmbeddingSpec

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePrompt:
    """A picture beside the words, uint8 `(H, W, 3)`, and the strength at which the model's IP-Adapter holds it."""

    pixels: Pixels
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What one image is conditioned on. `guidance` None = the model's default.

    `label`: class of a class-conditional model. `width`, `height`: pixels (SDXL is told its size).
    `kind`: the row of `models.kinds` that says what the network answers; "" = the model's own.
    `clip_skip`: layers that are left out for `text` (`spec.requests.Sampling`).
    `embeddings`: textual inversions whose words the texts may hold.
    `image`: for the IP-Adapter in use.
    """

    text: str = ""
    negative: str = ""
    guidance: float | None = None
    label: int | None = None
    width: int = 0
    height: int = 0
    kind: str = ""
    embeddings: tuple[EmbeddingSpec, ...] = ()
    clip_skip: int = 0
    image: ImagePrompt | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Cond:
    """Conditioning of B images: named tensors, each `(B, ...)`, so that rows of different users can be joined.

    `group`: only equal groups may share a network call (e.g. with and without classifier-free guidance).
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    batch: int = 1
    group: Hashable = ()

    def rows(self, start: int, stop: int) -> Cond:
        """The conditioning of images `start` to `stop`."""
        part = {name: value[start:stop] for name, value in self.tensors.items()}
        return Cond(tensors=part, batch=stop - start, group=self.group)

    def repeat(self, count: int) -> Cond:
        """The conditioning of a single image, `count` times."""
        part = {name: value.expand(count, *value.shape[1:]) for name, value in self.tensors.items()}
        return Cond(tensors=part, batch=count, group=self.group)

    def lerp(self, other: Cond, weight: float) -> Cond:
        """(1 - weight) self + weight other, for floating tensors of one group; others are those of the nearer."""
        part = {
            name: torch.lerp(value, other.tensors[name], weight)
            if value.is_floating_point()
            else (value if weight < 0.5 else other.tensors[name])
            for name, value in self.tensors.items()
        }
        return Cond(tensors=part, batch=self.batch, group=self.group)

    @staticmethod
    def join(parts: Sequence[Cond]) -> Cond:
        """All rows of `parts`, which must be of one group."""
        if len(parts) == 1:
            return parts[0]
        names = parts[0].tensors
        joined = {name: torch.cat([p.tensors[name] for p in parts]) for name in names}
        return Cond(tensors=joined, batch=sum(p.batch for p in parts), group=parts[0].group)


class Schedule(Protocol):
    """Noise levels of either family; a level is a number that falls with the noise.

    VP: the timestep, between two of them a fraction. VE: sigma itself. See `maths.schedule.NoiseSchedule`, `maths.karras.KarrasSchedule`.
    """

    @property
    def ends_clean(self) -> bool: ...
    def __len__(self) -> int: ...
    def level_tensor(self, t: float, batch: int) -> Tensor: ...
    def alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]: ...
    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor: ...
    def renoise(self, x0: Tensor, z: Tensor, t: float) -> Tensor: ...
    def prior(self, z: Tensor) -> Tensor: ...
    def ve_sigma(self, t: float) -> float: ...
    def nearest_timestep(self, ve_sigma: float) -> float: ...
    def levels_at(self, ve_sigma: Tensor) -> Tensor: ...


class Network(Protocol):
    """What answers the asks of a sampling generator."""

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """x0_hat `(B, C, H, W)`, float32, for `x_t` of that shape at levels `t` `(B,)`."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images `(B, 3, H, W)`, nominally in [-1, 1] but not clipped; the identity for pixel-space models."""

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images `(B, 3, H, W)` in [-1, 1]: the posterior's mean, scaled as the network wants it."""

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        """The conditioning of one image per prompt."""

    def check(self, images: Tensor) -> tuple[bool, ...]:
        """Per image, whether the model's own safety checker objects; all False where it has none."""


class Model(Network, Protocol):
    """A network with what is needed to plan for it."""

    @property
    def info(self) -> ModelInfo: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def latent(self) -> bool: ...
    @property
    def decoder_reach(self) -> int | None: ...
    @property
    def device(self) -> str: ...
    @property
    def preview_decoder(self) -> str: ...

    def close(self) -> None:
        """Ends what runs beside the calls."""

    def sample_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H, W) that a picture of `width` x `height` pixels is sampled in."""

    @property
    def scheduler(self) -> Mapping[str, Any]:
        """The scheduler's config."""

    def grid(
        self,
        steps: int,
        timesteps: Sequence[int] | None = None,
        *,
        kind: Kind | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[float]:
        """Falling levels of the schedule for `steps` steps, or those of an explicit list.

        `kind`: whose spacing; None = the model's own. `size`: (width, height) in pixels, where levels depend on it.
        """

    def levels(self) -> list[float]:
        """All falling levels that the network can be asked at: a consistency model's grid, else every level."""
