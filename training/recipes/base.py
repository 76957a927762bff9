"""What a recipe gives the trainer. The trainer owns the loop, the optimizer and the checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lcm_studio import dense
from training import layers
from training.ahead import Beside
from training.config import TrainConfig
from training.features import layout


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One micro-step: which examples, and the generator of all its noise (on the CPU)."""

    step: int
    examples: tuple[tuple[int, int], ...]  # (index, epoch)
    generator: torch.Generator


class Recipe(ABC):
    """Networks, a loss, pictures and an export. One object lives for one run."""

    name: ClassVar[str]
    Config: ClassVar[type[TrainConfig]]

    def __init__(self, config: Any, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.beside: Beside | None = None  # set by the trainer where `overlaps`
        # scalars of the last `loss` that events tell beside it
        self.figures: dict[str, Tensor] = {}

    def laid_out(self, value: Any) -> Any:
        """A network or tensor on the device, in the memory format that is fastest there."""
        return value.to(self.device, memory_format=layout(self.config, self.device))

    def placed(self, network: Any) -> Any:
        """A network where it will compute; one that is going to be split waits in main memory."""
        if self.config.sharding == "full":
            return network
        c = self.config
        plain = c.mixed_precision == "no" and not c.compile
        if plain and self.device.type == "cpu" and dense.available():
            layers.swap(network)
        return self.laid_out(network)

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """Opens data and networks; returns the trained ones by name."""

    @abstractmethod
    def data_length(self) -> int:
        """Number of examples in one epoch."""

    @abstractmethod
    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Tensors of one micro-step on the device; all randomness comes from `draw`."""

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Scalar loss of `batch`; no randomness, no host sync."""

    @property
    def overlaps(self) -> bool:
        """Whether `batch` and `prepared` may run on a thread of their own during the step before: they
        must read no weights that a step changes, and no network that the step runs."""
        return False

    def prepared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`batch` with all that its loss needs and no trained weight has a say in; under autocast."""
        return batch

    def extra_state(self) -> dict[str, nn.Module]:
        """Networks that are not trained but change (an EMA target): saved in checkpoints."""
        return {}

    def frozen(self) -> list[nn.Module]:
        """Networks that never change and are as large as the trained ones (a teacher): split with them."""
        return []

    def after_step(self, step: int) -> None:
        """Called after every optimizer step (EMA of a target network)."""
        del step

    def rate(self, name: str) -> float:
        """Multiplier of the learning rate for the network `name`."""
        del name
        return 1.0

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        """Pictures into `folder` and figures; runs with the EMA weights in place."""
        del folder, step
        return {}

    def draw_teacher(self, path: Path) -> None:
        """The teacher's pictures for the prompts and seeds of `validate`, by its own sampler; or none."""
        del path

    @abstractmethod
    def export(self, folder: Path) -> None:
        """The finished model as a complete folder; runs with the EMA weights in place."""
