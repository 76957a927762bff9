"""The loop and its schedules against the exact posterior of a Gaussian world: bias and variance, no weights."""

from __future__ import annotations

import pytest
import torch

from lcm_studio.edits.loop import Projection, solve
from lcm_studio.edits.membrane import Membrane
from lcm_studio.edits.problem import Known, Problem
from lcm_studio.edits.schedule import EditSchedule, along, geometric
from lcm_studio.models.protocol import Cond
from lcm_studio.operators import Mask
from lcm_studio.sampling import drive
from tests.edits.gaussian import DoubleNoise, GaussianModel, Sideways, fit, w2_squared

COUNT = 1500


class Paste(Projection):
    """Projects at the end alone."""

    projects = False


def hole():
    keep = torch.ones(1, 1, 1, 24, dtype=torch.float64)
    keep[..., 9:16] = 0
    return keep


def run(model, op, y, start, levels, *, project=True, eta=1.0, inverse=None):
    """Mean and covariance of COUNT samples of the loop."""
    problem = Problem(
        start=start,
        size=tuple(start.shape[-2:]),
        schedule=EditSchedule(levels=tuple(levels), eta=eta),
        finish=lambda x, report: [],
        known=Known(op=op, y=y, inverse=inverse),
    )
    noise = DoubleNoise(COUNT, model.size)
    with torch.no_grad():
        hook = Projection if project else Paste
        steps = solve(problem, model, Cond(batch=COUNT), noise, hook=hook)
        x = drive(steps, model).flatten(1)
    return x.mean(0), torch.cov(x.T), x


def setting(task):
    """(model, operator, its matrix, y, start) of a hole or of 4-fold means."""
    model = GaussianModel()
    truth = model.draw(1, seed=5).reshape(1, 1, 1, -1)
    if task == "mask":
        keep = hole()
        op = Mask(keep)
        matrix = torch.eye(24, dtype=torch.float64)[keep.flatten() > 0]
        known = truth.flatten()[keep.flatten() > 0]
        left, right = truth[..., 8], truth[..., 16]
        line = torch.linspace(0, 1, 9, dtype=torch.float64)[1:-1]
        start = truth.clone()
        start[..., 9:16] = left + (right - left) * line
        return model, op, matrix, op.A(truth), start, known
    means = torch.eye(6, dtype=torch.float64).repeat_interleave(4, dim=1) / 4
    op = Sideways(means)
    y = op.A(truth)
    return model, op, means, y, op.pinv(y), y.flatten()


def distance(task, levels, *, project=True):
    model, op, matrix, y, start, known = setting(task)
    mean, cov, _ = run(model, op, y, start, levels, project=project)
    return w2_squared(mean, cov, *model.posterior(matrix, known))


def test_the_consistency_function_of_the_toy_ends_in_its_distribution():
    model = GaussianModel()
    x = DoubleNoise(6000, 24).draw() * 80
    out = model.predict(x, torch.full((6000,), 80.0), Cond(batch=6000)).flatten(1)
    assert torch.allclose(out.mean(0), model.mean, atol=0.04)
    assert torch.allclose(torch.cov(out.T), model.cov, atol=0.04)


@pytest.mark.parametrize("task", ["mask", "means"])
def test_every_sample_has_the_known_part(task):
    model, op, _, y, start, _ = setting(task)
    _, _, x = run(model, op, y, start, [2.0, 0.8, 0.3, 0.1])
    known = op.A(x.reshape(-1, 1, 1, 24))
    assert float((known - y).abs().max()) < 1e-9


@pytest.mark.parametrize(("task", "steps"), [("mask", 8), ("means", 4)])
def test_the_loop_beats_pasting_at_the_end(task, steps):
    levels = geometric(2.5, 0.15, steps)
    assert distance(task, levels) < 0.5 * distance(task, levels, project=False)


def test_more_levels_come_nearer_but_never_arrive():
    """Projection after each step is no posterior sampling, however many steps: some bias stays."""
    far, near, nearer = (distance("mask", geometric(5, 0.1, n)) for n in (4, 8, 30))
    assert nearer < near < far
    assert distance("means", geometric(5, 0.1, 30)) > 0.05


@pytest.mark.parametrize(
    ("task", "span", "share"), [("mask", (1, 0.1), 0.3), ("means", (2.5, 0.15), 0.85)]
)
def test_a_fill_and_a_low_start_beat_the_published_one(task, span, share):
    """Algorithm 4 starts from pure noise at sigma_max."""
    model, op, matrix, y, start, known = setting(task)
    mean, cov, _ = run(model, op, y, torch.zeros_like(start), geometric(80.0, 0.05, 4))
    published = w2_squared(mean, cov, *model.posterior(matrix, known))
    assert distance(task, geometric(*span, 4)) < share * published


def membrane():
    return Membrane(hole()[0, 0].numpy() == 0)


def spread(task, span, steps, eta=1.0):
    """(bias^2 over that of the prior, variance ratio) of a range of levels against the posterior."""
    model, op, matrix, y, start, known = setting(task)
    levels = along([a / 2 for a in span], steps)  # of this world's spread
    inverse = membrane() if task == "mask" else None
    mean, cov, _ = run(model, op, y, start, levels, eta=eta, inverse=inverse)
    true_mean, true_cov = model.posterior(matrix, known)
    prior = float(((model.mean - true_mean) ** 2).sum())
    bias = float(((mean - true_mean) ** 2).sum())
    return bias / prior, float(torch.trace(cov) / torch.trace(true_cov))


@pytest.mark.parametrize(
    ("task", "name", "most"),
    [
        # chosen by Frechet distance on pictures: so high a start forgets more of the fill than is best here
        ("mask", "inpaint", 0.1),
        ("mask", "outpaint", 0.1),
        ("means", "superres4", 0.1),
        ("means", "superres2", 0.1),
    ],
)
@pytest.mark.parametrize("steps", [4, 8])
def test_bias_and_variance_of_the_default_schedules(task, name, most, steps):
    """The loop is no exact posterior sampler; its error is bounded: small bias, variance of the right size."""
    bias, ratio = spread(task, fit(name, steps).levels, steps, fit(name, steps).eta)
    assert bias < most
    assert 0.5 < ratio < 2.6
    assert 0.5 < spread(task, fit(name, steps).levels, steps)[1] < 2.0  # all noise fresh


@pytest.mark.parametrize("name", ["inpaint", "outpaint"])
@pytest.mark.parametrize("steps", [4, 8])
def test_the_membrane_comes_nearer_to_the_posterior_than_the_least_change(name, steps):
    """Errors of this world go together as the membrane takes them to."""
    model, op, matrix, y, start, known = setting("mask")
    levels = along([a / 2 for a in fit(name, steps).levels], steps)
    eta = fit(name, steps).eta
    least, met = (
        w2_squared(
            *run(model, op, y, start, levels, eta=eta, inverse=inverse)[:2],
            *model.posterior(matrix, known),
        )
        for inverse in (None, membrane())
    )
    assert met < 0.5 * least


@pytest.mark.parametrize("span", [(2.5, 0.2), (4.0, 0.25)])
@pytest.mark.parametrize("steps", [4, 8])
def test_the_loop_fills_a_hole_with_little_bias_from_a_low_start(span, steps):
    bias, ratio = spread("mask", span, steps)
    assert bias < 0.1
    assert 0.5 < ratio < 2.0


@pytest.mark.parametrize("name", ["inpaint", "outpaint"])
def test_less_fresh_noise_is_less_bias_and_more_variance(name):
    """The noise that goes on leans the way the estimate does: what the networks, which shrink, can use."""
    found = [spread("mask", fit(name, 4).levels, 4, eta) for eta in (1.0, 0.9, 0.5)]
    assert found[0][0] > found[1][0] > found[2][0]
    assert found[0][1] < found[1][1] < found[2][1]
