"""One kind of model: what its network answers, how it is sampled, and what has an effect on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lcm_studio.spec.models import GuidanceKind

WayName = Literal["renoise", "ddim", "euler", "tcd", "ancestral"]
Spacing = Literal["lcm", "scheduler", "trailing", "karras", "trigflow", "flow"]
Carrier = Literal["model", "lora"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A row of the table.

    `families`: the networks it comes in (`spec.models.ModelKind`). `carriers`: a whole model (folder or file), a LoRA, or both.
    `words`: a regular expression of the names that such files bear; a name only proposes.
    `schedulers`: classes of a folder's scheduler that say so, with the values of its config that must hold.
    `stock`: how stock diffusers runs it. `why`: one sentence for the page.

    `way`, `spacing`, `levels`: see `sampling.ways`; `levels` are explicit timesteps for a number of steps.
    `level_start`: sampling starts from noise as strong as the first level's, not from unit noise.
    `boundary`: the estimate passes LCM's boundary scalings. `predicts`: overrides the scheduler config's prediction type.
    `steps`: the default, `most` the largest number. `few`: made for few steps.
    `guidance`, `guidance_default`, `guidance_range`, `negative`, `eta` (None = without effect): what a user may set.
    `licence`: what must be said of its use.
    """

    name: str
    title: str
    families: tuple[str, ...]
    carriers: tuple[Carrier, ...]
    why: str
    stock: str
    way: WayName
    spacing: Spacing
    words: str = ""
    schedulers: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    levels: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    level_start: bool = False
    boundary: bool = False
    predicts: str | None = None
    steps: int = 4
    most: int = 50
    few: bool = True
    guidance: GuidanceKind = "none"
    guidance_default: float = 1.0
    guidance_range: tuple[float, float] = (1.0, 1.0)
    eta: float | None = None
    licence: str = ""

    @property
    def negative(self) -> bool:
        """Whether a negative prompt has an effect."""
        return self.guidance == "cfg"
