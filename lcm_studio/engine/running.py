"""What runs on a lane: a session, the state of the weights that it needs, its previews."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import torch

from lcm_studio.engine.batch import Work
from lcm_studio.sampling import Ask, Estimate
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import LoraSpec, Priority


@dataclass(frozen=True)
class Setup:
    """The state of the weights that a session needs; only equal setups share a call."""

    loras: tuple[LoraSpec, ...] = ()
    decoder: str = "default"
    control: str = ""
    ip_adapter: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Preview:
    """Clean estimates to show, `(B, 3, H, W)` in [-1, 1], black where `flagged` says that the safety checker objects."""

    images: torch.Tensor
    flagged: tuple[bool, ...]


@dataclass(eq=False)
class Session:
    """A running generator and what it waits for. Written by the lane's thread only, once submitted."""

    generator: Generator[Ask, Any, Any]
    post: Callable[[str, Any], None]
    cancelled: Callable[[], bool]
    rows: int = 1
    setup: Setup = field(default_factory=Setup)
    priority: Priority = "normal"
    owner: Owner = field(default_factory=Owner)
    previews: bool = False
    work: Work | None = None
    estimate: Estimate | None = None
    preview: Preview | None = None
    previewing: bool = False
    served: int = 0
    waited: float = 0.0
    asked: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    evaluations: int = 0

    def add(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds
