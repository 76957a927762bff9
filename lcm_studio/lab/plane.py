"""The plane's bench: a distribution, networks that learn it, samplers side by side. The page and the shell use this.

`sample` and `learn` are iterators: whoever stops asking stops the work within one step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.lab import plane_exact as exact
from lcm_studio.lab.plane_levels import T_MAX, T_MIN, levels, place, start
from lcm_studio.lab.plane_mixture import Floats, Mixture
from lcm_studio.lab.plane_samplers import (
    SHOWN,
    Denoise,
    Frame,
    deterministic,
    frames,
    settings_of,
)
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS

if TYPE_CHECKING:
    from lcm_studio.lab.plane_train import Learned, Stage

MOST_PARTICLES, MOST_EVALUATIONS, MOST_SYSTEMS, MOST_STEPS = 4000, 1000, 4, 20_000
STAGES = {"score": 2000, "cd": 1500, "ct": 2000}  # stage -> steps that serve well
SEED_LIMIT = 2**32 - 1
LINES = 240  # points whose way from noise to data is drawn and measured
LINE_LEVELS = 25


@dataclass(frozen=True, kw_only=True)
class System:
    """One panel: a sampler, its evaluations, and whose answers it asks for: "exact", "score", "cd" or "ct"."""

    sampler: str
    evaluations: int
    network: str = "exact"
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """A frame of panel `system`; `clock`: where it stands between 0 (pure noise) and 1 on the clock of noise levels."""

    system: int
    frame: Frame
    clock: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrived:
    """A panel's end. `distance`: sliced Wasserstein-2 to the data, `floor` that of exact samples to the data.

    `error`: root mean square distance to where the exact ODE takes the same start; None for samplers that add noise.
    """

    system: int
    evaluations: int
    seconds: float
    distance: float
    floor: float
    error: float | None


def check(system: System, learned: Mapping[str, Learned]) -> None:
    """Raises BadRequest, with one sentence, for what `sample` cannot do."""
    if system.sampler not in SHOWN:
        names = ", ".join(SHOWN)
        raise BadRequest(
            f"sampler={system.sampler!r} is no sampler of the plane; use one of {names}"
        )
    info = SAMPLERS[system.sampler]
    whole("evaluations", system.evaluations, info.least, MOST_EVALUATIONS, f" for {info.name}")
    offered = {setting.name: setting for setting in settings_of(info)}
    for name, value in system.settings.items():
        if name not in offered:
            raise BadRequest(
                f"{info.name} has no setting {name!r}; it has {', '.join(offered) or 'none'}"
            )
        offered[name].read(value)
    fitting = ("exact", "score") if info.score else ("exact", "cd", "ct")
    if system.network not in fitting:
        raise BadRequest(
            f"{info.name} cannot use the network {system.network!r}; use one of {', '.join(fitting)}"
        )
    if system.network != "exact" and system.network not in learned:
        raise BadRequest(f"nothing has learned {system.network!r} here yet; train it first")


def sample(
    mixture: Mixture,
    systems: tuple[System, ...],
    *,
    particles: int,
    seed: int,
    learned: Mapping[str, Learned] | None = None,
    compare: bool = True,
) -> Iterator[Moved | Arrived]:
    """Every system from the same start, one after the other. Raises BadRequest before anything is computed."""
    learned = learned or {}
    whole("particles", particles, 1, MOST_PARTICLES)
    whole("seed", seed, 0, SEED_LIMIT)
    if not 1 <= len(systems) <= MOST_SYSTEMS:
        raise BadRequest(f"{len(systems)} samplers at once; choose 1 to {MOST_SYSTEMS}")
    for system in systems:
        check(system, learned)
    return _sample(mixture, systems, particles, seed, learned, compare)


def _sample(
    mixture: Mixture,
    systems: tuple[System, ...],
    particles: int,
    seed: int,
    learned: Mapping[str, Learned],
    compare: bool,
) -> Iterator[Moved | Arrived]:
    x = start(particles, seed)
    truth = Truth(mixture, x, seed)
    for index, system in enumerate(systems):
        began, clock, last = time.perf_counter(), 0.0, None
        function = answers(mixture, system, learned)
        steps = frames(system.sampler, function, x, system.evaluations, system.settings, seed + 1)
        for frame in steps:
            if (
                last is None
            ):  # all panels show the very same start, whatever scale a sampler works in
                frame = replace(frame, x=x)
            clock = on_clock(system.sampler, frame, last, clock)
            last = frame
            yield Moved(system=index, frame=frame, clock=clock)
        seconds = time.perf_counter() - began
        if last is None:
            continue
        error = None
        if compare and deterministic(system.sampler, system.evaluations):
            error = exact.rms(last.x - truth.end(clean=SAMPLERS[system.sampler].score))
        yield Arrived(
            system=index, evaluations=last.evaluations, seconds=seconds, error=error,
            distance=exact.sliced_distance(last.x, truth.data), floor=truth.floor,
        )  # fmt: skip


class Truth:
    """What the particles are compared with: exact samples, and the exact end of each particle's path (on demand)."""

    def __init__(self, mixture: Mixture, x: Floats, seed: int) -> None:
        rng = np.random.default_rng(seed + 2)
        self.mixture, self.x = mixture, x
        self.data = mixture.sample(len(x), rng, T_MIN)
        self.floor = exact.sliced_distance(mixture.sample(len(x), rng, T_MIN), self.data)
        self._end: Floats | None = None

    def end(self, *, clean: bool) -> Floats:
        """f(x_T, T) of every particle; `clean`: the clean estimate there, with which the core's samplers end."""
        if self._end is None:
            self._end = exact.exact_consistency(self.mixture, self.x, T_MAX)
        return self.mixture.denoise(self._end, T_MIN) if clean else self._end


def answers(mixture: Mixture, system: System, learned: Mapping[str, Learned]) -> Denoise:
    """D(x; t), or f(x, t) for consistency sampling, of the network that the system names."""
    if system.network != "exact":
        return learned[system.network]
    if not SAMPLERS[system.sampler].score:
        return lambda x, t: exact.exact_consistency(mixture, x, t)
    return mixture.denoise


def on_clock(sampler: str, frame: Frame, last: Frame | None, clock: float) -> float:
    """A frame's place on the clock of noise levels; never before the one of the frame before it.

    A consistency function jumps: its estimate stands shortly behind the level it was made at. Langevin's steps at one
    level share the time until the next level.
    """
    if last is None:
        return place(frame.t)
    if not SAMPLERS[sampler].score and frame.t < last.t:
        return min(1.0, clock + JUMP)
    return max(clock, place(frame.t))


JUMP = 0.06


@dataclass(frozen=True, kw_only=True, eq=False)
class Learning:
    """How far a stage is. `curve`: rows (t, error ...), see `score_curve` and `consistency_curve`.

    `error`: one number for the whole: the mean of the curve for a score; for a consistency function the root mean
    square distance of f(x_T, T) from where the exact path ends.
    """

    stage: str
    step: int
    steps: int
    loss: float
    levels: int
    curve: list[tuple[float, ...]]
    error: float
    learned: Learned


class Lines:
    """Exact paths of the ODE from LINES points of noise, at LINE_LEVELS levels: what learned functions are held against."""

    def __init__(self, mixture: Mixture, seed: int = 0) -> None:
        self.mixture = mixture
        self.levels = levels(LINE_LEVELS)
        fine = levels(2 * (LINE_LEVELS - 1) + 1)
        self.paths = np.stack(exact.path(mixture.denoise, start(LINES, seed), fine)[::2])
        self.samples = [
            mixture.sample(LINES, np.random.default_rng(seed + 3), t).astype(np.float32)
            for t in self.levels
        ]

    def score_curve(self, denoise: Denoise) -> list[tuple[float, ...]]:
        """(t, |s - s*| / |s*|) at every level, over exact samples of p_t."""
        pairs = zip(self.levels.tolist(), self.samples, strict=True)
        return [(t, exact.score_error(denoise, self.mixture, t, x)) for t, x in pairs]

    def consistency_curve(self, function: Denoise) -> list[tuple[float, ...]]:
        """(t, |f(x_t, t) - f(x_T, T)|, |f(x_t, t) - x_0|) along the exact paths, root mean squares."""
        ends = [function(x, t) for x, t in zip(self.paths, self.levels.tolist(), strict=True)]
        return [
            (t, exact.rms(end - ends[0]), exact.rms(end - self.paths[-1]))
            for t, end in zip(self.levels.tolist(), ends, strict=True)
        ]


def learn(
    mixture: Mixture,
    stage: Stage,
    *,
    steps: int | None = None,
    seed: int = 0,
    score: Learned | None = None,
    lines: Lines | None = None,
    report: int = 50,
) -> Iterator[Learning]:
    """Trains one stage; `score`, the score network, is the teacher of "cd" and the first weights of "cd" and "ct".

    Without one, "cd" has the exact score for its teacher. Raises BadRequest before anything is computed.
    """
    if stage not in STAGES:
        raise BadRequest(f"train={stage!r} is no stage; use one of {', '.join(STAGES)}")
    steps = STAGES[stage] if steps is None else steps
    whole("training steps", steps, 1, MOST_STEPS)
    whole("seed", seed, 0, SEED_LIMIT)
    return _learn(mixture, stage, steps, seed, score, lines or Lines(mixture), report)


def _learn(
    mixture: Mixture, stage: Stage, steps: int, seed: int, score: Learned | None, lines: Lines, report: int
) -> Iterator[Learning]:  # fmt: skip
    from lcm_studio.lab.plane_train import Training, one_core

    training = Training(
        stage, mixture, steps=steps, seed=seed, teacher=score,
        first=score.net if score is not None and stage != "score" else None,
    )  # fmt: skip
    with one_core():
        for progress in training.run(report):
            learned = training.learned
            if stage == "score":
                curve = lines.score_curve(learned)
                error = float(np.mean([row[1] for row in curve]))
            else:
                curve = lines.consistency_curve(learned)
                error = curve[0][2]
            yield Learning(
                stage=stage, step=progress.step, steps=steps, loss=progress.loss, levels=progress.levels,
                curve=curve, error=error, learned=learned,
            )  # fmt: skip


def whole(name: str, value: Any, low: int, high: int, where: str = "") -> int:
    """An int within bounds. Raises BadRequest."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(
            f"{name}={value!r} is not usable{where}; use a whole number from {low} to {high}"
        )
    return value
