"""Runs a problem through the one multistep loop: fill, noise, predict, project, renoise."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_studio.edits.geometry import Box
from lcm_studio.edits.problem import PIXELS, Problem
from lcm_studio.edits.tiles import tiled
from lcm_studio.models.protocol import Cond, Model
from lcm_studio.sampling import (
    Ask,
    Compute,
    Decode,
    Encode,
    Noise,
    Plan,
    Steps,
    Way,
    multistep,
    steps_of,
)
from lcm_studio.sampling.replaced import replaced
from lcm_studio.spec.errors import BadRequest


class Projection:
    """The refine hook: each clean estimate gets the known part, and the last one stays in pixels.

    Pixel models: x0 = project(x0). Latent models: u = D(z0), u' = project(u), z0 = E(u'), plus z0 - E(u) as the first
    level had it, where the method is once. `picture` holds the last u', `(B, 3, H, W)` in [-1, 1].
    """

    def __init__(self, problem: Problem, start: Tensor, *, latent: bool) -> None:
        self.problem = problem
        self.start = start
        self.latent = latent
        self.picture: Tensor | None = None
        self.lost: Tensor | None = None  # by the autoencoder, of a clean estimate

    def __call__(self, x0_hat: Tensor, k: int, x_t: Tensor) -> Steps:
        p = self.problem
        last = k + 1 == len(p.schedule.levels)
        if p.keep is not None:
            keep = p.keep.to(x0_hat)
            x0_hat = keep * self.start + (1 - keep) * x0_hat
        if not last and not self.projects:
            return x0_hat
        if last and p.window is not None:
            self.picture = yield from self._part(x0_hat, p.window)
            return x0_hat
        u = yield Decode(x0_hat)
        u = u.clamp(-1, 1)
        if p.known is None or (last and not p.project_last):
            self.picture = u
            return x0_hat
        projected = yield Compute(lambda report: self._projected(u, k), "Projecting")
        if last:
            self.picture = projected
            return x0_hat
        if not self.latent:
            return projected
        return (yield from self.encoded(x0_hat, u, projected.clamp(-1, 1)))

    @property
    def projects(self) -> bool:
        """Whether levels before the last one are projected too."""
        return self.problem.known is not None and self.problem.method in PIXELS

    def _projected(self, u: Tensor, k: int) -> Tensor:
        """Pictures `(B, 3, H, W)` with the known part, over-relaxed as level `k` wants it."""
        p = self.problem
        assert p.known is not None and p.start is not None
        projected = p.known.project(u, k)
        relax = p.schedule.relax
        if k < len(relax) and relax[k]:
            projected = torch.lerp(p.start.to(projected), projected, 1 + relax[k])
        return projected

    def encoded(self, z0: Tensor, u: Tensor, projected: Tensor) -> Steps:
        """The latents of `projected`, where z0 decodes to u."""
        if self.problem.method == "once" and self.lost is None:
            after, before = (yield Encode(torch.cat([projected, u]))).chunk(2)
            self.lost = z0 - before
        else:
            after = yield Encode(projected)
        kept: Tensor = after if self.lost is None else after + self.lost
        return kept

    def _part(self, x0_hat: Tensor, window: Box) -> Steps:
        """The start's picture with what the cells of `window` decode to: around a hole nothing else is looked at."""
        assert self.problem.start is not None
        u = yield Decode(x0_hat[..., window.top : window.bottom, window.left : window.right])
        cell = u.shape[-1] // window.width
        picture = self.problem.start.to(u).repeat(len(u), 1, 1, 1)
        rows = slice(window.top * cell, window.bottom * cell)
        picture[..., rows, window.left * cell : window.right * cell] = u.clamp(-1, 1)
        return picture


Hook = Callable[..., Projection]


def solve(
    problem: Problem,
    model: Model,
    cond: Cond,
    noise: Noise,
    lead: Sequence[Cond] = (),
    *,
    start: Tensor | None = None,
    planned: Plan | None = None,
    hook: Hook = Projection,
) -> Generator[Ask, Any, Tensor]:
    """Pictures `(B, 3, H, W)`, nominally in [-1, 1], one per seed of `noise`; `finish` is still to come.

    `lead`: the conditionings of the first levels, where they are others than `cond`. `start`: the problem's start as the
    model samples it `(1, C, h, w)`, where it has been encoded before. `planned`: sampler and levels of the method `replace`, which starts from
    noise. `hook`: makes the projection.
    Source: Song et al. 2023, Algorithm 4, with the known part projected after instead of before the network.
    """
    assert problem.start is not None
    if start is None:
        start = yield from encoded_start(problem, model)
    z = noise.draw()
    start = start.to(z).expand_as(z)
    if problem.method == "replace":
        return (yield from _by_replacement(problem, model, cond, noise, start, z, planned, lead))
    projection = hook(problem, start, latent=model.latent)
    scale = problem.schedule.noise_scale
    x_t = model.schedule.renoise(start, scale * z, problem.schedule.levels[0])
    yield from sampled(problem, model, x_t, cond, noise, lead, projection)
    assert projection.picture is not None
    return projection.picture


def encoded_start(problem: Problem, model: Model) -> Steps:
    """The start of a problem as the model samples it, `(1 or 2, C, h, w)`."""
    assert problem.start is not None
    start = problem.start.to(model.device)
    if model.latent:
        start = yield Encode(start)
    return start


def sampled(
    problem: Problem,
    model: Model,
    x_t: Tensor,
    cond: Cond,
    noise: Noise,
    lead: Sequence[Cond] = (),
    projection: Projection | None = None,
) -> Steps:
    """The last clean estimate from `x_t` `(B, C, h, w)` at the first level of the problem's schedule."""
    schedule = problem.schedule
    steps = multistep(
        x_t,
        schedule.levels,
        cond,
        schedule=model.schedule,
        noise=noise,
        refine=projection,
        way=problem.way or Way(eta=schedule.eta),
        lead=lead,
        noise_scale=schedule.noise_scale,
    )
    if problem.tile is not None:
        cells = model.sample_shape(problem.tile[1], problem.tile[0])
        steps = tiled(steps, cells[1], cells[2])
    return (yield from steps)


def _by_replacement(
    problem: Problem,
    model: Model,
    cond: Cond,
    noise: Noise,
    known: Tensor,
    z: Tensor,
    planned: Plan | None,
    lead: Sequence[Cond],
) -> Generator[Ask, Any, Tensor]:
    """Pictures by any sampler from pure noise, which is shown the known cells at every evaluation."""
    if problem.keep is None or planned is None:
        raise BadRequest(
            "method=replace needs a mask that leaves some of the picture; use inpaint or outpaint"
        )
    steps = steps_of(
        planned.sampler,
        model.schedule.prior(z),
        planned.levels,
        cond,
        schedule=model.schedule,
        noise=noise,
        settings=planned.settings,
        evaluations=planned.evaluations,
        lead=lead,
    )
    if problem.tile is not None:
        cells = model.sample_shape(problem.tile[1], problem.tile[0])
        steps = tiled(steps, cells[1], cells[2])
    latents = yield from replaced(
        steps, known, problem.keep.to(known), schedule=model.schedule, noise=noise
    )
    picture: Tensor = yield Decode(latents)
    return picture.clamp(-1, 1)
