"""An edit as a generator of asks, for whichever driver answers them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.edits.interpolate import interpolate_session
from lcm_studio.edits.loop import solve
from lcm_studio.edits.prepare import picture
from lcm_studio.edits.problem import Outcome, Problem
from lcm_studio.edits.prompts import emphasised
from lcm_studio.edits.registry import task_of
from lcm_studio.models.protocol import Model
from lcm_studio.sampling import (
    Ask,
    Check,
    Compute,
    Embed,
    Finished,
    Report,
    SeededNoise,
    plan,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lcm_studio.spec.requests import Edit, Pixels


def edit_session(
    request: Edit, model: Model, seeds: tuple[int, ...], rows: int
) -> Generator[Ask, Any, Outcome]:
    """All pictures of an edit, one per seed, at most `rows` at a time.

    Raises BadRequest, at the first step, for input that does not fit the task.
    """
    task = task_of(request.task)
    if task.build is None:
        return (yield from interpolate_session(request, model, seeds, rows))
    build = task.build
    problem: Problem = yield Compute(lambda report: build(request, model), "Preparing")
    height, width = problem.start.shape[-2:]
    settled = plan(request, model, width, height)
    one = yield Embed((settled.prompt,))
    strong = yield from emphasised(settled.prompt, one, problem.emphasis)
    images: list[Pixels] = []
    flagged: list[bool] = []
    figures: list[Mapping[str, Any]] = []
    for start in range(0, len(seeds), rows):
        part = seeds[start : start + rows]
        noise = SeededNoise(part, settled.shape, device=model.device)
        decoded = yield from solve(
            problem, model, one.repeat(len(part)), noise, strong.repeat(len(part)), settled
        )
        flags = yield Check(decoded)
        results = yield Compute(partial(finished, problem, decoded), "Finishing")
        made = tuple(
            np.zeros_like(result) if bad else result
            for (result, _), bad in zip(results, flags, strict=True)
        )
        images += made
        flagged += flags
        figures += [figure for _, figure in results]
        yield Finished(made, flags)
    return Outcome(
        images=tuple(images),
        seeds=seeds,
        flagged=tuple(flagged),
        fidelity=worst(figures),
        warnings=problem.warnings,
        settings={
            "levels": [round(model.schedule.ve_sigma(t), 4) for t in problem.levels],
            "method": problem.method,
            "eta": problem.eta,
            "noise_scale": problem.noise_scale,
            "relax": list(problem.relax),
            "emphasis": problem.emphasis,
            **problem.settings,
        },
    )


def finished(
    problem: Problem, decoded: Tensor, report: Report
) -> list[tuple[Pixels, Mapping[str, Any]]]:
    """Each of `decoded` `(B, 3, H, W)` as a finished picture, and how much of the known part it keeps."""
    results = []
    for i, x in enumerate(decoded):
        share = partial(_share, report, i, len(decoded))
        result = problem.finish(picture(x), share)
        results.append((result, problem.measure(result)))
        share(1.0)
    return results


def _share(report: Report, i: int, total: int, share: float) -> None:
    """`share` of part `i` of `total`."""
    report((i + share) / total)


def worst(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of several pictures the largest of every number; words as in the first."""
    out: dict[str, Any] = {}
    for name in figures[0]:
        values = [f[name] for f in figures]
        number = isinstance(values[0], float) and not isinstance(values[0], bool)
        out[name] = max(values) if number else values[0]
    return out
