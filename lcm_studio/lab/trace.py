"""f(x_t, t) of a consistency model at the levels of one path of its teacher's ODE: what distillation did, at a glance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from lcm_studio.lab.compare import distance
from lcm_studio.lab.film import generate_of, never, pictures_of, vp_scale
from lcm_studio.lab.lanes import Show, events, on_lane
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.lab import System, Trace, Traced, TracePoint
from lcm_studio.spec.samplers import misfit

if TYPE_CHECKING:
    from torch import Tensor

    from lcm_studio.engine import Engine
    from lcm_studio.models.load import LoadedModel
    from lcm_studio.models.protocol import Prompt
    from lcm_studio.sampling import Ask, Point
    from lcm_studio.spec.owners import Owner
    from lcm_studio.spec.requests import Pixels

SOLVER = "ode-heun"


def trace(
    engine: Engine,
    request: Trace,
    cancelled: Callable[[], bool] = never,
    *,
    owner: Owner | None = None,
) -> Iterator[Any]:
    """TracePoints from noise to picture; the last event is Traced, Failed or Stopped."""
    return events(_traced(engine, request, cancelled, owner))


def _traced(
    engine: Engine, request: Trace, cancelled: Callable[[], bool], owner: Owner | None
) -> Generator[Any, None, Traced]:
    _check(engine, request)
    student = engine.lane(request.model).model
    levels = _levels(student, request)

    def of_teacher(model: LoadedModel, show: Show) -> Generator[Ask, Any, _Path]:
        _same_space(student, model)
        return _path(request, model, levels)

    walked = yield from on_lane(engine, request.teacher, of_teacher, cancelled, owner)
    path: _Path = walked.result

    def of_student(model: LoadedModel, show: Show) -> Generator[Ask, Any, list[Pixels]]:
        return _estimates(request, model, path)

    asked = yield from on_lane(engine, request.model, of_student, cancelled, owner)
    points = _points(path, asked.result)
    yield from points
    return Traced(
        points=points,
        end=path.end,
        evaluations=walked.evaluations + asked.evaluations,
        seconds=walked.seconds + asked.seconds,
        settings=dataclasses.asdict(request),
    )


def _check(engine: Engine, request: Trace) -> None:
    """Raises BadRequest where the two models or the numbers do not fit."""
    teacher, student = engine.info(request.teacher), engine.info(request.model)
    reason = misfit(SOLVER, teacher)
    if reason:
        raise BadRequest(f"teacher={request.teacher}: {reason}")
    if not student.consistency:
        raise BadRequest(
            f"model={request.model} is no consistency model; give the student, such as scenery-lcm"
        )
    if not 3 <= request.evaluations <= 2 * student.max_steps - 1:
        raise BadRequest(
            f"evaluations={request.evaluations} is out of range; use 3 to {2 * student.max_steps - 1}"
        )
    if not 2 <= request.points <= 50:
        raise BadRequest(f"points={request.points} is out of range; use 2 to 50")
    engine.validate(generate_of(request, _teacher(request)))


def _teacher(request: Trace) -> System:
    return System(model=request.teacher, sampler=SOLVER, evaluations=max(3, request.evaluations))


def _levels(student: LoadedModel, request: Trace) -> list[float]:
    """The path's noise per unit of signal: levels that the student was trained at."""
    count = (request.evaluations + 1) // 2
    return [student.schedule.ve_sigma(level) for level in student.grid(count)]


def _same_space(student: LoadedModel, teacher: LoadedModel) -> None:
    side = teacher.info.width, teacher.info.height
    one = (student.latent, student.info.multiple, student.sample_shape(*side))
    other = (teacher.latent, teacher.info.multiple, teacher.sample_shape(*side))
    if one != other:
        raise BadRequest(
            f"{student.info.id} and {teacher.info.id} sample in different spaces; give a student and its own teacher"
        )


@dataclasses.dataclass(kw_only=True, eq=False)
class _Path:
    """Chosen points of an ODE path: samples in VE scale, noise, and pictures of both and of the clean estimates."""

    x: list[Tensor]
    sigma: list[float]
    level: list[float]
    noisy: list[Pixels]
    teacher: list[Pixels]
    end: Pixels


def _prompt(request: Trace, model: LoadedModel, *, guidance: float | None) -> Prompt:
    from lcm_studio.models.protocol import Prompt

    return Prompt(
        text=request.prompt,
        negative=request.negative if model.info.takes_negative else "",
        guidance=guidance,
        label=request.class_label,
        width=request.width or model.info.width,
        height=request.height or model.info.height,
    )


def _path(request: Trace, model: LoadedModel, sigmas: list[float]) -> Generator[Ask, Any, _Path]:
    """Solves the teacher's ODE by Heun's method at noise levels `sigmas` and keeps `points` of it.

    Guidance acts from where it does in the teacher's pictures on, as it did when the student was made.
    """
    import torch

    from lcm_studio.sampling import Embed, SeededNoise, recorded, steps_of
    from lcm_studio.sampling.plan import guided_below

    prompt = _prompt(request, model, guidance=request.guidance)
    cond = yield Embed((prompt,))
    below = guided_below(generate_of(request, _teacher(request)), model.info, model)
    lead = []
    if below < math.inf:
        lead = [(yield Embed((dataclasses.replace(prompt, guidance=1.0),)))]
    noise = SeededNoise(
        (request.seed,), model.sample_shape(prompt.width, prompt.height), device=model.device
    )
    levels = [round_level(float(s)) for s in model.schedule.levels_at(torch.tensor(sigmas))]
    seen: list[Point] = []
    steps = steps_of(
        SOLVER, model.schedule.prior(noise.draw()), levels, cond, schedule=model.schedule,
        noise=noise, evaluations=2 * len(levels) - 1, lead=lead, guided_below=below,
    )  # fmt: skip
    end = yield from recorded(steps, seen.append)
    on_path = list({float(p.t[0]): p for p in seen}.values())  # Heun's guess comes before it
    count = min(request.points, len(on_path))
    chosen = [on_path[round(i * (len(on_path) - 1) / (count - 1))] for i in range(count)]
    path = _Path(x=[], sigma=[], level=[], noisy=[], teacher=[], end=None)  # type: ignore[arg-type]
    for point in chosen:
        noisy, clean = yield from pictures_of(vp_scale(model, point.x_t, point.t), point.x0_hat)
        alpha, _ = model.schedule.alpha_sigma(point.t, point.x_t)
        path.x.append(point.x_t / alpha)
        path.level.append(float(point.t[0]))
        path.sigma.append(model.schedule.ve_sigma(float(point.t[0])))
        path.noisy.append(noisy)
        path.teacher.append(clean)
    (path.end,) = yield from pictures_of(end)
    return path


def _estimates(
    request: Trace, model: LoadedModel, path: _Path
) -> Generator[Ask, Any, list[Pixels]]:
    """Pictures of f(x_t, t) at the points of the path."""
    import torch

    from lcm_studio.sampling import Embed, Predict

    cond = yield Embed((_prompt(request, model, guidance=request.guidance),))
    pictures: list[Pixels] = []
    for x, sigma in zip(path.x, path.sigma, strict=True):
        level = round_level(float(model.schedule.levels_at(torch.tensor([sigma]))[0]))
        t = model.schedule.level_tensor(level, 1)
        alpha, _ = model.schedule.alpha_sigma(t, x)
        x0 = yield Predict(alpha * x, t, cond)
        pictures += yield from pictures_of(x0)
    return pictures


def round_level(level: float) -> float:
    """A level that is whole but for rounding, as a whole one: networks are trained at whole timesteps."""
    near = round(level)
    return float(near) if abs(level - near) < 1e-4 else level


def _points(path: _Path, student: list[Pixels]) -> tuple[TracePoint, ...]:
    def off(image: Pixels, other: Pixels) -> float:
        return distance(image, other) or 0.0

    return tuple(
        TracePoint(
            index=i,
            total=len(student),
            level=path.level[i],
            sigma=path.sigma[i],
            x_t=path.noisy[i],
            teacher=path.teacher[i],
            student=student[i],
            teacher_to_start=off(path.teacher[i], path.teacher[0]),
            teacher_to_end=off(path.teacher[i], path.end),
            student_to_start=off(student[i], student[0]),
            student_to_end=off(student[i], path.end),
        )
        for i in range(len(student))
    )
