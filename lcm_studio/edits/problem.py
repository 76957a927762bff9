"""What every request comes down to: a start, a known part, a schedule, and a finishing rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor

from lcm_studio.edits.geometry import Box
from lcm_studio.edits.schedule import EditSchedule
from lcm_studio.edits.view import View
from lcm_studio.operators import Inverse, LinearOperator, project
from lcm_studio.sampling import Report, Way

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Pixels

    Floats = NDArray[np.float32]

Method = Literal["once", "plain", "latent", "replace"]
PIXELS: tuple[Method, ...] = ("once", "plain")  # that project decoded pixels at every level
Results: TypeAlias = "list[tuple[Pixels, Mapping[str, Any]]]"


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
class Path:
    """Pictures between two ends in place of one picture per seed; all of them share their noise.

    `weights`: one per picture, 0 the first end and 1 the second. `mix(a, b, weight)`: of two samples `(1, C, h, w)`.
    `prompt_b`, `seed_b`: of the second end. The starts of a problem are the two ends; without them the samples between
    are of the initial noises.
    """

    weights: tuple[float, ...]
    mix: Callable[[Tensor, Tensor, float], Tensor]
    prompt_b: str
    seed_b: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One request, ready for the loop.

    `size`: height and width in pixels that are sampled.
    `start`: the filled picture `(1, 3, H, W)` in [-1, 1], noised to the first level; None = nothing is known, and the
    sample is the prior's. With a `path` both its ends `(2, 3, H, W)`.
    `known`: the part that each step's clean estimate is projected onto, or None.
    `keep`: latent cells that stay those of `start`, `(1, 1, h, w)`, or None.
    `method`: how a projection comes back into latents: plain takes E(u'), once takes E(u') and what the autoencoder loses
    of z0, z0 - E(u) at the first level; latent only replaces cells. replace (masks only) samples from noise with any sampler and shows the network the known
    cells, noised (`sampling.replaced`).
    `way`: on to the next level; None = by the schedule's eta.
    `project_last`: False leaves the last estimate as the network made it, for a `finish` that blends.
    `window`: the latent cells that the last estimate is decoded from, where `finish` needs no others; None = all.
    `finish`: pictures `(B, 3, H, W)` nominally in [-1, 1] -> (the picture of the size that went in, fidelity figures)
    of each; tells its progress. `together`: it wants the pictures of all batches at once.
    `unfinished`: of clean estimates on the way the pictures of that size, quickly; None = estimates are shown as they are.
    `tile`: side in pixels of overlapping tiles, or None.
    `view`: which part of the result is sampled, for control pictures; None where there is no single one.
    """

    schedule: EditSchedule
    size: tuple[int, int]
    finish: Callable[[Tensor, Report], Results]
    start: Tensor | None = None
    known: Known | None = None
    keep: Tensor | None = None
    path: Path | None = None
    method: Method = "plain"
    way: Way | None = None
    project_last: bool = True
    together: bool = False
    unfinished: Callable[[Tensor], tuple[Pixels, ...]] | None = None
    window: Box | None = None
    tile: tuple[int, int] | None = None
    view: View | None = None
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


def one_by_one(
    finish: Callable[[Floats, Report], Pixels], measure: Callable[[Pixels], Mapping[str, Any]]
) -> Callable[[Tensor, Report], Results]:
    """`Problem.finish` from that of a single picture, float `(H, W, 3)` in [0, 255], and its figures."""
    from lcm_studio.edits.pixels import picture

    def finish_all(decoded: Tensor, report: Report) -> Results:
        results = []
        for i, x in enumerate(decoded):

            def share(of_one: float, i: int = i) -> None:
                report((i + of_one) / len(decoded))

            made = finish(picture(x), share)
            results.append((made, measure(made)))
            share(1.0)
        return results

    return finish_all


def worst(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of several pictures the largest of every number; words as in the first that has them."""
    out: dict[str, Any] = {}
    for name in dict.fromkeys(name for figure in figures for name in figure):
        values = [figure[name] for figure in figures if name in figure]
        number = isinstance(values[0], float) and not isinstance(values[0], bool)
        out[name] = max(values) if number else values[0]
    return out
