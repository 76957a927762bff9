"""The core's samplers on the plane: `sampling.samplers` with a cloud of points in place of a picture.

The cloud is one sample `(1, N, 2)`, so that what a sampler measures on a sample (the norms of the corrector, the error
of RK45) it measures on all particles together. What it asks for is answered by a function of the plane, and what it asks about is a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lcm_studio.lab.plane_data import SIGMA_DATA
from lcm_studio.lab.plane_levels import T_MAX, T_MIN, levels
from lcm_studio.lab.plane_mixture import Floats
from lcm_studio.spec.samplers import SAMPLERS, SamplerInfo
from lcm_studio.spec.schema import Setting

Denoise = Callable[[Floats, float], Floats]
"""D(x; t) or, for consistency sampling, f(x, t): `(N, 2)` at one level -> `(N, 2)`."""

# Evaluations between two samples of a sampler's own way; those between are trials.
_TRIALS = {"ode-heun": 2}
_RK45_FIRST, _RK45_STEP = 2, 6  # evaluations that choose the first step; of each step after it


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """Particles `x` `(N, 2)` at level `t` after `evaluations` calls of the network per particle."""

    t: float
    x: Floats
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How the plane speaks of a sampler: its step for x_t = x_0 + t z, words for what is seen, usual evaluations."""

    formula: str
    words: str
    usual: int
    settings: Mapping[str, float]


def _shown(formula: str, words: str, usual: int, **settings: float) -> Shown:
    return Shown(formula=formula, words=words, usual=usual, settings=settings)


SHOWN: dict[str, Shown] = {
    "langevin": _shown(
        "x ← x + ½ α_i s(x, t_i) + √α_i z,   α_i = ε t_i^2 / t_L^2",
        "At each noise level the particles climb the score and are shaken; then the level falls. It needs hundreds of "
        "evaluations, and with few levels it loses the shares of heaps that lie far apart.",
        201,
    ),
    "sde": _shown(
        "x ← x + (t^2 − t′^2) s(x, t) + √(t^2 − t′^2) z",
        "Time runs backwards: a drift along the score, and fresh noise at every step. Neighbours part: the colours mix.",
        50,
    ),
    "ancestral": _shown(
        "x ← D + (t′^2/t^2) (x − D) + t′ √(1 − t′^2/t^2) z",
        "Each step draws from what lies between the clean estimate D and here, as DDPM does.",
        50,
    ),
    "pc": _shown(
        '"a step of the SDE, then"  x ← x + δ s + √(2 δ) z,   δ = 2 (r |z| / |s|)^2',
        "After each step of the SDE a Langevin step at the new level puts right what the first did wrong.",
        50,
    ),
    "ode-euler": _shown(
        "dx/dt = −t s(x, t):   x ← x + (t′ − t) (x − D) / t",
        "The same densities without noise: every particle has one path, and no two cross. Straight steps cut its "
        "curves. Neighbours stay neighbours: the colours stay together.",
        20,
    ),
    "ode-heun": _shown(
        "x ← x + (t′ − t) (d + d′) / 2,   d = (x − D) / t",
        "The mean of the slopes at both ends of a step: second order, two evaluations a step.",
        21,
    ),
    "dpmpp": _shown(
        'x ← (t′/t) x + (1 − t′/t) D,   D "from two estimates"',
        "Second order from the estimate of the step before: one evaluation a step.",
        20,
    ),
    "rk45": _shown(
        'dx/dt = −t s(x, t),   "the error of each step below the tolerance"',
        "It chooses its own steps: short ones where the paths bend.",
        200,
        tolerance=1e-3,
    ),
    "consistency": _shown(
        'x_0 = f(x_t, t);   "again:"  x = x_0 + √(t′^2 − t_{min}^2) z',
        "A network that has learned where every path ends jumps there at once. More steps add noise again and jump "
        "from a lower level.",
        1,
    ),
}  # fmt: skip


def settings_of(info: SamplerInfo) -> tuple[Setting, ...]:
    """The numbers that the plane offers; levels are always spaced as `plane_levels.levels`."""
    return tuple(s for s in info.settings if s.kind in ("number", "whole"))


def default_of(name: str, setting: Setting) -> float:
    """Of a sampler's setting on the plane."""
    return float(SHOWN[name].settings.get(setting.name, setting.default))


def deterministic(name: str, evaluations: int) -> bool:
    """Whether the start decides where a particle ends."""
    info = SAMPLERS[name]
    return info.family == "ode" or (info.family == "consistency" and evaluations == 1)


def frames(
    name: str,
    function: Denoise,
    x: Floats,
    evaluations: int,
    settings: Mapping[str, Any],
    seed: int,
) -> Iterator[Frame]:
    """The frames of a sampler in SHOWN from x_T `(N, 2)`, with at most `evaluations` of each particle."""
    import torch

    from lcm_studio.maths.karras import KarrasSchedule
    from lcm_studio.models.protocol import Cond
    from lcm_studio.sampling.asks import Predict
    from lcm_studio.sampling.samplers import grid_for, steps_of

    schedule = KarrasSchedule(
        sigma_min=T_MIN, sigma_max=T_MAX, sigma_data=SIGMA_DATA, clip_denoised=False
    )
    chosen = {**SHOWN[name].settings, **settings}
    if SAMPLERS[name].score:
        grid = grid_for(name, schedule, evaluations=evaluations, settings=chosen, dimensions=2)
    else:
        grid = tuple(levels(evaluations + 1)[:-1].tolist())
    steps = steps_of(
        name, torch.from_numpy(x)[None], grid, Cond(), schedule=schedule, noise=Noise((1, *x.shape), seed),
        settings=chosen, evaluations=evaluations, together=True,
    )  # fmt: skip
    shown = Chosen(name)
    done, answer = 0, None
    try:
        while True:
            ask = steps.send(answer)
            answer = None
            if not isinstance(ask, Predict):
                continue
            t, now = float(ask.t[0]), ask.x_t[0].numpy()
            yield from shown.before(Frame(t=t, x=now, evaluations=done))
            estimate = np.asarray(function(now, t), dtype=now.dtype)
            done += 1
            yield from shown.after(Frame(t=T_MIN, x=estimate, evaluations=done))
            answer = torch.from_numpy(estimate)[None]
    except StopIteration as end:
        if not shown.estimates:
            yield from shown.last(Frame(t=T_MIN, x=end.value[0].numpy(), evaluations=done))


class Chosen:
    """Which samples are frames: those on a sampler's way, not its trials; of consistency sampling the estimates too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.estimates = name == "consistency"
        self.waiting: Frame | None = None

    def before(self, frame: Frame) -> Iterator[Frame]:
        """A sample that is asked about."""
        if self.name == "rk45":
            yield from self._adaptive(frame)
        elif frame.evaluations % _TRIALS.get(self.name, 1) == 0:
            yield frame

    def after(self, frame: Frame) -> Iterator[Frame]:
        """The clean estimate that it got."""
        if self.estimates:
            yield frame

    def last(self, frame: Frame) -> Iterator[Frame]:
        """The end of the way."""
        if self.waiting is not None:
            yield self.waiting
        yield frame

    def _adaptive(self, frame: Frame) -> Iterator[Frame]:
        """The last evaluation of a step is at its end; where the next one lies before it, the step was refused."""
        if self.waiting is not None:
            if frame.t <= self.waiting.t:
                yield self.waiting
            self.waiting = None
        if frame.evaluations == 0:
            yield frame
        elif (frame.evaluations - _RK45_FIRST) % _RK45_STEP == _RK45_STEP - 1:
            self.waiting = frame


class Noise:
    """Standard normal noise of one shape from a seed, as the core's samplers draw it."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        import torch

        self.shape, self.random = shape, torch.Generator().manual_seed(seed)

    def draw(self) -> Any:
        """A float32 tensor."""
        import torch

        return torch.randn(self.shape, generator=self.random)
