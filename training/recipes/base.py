"""What a recipe gives the trainer. The trainer owns the loop, the optimizer and the checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.precision import layout


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
        # the precision of the run around networks that the loop does not call; set by the loop
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        # scalars of the last `loss` that events tell beside it
        self.figures: dict[str, Tensor] = {}

    def laid_out(self, value: Any) -> Any:
        """A network or tensor on the device, in the memory format that is fastest there."""
        return value.to(self.device, memory_format=layout(self.config, self.device))

    def placed(self, network: Any) -> Any:
        """A network where it will compute; one that is going to be split waits in main memory."""
        return network if self.config.sharding == "full" else self.laid_out(network)

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """Opens data and networks; returns the trained ones by name."""

    @abstractmethod
    def data_length(self) -> int:
        """Number of examples in one epoch."""

    @abstractmethod
    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Tensors of one micro-step on the device; all randomness comes from `draw`.

        It may be made ahead, on a thread of its own: it reads nothing that a step changes. What frozen
        networks say of the batch belongs here.
        """

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Scalar loss of `batch`; no randomness, no host sync."""

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
