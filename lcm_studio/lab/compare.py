"""The same noise and prompt through several systems, one after the other, and how far each is from the ODE's own end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from lcm_studio.lab.film import filmed, never
from lcm_studio.lab.lanes import Ended, check_frames, events
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.events import Failed
from lcm_studio.spec.lab import Compared, Comparison, Filmed, Result, System
from lcm_studio.spec.samplers import SAMPLERS, sampler_info

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.spec.owners import Owner
    from lcm_studio.spec.requests import Pixels

MOST_SYSTEMS = 64
REFERENCE = {"sampler": "rk45", "evaluations": 400, "settings": {"tolerance": 1e-4}}


def compare(
    engine: Engine,
    request: Comparison,
    cancelled: Callable[[], bool] = never,
    *,
    owner: Owner | None = None,
) -> Iterator[Any]:
    """A Result as soon as a system is done; the last event is Compared, Failed or Stopped.

    A system that cannot run is a Result with its error, and the others go on. Systems run one at a time, so that their
    seconds are their own.
    """
    return events(_compared(engine, request, cancelled, owner))


def distance(a: Pixels, b: Pixels) -> float | None:
    """Root mean square difference in levels of 255; None for pictures of two sizes."""
    if a.shape != b.shape:
        return None
    return math.sqrt(float(((a.astype(float) - b.astype(float)) ** 2).mean()))


def _compared(
    engine: Engine, request: Comparison, cancelled: Callable[[], bool], owner: Owner | None
) -> Generator[Any, None, Compared]:
    check_frames(request.frames)
    if not 1 <= len(request.systems) <= MOST_SYSTEMS:
        raise BadRequest(f"{len(request.systems)} systems: compare 1 to {MOST_SYSTEMS}")
    for system in request.systems:
        if system.sampler != "auto":
            sampler_info(system.sampler)
    references, counts = yield from _references(engine, request, cancelled, owner)
    results = []
    for index in range(len(request.systems)):
        result = yield from _result(engine, request, index, references, cancelled, owner)
        results.append(result)
        yield result
    if all(result.error for result in results):
        raise StudioError(results[0].error)
    return Compared(
        results=tuple(results),
        references=references,
        reference_evaluations=counts,
        settings=dataclasses.asdict(request),
    )


def _result(
    engine: Engine,
    request: Comparison,
    index: int,
    references: dict[str, Pixels],
    cancelled: Callable[[], bool],
    owner: Owner | None,
) -> Generator[Any, None, Result]:
    system = request.systems[index]
    common: dict[str, Any] = {
        "system": index, "label": system.label, "model": system.model, "sampler": system.sampler,
    }  # fmt: skip
    try:
        made: Filmed = yield from filmed(
            engine, request, system, cancelled, owner, index=index, frames=request.frames
        )
    except StudioError as error:
        return Result(**common, error=str(error))
    except Ended as end:
        if isinstance(end.event, Failed):
            return Result(**common, error=end.event.message)
        raise
    near = None
    reference = _reference_for(system, references)
    if reference is not None and _deterministic(system):
        near = distance(made.image, reference)
    return Result(
        **common, image=made.image, evaluations=made.evaluations, seconds=made.seconds,
        distance=near, warnings=made.warnings,
    )  # fmt: skip


def _references(
    engine: Engine, request: Comparison, cancelled: Callable[[], bool], owner: Owner | None
) -> Generator[Any, None, tuple[dict[str, Pixels], dict[str, int]]]:
    """{diffusion model: the end of its ODE from this noise}, and the evaluations that each took."""
    images: dict[str, Pixels] = {}
    counts: dict[str, int] = {}
    if not request.reference:
        return images, counts
    for model in dict.fromkeys(s.model for s in request.systems):
        try:
            if engine.info(model).consistency:
                continue
            system = System(model=model, **REFERENCE)  # type: ignore[arg-type]
            made = yield from filmed(engine, request, system, cancelled, owner)
        except StudioError:
            continue  # its systems say why
        except Ended as end:
            if isinstance(end.event, Failed):
                continue
            raise
        images[model], counts[model] = made.image, made.evaluations
    return images, counts


def _reference_for(system: System, references: dict[str, Pixels]) -> Pixels | None:
    """Its own model's solution; of a consistency model, that of the only diffusion model beside it."""
    if system.model in references:
        return references[system.model]
    return next(iter(references.values())) if len(references) == 1 else None


def _deterministic(system: System) -> bool:
    """Whether the noise at the start decides the end: ODE samplers, and one jump of a consistency function."""
    row = SAMPLERS.get(system.sampler)
    if row is None or row.family == "consistency":
        return True  # how far later noise takes it from the ODE is what is to be seen
    return row.family == "ode"
