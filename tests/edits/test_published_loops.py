"""The loops that the edits are compared with, on a world where denoiser and posterior are known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.edit_batch import together
from benchmarks.edit_loops import (
    CM4IR,
    REPAINT_JUMP,
    REPAINT_PASSES,
    cm4ir_sigmas,
    ddnm,
    latino,
    repaint,
    repaint_levels,
    travel,
)
from benchmarks.edit_loops import algorithm4 as alg4
from benchmarks.edit_loops import cm4ir as cm4ir_loop
from lcm_studio.edits.problem import Known, Problem
from lcm_studio.edits.schedule import EditSchedule
from lcm_studio.maths.grids import karras_sigmas
from lcm_studio.models.protocol import Cond
from lcm_studio.operators import Mask
from lcm_studio.sampling import Predict, answer
from tests.edits.gaussian import DoubleNoise, GaussianModel, Sideways, w2_squared

SIZE, COUNT = 24, 1500


class World(GaussianModel):
    """The exact consistency function, with a grid of levels."""

    def grid(self, steps, timesteps=None, *, kind=None, size=None):
        return karras_sigmas(steps, sigma_min=0.02, sigma_max=80.0).tolist()


class Denoiser(World):
    """E[x0 | x_t] in place of the consistency function: what a diffusion model predicts."""

    def predict(self, x_t, t, cond):
        gain = self.values[None] / (self.values[None] + t.double()[:, None] ** 2)
        flat = (x_t.flatten(1).double() - self.mean) @ self.vectors
        return (self.mean + (flat * gain) @ self.vectors.T).reshape(x_t.shape)


def hole(model):
    """(problem, matrix of the known pixels, their values): seven of 24 pixels are unknown."""
    truth = model.draw(1, seed=5).reshape(1, 1, 1, -1)
    keep = torch.ones(1, 1, 1, SIZE, dtype=torch.float64)
    keep[..., 9:16] = 0
    matrix = torch.eye(SIZE, dtype=torch.float64)[keep.flatten() > 0]
    return problem(Mask(keep), truth * keep, truth * keep), matrix, matrix @ truth.flatten()


def means(model):
    """The same for means of four pixels."""
    truth = model.draw(1, seed=5).reshape(1, 1, 1, -1)
    matrix = torch.eye(6, dtype=torch.float64).repeat_interleave(4, dim=1) / 4
    op = Sideways(matrix)
    y = op.A(truth)
    return problem(op, y, op.pinv(y)), matrix, y.flatten()


def problem(op, y, start):
    return Problem(
        start=start,
        size=tuple(start.shape[-2:]),
        schedule=EditSchedule(levels=(1.0,)),
        finish=lambda x, report: [],
        known=Known(op=op, y=y),
    )


def run(loop, model, task, steps):
    """(samples, network calls) of COUNT pictures at once."""
    generator = loop(model, task, Cond(batch=COUNT), DoubleNoise(COUNT, SIZE), steps)
    calls, value = 0, None
    try:
        while True:
            ask = generator.send(value)
            calls += isinstance(ask, Predict)
            value = answer(ask, model)
    except StopIteration as end:
        return end.value.flatten(1), calls


def distance(x, model, matrix, y):
    return w2_squared(x.mean(0), torch.cov(x.T), *model.posterior(matrix, y))


@pytest.mark.parametrize(
    ("loop", "steps", "setting"),
    [(alg4, 4, means), (alg4, 4, hole), (cm4ir_loop, 4, means), (latino, 8, means)],
)
def test_the_stated_evaluations_and_no_more(loop, steps, setting):
    model = World()
    task, matrix, y = setting(model)
    x, calls = run(loop, model, task, steps)
    assert calls == steps
    gap = (x @ matrix.T - y).abs()
    # LATINO's proximal step is soft, the others project
    assert float(gap.mean()) < 0.05 if loop is latino else float(gap.max()) < 1e-9


@pytest.mark.parametrize(("loop", "setting"), [(repaint, hole), (ddnm, hole), (ddnm, means)])
def test_with_the_exact_denoiser_a_hundred_evaluations_come_near_the_posterior(loop, setting):
    model = Denoiser()
    task, matrix, y = setting(model)
    x, calls = run(loop, model, task, 100)
    assert calls == 100
    assert float((x @ matrix.T - y).abs().max()) < 1e-9
    mean, cov = model.posterior(matrix, y)
    unconditional = w2_squared(model.mean, model.cov, mean, cov)
    assert distance(x, model, matrix, y) < 0.25 * unconditional


def test_passes_bring_repaint_nearer_than_a_single_pass(monkeypatch):
    model = Denoiser()
    task, matrix, y = hole(model)
    twice = distance(run(repaint, model, task, 100)[0], model, matrix, y)
    monkeypatch.setattr("benchmarks.edit_loops.REPAINT_PASSES", 1)
    once = distance(run(repaint, model, task, 52)[0], model, matrix, y)
    assert twice < once


def test_the_walk_runs_every_stretch_twice_and_ends_clean():
    walk = list(travel(repaint_levels(100), REPAINT_JUMP, REPAINT_PASSES))
    downs = [a for a, b in walk if b < a]
    assert len(downs) == 100 and repaint_levels(100) == 52
    assert walk[-1] == (0, -1)
    assert all(b[0] == a[1] for a, b in pairwise(walk))
    assert {downs.count(t) for t in range(1, 49)} == {2}


def test_levels_of_cm4ir_are_the_published_ones():
    """i_N = 400, gamma = 0.7: abar 0.192, and 1.7 times more at each step."""
    sigmas = cm4ir_sigmas(*CM4IR["superres4"], 4)
    bars = [1 - s**2 for s in sigmas]
    assert bars[0] == pytest.approx(0.192, abs=2e-3)
    assert [b / a for a, b in pairwise(bars)] == pytest.approx([1.7] * 3)


def test_pictures_in_one_batch_are_those_made_alone():
    model = World()
    task, _, _ = means(model)

    def edits():
        return [alg4(model, task, Cond(batch=1), DoubleNoise(1, SIZE, s), 4) for s in range(5)]

    both, counts = together(model, edits(), rows=3)
    alone = [together(model, [g])[0][0] for g in edits()]
    assert counts == [4] * 5
    for a, b in zip(both, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
