"""One request, new picture or edit, as a generator of asks, for whichever driver answers them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from lcm_studio.edits.loop import encoded_start, sampled, solve
from lcm_studio.edits.path import SameNoise
from lcm_studio.edits.problem import Outcome, Problem, worst
from lcm_studio.edits.prompts import emphasised
from lcm_studio.edits.tasks import task_of
from lcm_studio.engine.control import Steer, shown
from lcm_studio.engine.generate import blacken, problem_of, silent
from lcm_studio.images.control import rgb
from lcm_studio.models.protocol import Cond, Model
from lcm_studio.sampling import (
    Ask,
    Check,
    Compute,
    Decode,
    Embed,
    Estimate,
    Finished,
    Plan,
    SeededNoise,
    by_seed,
    plan,
    steps_of,
)
from lcm_studio.spec.requests import Edit, Generate
from lcm_studio.spec.schema import read

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

Asks = Generator[Ask, Any, Any]


def session(
    request: Generate | Edit, model: Model, seeds: Sequence[int], rows: int
) -> Generator[Ask, Any, Outcome]:
    """All pictures of a request, one per seed (or per frame of a path), at most `rows` at a time.

    Raises BadRequest, at an early step, for input that does not fit the task.
    """
    problem: Problem
    if isinstance(request, Generate):
        # its levels, and its rounding below, take less time than the wait for another's call
        problem = problem_of(request, model)
    else:
        problem = yield Compute(lambda report: build(request, model), "Preparing")
    height, width = problem.size
    planned = plan(request, model, width, height)
    steer: Steer | None = None
    if request.control is not None or request.ip_adapter is not None:
        steer = yield from steering(request, problem)
    pictures: Pictures = Seeds(problem, model, planned, tuple(seeds), steer)
    if problem.path is not None:
        pictures = Frames(problem, model, planned, seeds[0], steer)
    yield from pictures.prepare(request.prompt)
    parts = [range(i, min(i + rows, pictures.count)) for i in range(0, pictures.count, rows)]
    images: list[Pixels] = []
    flagged: list[bool] = []
    figures: list[Mapping[str, Any]] = []
    waiting: list[Tensor] = []
    for number, part in enumerate(parts):
        decoded = yield from counted(pictures.sample(part), problem, number, len(parts))
        flags = yield Check(decoded)
        flagged += flags
        waiting.append(decoded)
        if problem.together and number + 1 < len(parts):
            continue
        whole = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
        waiting = []
        if isinstance(request, Generate):
            results = problem.finish(whole, silent)
        else:
            exact = problem.known is not None or problem.keep is not None
            words = "Making it exact" if exact else "Finishing"
            results = yield Compute(partial(problem.finish, whole), words)
        now = tuple(flagged[len(images) :])
        made = blacken(tuple(pixels for pixels, _ in results), now)
        figures += [figure for (_, figure), bad in zip(results, now, strict=True) if not bad]
        images += made
        yield Finished(made, now)
    return Outcome(
        images=tuple(images),
        seeds=pictures.seeds,
        flagged=tuple(flagged),
        fidelity=worst(figures),
        warnings=(*problem.warnings, *pictures.warnings),
        settings={} if isinstance(request, Generate) else _settings(problem, model),
    )


def steering(request: Generate | Edit, problem: Problem) -> Generator[Ask, Any, Steer]:
    """The ControlNet and the IP-Adapter of a request."""
    spec, image = request.control, None
    if spec is not None:
        height, width = problem.size
        own = rgb(request.image) if isinstance(request, Edit) else None
        image = yield Compute(
            lambda report: shown(spec, width, height, problem.view, own), "Preparing"
        )
    return Steer(control=spec, image=image, ip_adapter=request.ip_adapter)


def build(request: Edit, model: Model) -> Problem:
    """The problem of an edit. Raises BadRequest for settings or a picture that do not fit the task."""
    task = task_of(request.task)
    return task.build(request, read(task.settings, request.options, task.name), model)


def counted(steps: Asks, problem: Problem, part: int, parts: int) -> Asks:
    """`steps` whose estimates say which part of how many they are of, and how they lie in the whole picture."""
    value = None
    while True:
        try:
            ask = steps.send(value)
        except StopIteration as end:
            return end.value
        if isinstance(ask, Estimate):
            ask = replace(ask, part=part, parts=parts, whole=problem.unfinished)
        value = yield ask


class Pictures(Protocol):
    """What a request's pictures are made from."""

    count: int
    seeds: tuple[int, ...]
    warnings: tuple[str, ...]

    def prepare(self, prompt: str) -> Asks:
        """Asks for what all pictures share."""

    def sample(self, part: range) -> Asks:
        """Asks for these pictures; returns them `(B, 3, H, W)`, nominally in [-1, 1]."""


class Seeds:
    """One picture per seed: picture i is that of its seed alone."""

    def __init__(
        self,
        problem: Problem,
        model: Model,
        planned: Plan,
        seeds: tuple[int, ...],
        steer: Steer | None = None,
    ) -> None:
        self.problem, self.model, self.planned, self.seeds = problem, model, planned, seeds
        self.steer = steer
        self.count = len(seeds)
        self.warnings: tuple[str, ...] = ()

    def prepare(self, prompt: str) -> Asks:
        self.cond, self.lead = yield from conditioned(self.problem, self.planned, prompt)
        if self.steer is not None:
            levels = self.problem.schedule.levels
            if self.problem.start is None or self.problem.method == "replace":
                levels = self.planned.levels
            self.lead = self.steer.each(self.cond, self.lead, len(levels), self.model.device)
        self.start = None
        if self.problem.start is not None:
            self.start = yield from encoded_start(self.problem, self.model)

    def sample(self, part: range) -> Asks:
        noise = SeededNoise(
            [self.seeds[i] for i in part], self.planned.shape, device=self.model.device
        )
        seeds = [self.seeds[i] for i in part]
        cond = yield from by_seed(self.cond, self.planned, self.model, seeds)
        lead = tuple(one.repeat(len(seeds)) for one in self.lead)
        if self.problem.start is not None:
            return (
                yield from solve(
                    self.problem,
                    self.model,
                    cond,
                    noise,
                    lead,
                    start=self.start,
                    planned=self.planned,
                )
            )
        planned, warnings = self.planned, list(self.warnings)
        latents = yield from steps_of(
            planned.sampler,
            planned.way.start(noise.draw(), self.model.schedule, planned.levels[0]),
            planned.levels,
            cond,
            schedule=self.model.schedule,
            noise=noise,
            settings=planned.settings,
            evaluations=planned.evaluations,
            warnings=warnings,
            way=planned.way,
            lead=lead,
            guided_below=planned.guided_below,
        )
        self.warnings = tuple(dict.fromkeys(warnings))
        return (yield Decode(latents))


class Frames:
    """One picture per weight of a path; all of them share one seed's noise."""

    def __init__(
        self,
        problem: Problem,
        model: Model,
        planned: Plan,
        seed: int,
        steer: Steer | None = None,
    ) -> None:
        assert problem.path is not None
        self.steer = steer
        self.problem, self.model, self.planned, self.path = problem, model, planned, problem.path
        self.count = len(self.path.weights)
        self.warnings: tuple[str, ...] = ()
        self.seeds = (seed,) * self.count

    def prepare(self, prompt: str) -> Asks:
        problem, model, schedule = self.problem, self.model, self.problem.schedule
        self.a = yield from conditioned(problem, self.planned, prompt)
        self.b = yield from conditioned(problem, self.planned, self.path.prompt_b)
        if self.steer is not None:
            levels = len(schedule.levels)
            self.a, self.b = (
                (cond, self.steer.each(cond, lead, levels, model.device))
                for cond, lead in (self.a, self.b)
            )
        noise = SeededNoise(self.seeds[:1], self.planned.shape, device=model.device)
        z = noise.draw()
        if problem.start is not None:
            ends = yield from encoded_start(problem, model)
            scaled = schedule.noise_scale * z
            x_t = model.schedule.renoise(ends.to(z), scaled, schedule.levels[0])
            self.x_a, self.x_b = x_t.chunk(2)
        else:
            other = SeededNoise((self.path.seed_b,), self.planned.shape, device=model.device)
            self.x_a, self.x_b = (
                self.planned.way.start(end, model.schedule, schedule.levels[0])
                for end in (z, other.draw())
            )
        self.draws = [noise.draw() for _ in schedule.levels[1:]]

    def sample(self, part: range) -> Asks:
        weights = [self.path.weights[i] for i in part]
        x_t = torch.cat([self.path.mix(self.x_a, self.x_b, w) for w in weights])
        (a, lead_a), (b, lead_b) = self.a, self.b
        cond, *lead = (
            Cond.join([one.lerp(other, w) for w in weights])
            for one, other in zip((a, *lead_a), (b, *lead_b), strict=True)
        )
        noise = SameNoise(self.draws, len(part))
        latents = yield from sampled(self.problem, self.model, x_t, cond, noise, lead)
        return (yield Decode(latents))


def conditioned(
    problem: Problem, planned: Plan, text: str
) -> Generator[Ask, Any, tuple[Cond, tuple[Cond, ...]]]:
    """The conditioning of one picture by `text`, and those of the first levels, where they are others."""
    cond: Cond = yield Embed((replace(planned.prompt, text=text),))
    lead: list[Cond] = []
    if planned.lead:
        embedded: dict[float | None, Cond] = {}  # they differ in their guidance alone
        for prompt in planned.lead:
            if prompt.guidance not in embedded:
                embedded[prompt.guidance] = yield Embed((replace(prompt, text=text),))
        lead = [embedded[prompt.guidance] for prompt in planned.lead]
    if problem.schedule.emphasis:
        first = replace((*planned.lead, planned.prompt)[0], text=text)
        own = lead[0] if lead else cond
        strong = yield from emphasised(first, own, problem.schedule.emphasis)
        if strong is not own:
            lead[:1] = [strong]
    return cond, tuple(lead)


def _settings(problem: Problem, model: Model) -> dict[str, Any]:
    """What a finished edit tells of how it was made."""
    schedule = problem.schedule
    return {
        "levels": [round(model.schedule.ve_sigma(t), 4) for t in schedule.levels],
        "method": problem.method,
        "eta": schedule.eta,
        "noise_scale": schedule.noise_scale,
        "relax": list(schedule.relax),
        "emphasis": schedule.emphasis,
        "schedule": schedule.source,
        **problem.settings,
    }
