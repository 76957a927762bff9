"""What every edit comes down to: a start, a known part, levels, and a finishing rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lcm_studio.edits.geometry import Box
from lcm_studio.operators import Inverse, LinearOperator, project
from lcm_studio.sampling import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Pixels

    Floats = NDArray[np.float32]

Method = Literal["residual", "once", "plain", "latent", "end", "replace"]
METHODS: tuple[Method, ...] = ("residual", "once", "plain", "latent", "end", "replace")
PIXELS: tuple[Method, ...] = (
    "residual",
    "once",
    "plain",
)  # that project decoded pixels at every level


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """y = A x + noise: `op`, `y` for pictures `(1, 3, H, W)` in [-1, 1].

    `damping`: of each step's projection, one per level or one for all; 0 replaces the known part.
    `inverse`: what brings a residual back into pixels, if not the operator's own A+.
    """

    op: LinearOperator
    y: Tensor
    damping: tuple[float, ...] = (0.0,)
    inverse: Inverse | None = None

    def project(self, x: Tensor, k: int) -> Tensor:
        """`x` `(B, 3, H, W)` with the known part, as step `k` knows it."""
        y = self.y.to(x)
        return project(self.op, x, y, self.damping_at(k), inverse=self.inverse)

    def damping_at(self, k: int) -> float:
        return self.damping[min(k, len(self.damping) - 1)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One edit, ready for the loop.

    `start`: the filled picture `(1, 3, H, W)` in [-1, 1], noised to the first level. `levels`: the model's own, falling.
    `known`: the part that each step's clean estimate is projected onto, or None.
    `keep`: latent cells that stay those of `start`, `(1, 1, h, w)`, or None.
    `method`: how a projection comes back into latents: residual adds E(u') - E(u), plain takes E(u'),
    once takes E(u') and what the autoencoder loses of z0, z0 - E(u) at the first level; latent only replaces cells, end projects only at the end.
    replace (masks only) samples from noise with any sampler and shows the network the known cells, noised (`sampling.replaced`).
    `eta`: share of fresh noise on the way down to the next level, 1 = all of it (`sampling.multistep`).
    `relax`: the clean estimate of each level goes (1 + relax) times as far from `start`: over-relaxation; 0 where there
    is no entry. An unknown part starts as a guess that the network takes for seen, so that estimates stay too near to it.
    `noise_scale`: of all noise that is put in, also at the start (`sampling.multistep`).
    `emphasis`: of the prompt at the first level (`prompts.emphasised`).
    `project_last`: False leaves the last estimate as the network made it, for a `finish` that blends.
    `window`: the latent cells that the last estimate is decoded from, where `finish` needs no others; None = all.
    `finish`: float `(H, W, 3)` in [0, 255] -> the picture of the size that went in; tells its progress.
    `measure`: that picture -> fidelity figures. `tile`: side in pixels of overlapping tiles, or None.
    """

    start: Tensor
    levels: tuple[float, ...]
    finish: Callable[[Floats, Report], Pixels]
    measure: Callable[[Pixels], Mapping[str, Any]]
    known: Known | None = None
    keep: Tensor | None = None
    method: Method = "residual"
    eta: float = 1.0
    relax: tuple[float, ...] = ()
    noise_scale: float = 1.0
    emphasis: float = 0.0
    project_last: bool = True
    window: Box | None = None
    tile: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Finished pictures and what is known about them; `fidelity` holds the worst of several."""

    images: tuple[Pixels, ...]
    seeds: tuple[int, ...]
    flagged: tuple[bool, ...] = ()
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
