"""What a task is, and the settings that all of them have. No torch: the shell's help and the page are drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.schema import choice, number, numbers, settings_of, switch, whole

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Edit

METHODS = ("once", "plain", "latent", "replace")  # ways back into latents; see edits.problem
MOST_GROW = 256
BLENDS = ("poisson", "colour", "none")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What is found on a large picture before it is cut into tiles.

    `reach`: pixels of the result over which a tile's border shows. `options`: settings that all tiles share. `figures`: to be said.
    """

    reach: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EditTask:
    """One tool. `known`: what stays; `needs`: inputs beside the picture, `takes`: those that it can do without.

    `settings`: the class of its settings. `build`: its problem. `by_strength`: the user's strength sets its levels, so that a
    model has no numbers for it.
    `strokes`: it starts from what was drawn over the picture, whose place may be its mask.
    `takes_control`: a ControlNet can steer it.
    `in_one_piece`: its result is made at once, so that a picture has at most `geometry.WHOLE_PIXELS`.
    `by_tiles`: of a task that makes every pixel anew: what its tiles share; None where large pictures need none.
    `hint`: what to do with it, in one line for the page.
    `bound`: the largest error of the known part that the finished file may show, of 255; None = reported only.
    """

    name: str
    title: str
    help: str
    known: str
    settings: type[EditSettings]
    build: Callable[[Edit, Any, Model], Problem]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    by_strength: bool = False
    bound: float | None = None
    strokes: bool = False
    takes_control: bool = True
    hint: str = ""
    in_one_piece: bool = False
    by_tiles: Callable[[Edit, Any], Whole] | None = None

    @property
    def paints_mask(self) -> bool:
        """Whether a mask is painted or uploaded for it."""
        return "mask" in (*self.needs, *self.takes) and not self.strokes

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its own settings, without those of every edit."""
        common = {setting.name for setting in settings_of(EditSettings)}
        return tuple(s.name for s in settings_of(self.settings) if s.name not in common)


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """What every edit takes. None is the model's own number for the task, else the textbook's."""

    levels: tuple[float, ...] | None = numbers(
        None,
        title="Levels",
        help="falling noise levels (sigma per unit of signal)",
        low=1e-6,
        high=1e6,
        example="5, 1.2, 0.3",
        advanced=True,
    )
    method: str | None = choice(
        None,
        title="Method",
        help="how projected pixels come back into latents; replace: masks alone, with any sampler",
        choices=METHODS,
        advanced=True,
    )
    eta: float | None = number(
        None,
        title="Fresh noise",
        help="share of fresh noise at each level; 0 keeps the noise of the first",
        low=0,
        high=1,
        advanced=True,
    )
    noise_scale: float | None = number(
        None,
        title="Noise scale",
        help="noise put in, of what the network is told of; less keeps more",
        low=0.1,
        high=1,
        advanced=True,
    )
    emphasis: float | None = number(
        None,
        title="Emphasis",
        help="extra weight of the prompt at the first level",
        low=0,
        high=3,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class Relaxed(EditSettings):
    """Of tasks whose estimates may be over-relaxed."""

    relax: tuple[float, ...] | None = numbers(
        None,
        title="Over-relaxation",
        help="how much farther the estimate of each level goes",
        low=0,
        high=1,
        example="0, 0, 0.3",
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class Masked(EditSettings):
    """Of tasks that change what lies inside a mask."""

    grow: int = whole(
        0,
        title="Grow",
        help="pixels to widen the mask by; negative narrows it",
        low=-MOST_GROW,
        high=MOST_GROW,
        unit="px",
        slider=(-64, 64),
    )
    feather: int = whole(
        0,
        title="Soft edge",
        help="pixels of soft edge inside the mask",
        low=0,
        high=128,
        unit="px",
        slider=(0, 64),
    )
    invert: bool = switch(
        False, title="Invert the mask", help="swap what may change and what stays"
    )
    context: float = number(
        0.5,
        title="Context",
        help="surroundings to look at, of the hole's size",
        low=0,
        high=4,
        advanced=True,
    )
    blend: str = choice(
        "poisson",
        title="Blend",
        help="how the hole is fitted to what lies around it",
        choices=BLENDS,
        advanced=True,
    )
