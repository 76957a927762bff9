"""The plane against closed forms: mixtures, the exact consistency function, samplers, what networks learn."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from lcm_studio.lab import plane, plane_data, plane_exact
from lcm_studio.lab.plane_levels import T_MAX, T_MIN, frame_scale, levels, place, start
from lcm_studio.lab.plane_mixture import Mixture
from lcm_studio.lab.plane_samplers import SHOWN
from lcm_studio.spec.errors import BadRequest

NAMES = list(plane_data.DISTRIBUTIONS)


def gaussian() -> Mixture:
    return Mixture(centres=np.array([[0.2, -0.1]]), weights=np.ones(1), width=0.4)


@pytest.mark.parametrize("name", NAMES)
def test_a_distribution_has_the_data_s_mean_and_spread(name: str) -> None:
    mixture = plane_data.distribution(name)
    mean = mixture.weights @ mixture.centres
    spread = mixture.weights @ ((mixture.centres - mean) ** 2).sum(axis=1) / 2 + mixture.width**2
    assert np.allclose(mean, 0, atol=1e-12)
    assert math.isclose(spread, plane_data.SIGMA_DATA**2)
    drawn = mixture.sample(40_000, np.random.default_rng(0), t=0.3)
    assert drawn.var(axis=0).sum() / 2 == pytest.approx(spread + 0.3**2, rel=0.03)


@given(t=st.floats(0.02, 5.0), x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_the_score_is_the_slope_of_the_log_density(t: float, x: float, y: float) -> None:
    mixture, step = plane_data.distribution("pair"), 1e-5
    at = np.array([[x, y]])
    slope = [
        (mixture.log_density(at + d, t) - mixture.log_density(at - d, t))[0] / (2 * step)
        for d in np.eye(2) * step
    ]
    score = mixture.score(at, t)[0]
    assert np.allclose(score, slope, rtol=1e-4, atol=1e-4 * (1 + np.abs(score).max()))
    assert np.allclose(mixture.denoise(at, t), at + t**2 * score)  # Tweedie


@pytest.mark.parametrize("t", [0.01, 0.3, 5.0])
def test_a_grid_is_the_same_density_and_score_as_point_by_point(t: float) -> None:
    mixture = plane_data.distribution("rings")
    xs, ys = np.linspace(-9, 9, 13), np.linspace(-2, 2, 9)
    density, score = mixture.on_grid(xs, ys, t)
    points = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    assert np.allclose(density.ravel(), np.exp(mixture.log_density(points, t)), rtol=1e-9)
    assert np.allclose(score.reshape(-1, 2), mixture.score(points, t), rtol=1e-6, atol=1e-6)


def test_drawn_points_and_a_picture_s_dark_pixels_become_distributions() -> None:
    line = plane_data.from_points([[0, 0], [1, 1], [2, 2]])
    assert np.allclose(line.centres[:, 0], line.centres[:, 1])
    many = plane_data.from_points(np.random.default_rng(0).normal(size=(5000, 2)).tolist())
    assert len(many.centres) == plane_data.MOST_POINTS
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[:, 10:14] = 0  # two upright bars, and nothing between them
    pixels[:, 46:50] = 0
    xs = plane_data.from_picture(pixels).centres[:, 0]
    assert set(np.sign(xs)) == {-1.0, 1.0} and np.abs(xs).min() > 0.2
    for wrong in (
        [[0, 0]],
        [[1, 1], [1, 1]],
        [[0, math.nan], [1, 1]],
        "no points",
        [[0, 1e9], [1, 1]],
    ):
        with pytest.raises(BadRequest):
            plane_data.from_points(wrong)
    with pytest.raises(BadRequest, match="one brightness"):
        plane_data.from_picture(np.full((8, 8, 3), 7, np.uint8))


def test_levels_fall_from_noise_to_data_and_stand_evenly_on_the_slider() -> None:
    grid = levels(33)
    assert grid[0] == T_MAX and grid[-1] == T_MIN and (np.diff(grid) < 0).all()
    assert np.allclose([place(t) for t in grid], np.linspace(0, 1, 33), atol=1e-9)
    x = plane_data.distribution("moons").sample(20_000, np.random.default_rng(0), T_MAX)
    assert (x * frame_scale(T_MAX)).std() == pytest.approx(plane_data.SIGMA_DATA, rel=0.03)


def test_the_exact_consistency_function_is_the_closed_form_on_a_gaussian() -> None:
    """dx/dt = t (x - m) / (w^2 + t^2): x - m grows as sqrt(w^2 + t^2)."""
    mixture, x = gaussian(), start(50, 1).astype(np.float64)
    shrink = (mixture.variance(T_MIN) / mixture.variance(T_MAX)) ** 0.5
    expected = mixture.centres + (x - mixture.centres) * shrink
    assert np.abs(plane_exact.exact_consistency(mixture, x, T_MAX) - expected).max() < 5e-6
    assert plane_exact.exact_consistency(mixture, x, T_MIN) is x


def test_the_exact_consistency_function_agrees_with_an_adaptive_solver_of_order_8() -> None:
    mixture, x = plane_data.distribution("moons"), start(60, 2).astype(np.float64)

    def slope(t: float, flat: Any) -> Any:
        points = flat.reshape(-1, 2)
        return ((points - mixture.denoise(points, t)) / t).ravel()

    end = solve_ivp(slope, (T_MAX, T_MIN), x.ravel(), method="DOP853", rtol=1e-9, atol=1e-10)
    gap = plane_exact.exact_consistency(mixture, x, T_MAX) - end.y[:, -1].reshape(-1, 2)
    assert plane_exact.rms(gap) < 1e-4


def run(mixture: Mixture, **system: Any) -> tuple[list[plane.Moved], plane.Arrived]:
    *moved, arrived = plane.sample(mixture, (plane.System(**system),), particles=1500, seed=3)
    assert isinstance(arrived, plane.Arrived)
    return moved, arrived  # type: ignore[return-value]


@pytest.mark.parametrize("name", SHOWN)
def test_every_sampler_arrives_at_the_data(name: str) -> None:
    moved, arrived = run(
        plane_data.distribution("pair"), sampler=name, evaluations=SHOWN[name].usual
    )
    assert moved[0].frame.t == T_MAX and np.array_equal(moved[0].frame.x, start(1500, 3))
    assert moved[-1].frame.t == T_MIN and moved[-1].frame.evaluations == arrived.evaluations
    assert arrived.evaluations <= SHOWN[name].usual
    assert [m.clock for m in moved] == sorted(m.clock for m in moved)
    # the shares of the two heaps: annealed Langevin is known to be slow there
    right = float((moved[-1].frame.x[:, 0] > 0).mean())
    assert abs(right - 0.2) < (0.15 if name == "langevin" else 0.12 if name == "pc" else 0.05)


def test_more_evaluations_come_nearer_to_the_exact_ends_and_a_higher_order_nearer_still() -> None:
    def errors(name: str, counts: tuple[int, ...]) -> list[float]:
        return [run(gaussian(), sampler=name, evaluations=n)[1].error or 0.0 for n in counts]

    euler, heun = errors("ode-euler", (40, 80, 160)), errors("ode-heun", (41, 81, 161))
    assert all(after < 0.6 * before for before, after in itertools.pairwise(euler))
    assert all(after < 0.35 * before for before, after in itertools.pairwise(heun))
    assert heun[2] < 0.1 * euler[2]
    moons = plane_data.distribution("moons")
    strict = plane.System(sampler="rk45", evaluations=1000, settings={"tolerance": 1e-6})
    *_, arrived = plane.sample(moons, (strict,), particles=300, seed=3)
    assert isinstance(arrived, plane.Arrived) and arrived.error is not None and arrived.error < 1e-3


def test_few_levels_of_langevin_dynamics_lose_the_shares_that_the_ode_keeps() -> None:
    pair = plane_data.distribution("pair")

    def right(**system: Any) -> float:
        return float((run(pair, **system)[0][-1].frame.x[:, 0] > 0).mean())

    assert right(sampler="langevin", evaluations=201, settings={"levels": 3}) > 0.4
    assert abs(right(sampler="ode-heun", evaluations=21) - 0.2) < 0.03


def test_neighbours_stay_neighbours_on_the_ode_and_part_on_the_sde() -> None:
    moons = plane_data.distribution("moons")

    def parted(name: str) -> float:
        x = run(moons, sampler=name, evaluations=40)[0][-1].frame.x
        first = start(1500, 3)
        gaps = np.linalg.norm(first[:, None] - first[None], axis=-1) + 99 * np.eye(1500)
        return plane_exact.rms(x - x[gaps.argmin(axis=1)])

    assert parted("ode-euler") < 0.5 * parted("sde")


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ({"sampler": "magic", "evaluations": 3}, "no sampler of the plane"),
        ({"sampler": "ode-heun", "evaluations": 1}, "whole number from 3 to 1000"),
        ({"sampler": "ode-heun", "evaluations": 2.5}, "whole number"),
        ({"sampler": "rk45", "evaluations": 99, "settings": {"tolerance": 0}}, "tolerance=0"),
        ({"sampler": "sde", "evaluations": 9, "settings": {"snr": 1}}, "no setting 'snr'"),
        ({"sampler": "sde", "evaluations": 9, "network": "cd"}, "cannot use the network 'cd'"),
        ({"sampler": "consistency", "evaluations": 1, "network": "cd"}, "train it first"),
    ],
)
def test_what_cannot_run_is_one_sentence(system: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        plane.sample(gaussian(), (plane.System(**system),), particles=10, seed=0)


def test_a_run_that_nobody_reads_on_stops_within_one_step() -> None:
    calls = 0
    mixture = gaussian()

    class Counted(Mixture):
        def denoise(self, x: Any, t: float) -> Any:
            nonlocal calls
            calls += 1
            return mixture.denoise(x, t)

    counted = Counted(centres=mixture.centres, weights=mixture.weights, width=mixture.width)
    events = plane.sample(
        counted, (plane.System(sampler="sde", evaluations=100),), particles=9, seed=0
    )
    for _, _event in zip(range(5), events, strict=False):
        pass
    events.close()  # type: ignore[attr-defined]
    assert calls <= 5


@pytest.fixture(scope="module")
def lines() -> plane.Lines:
    return plane.Lines(plane_data.distribution("moons"))


@pytest.fixture(scope="module")
def score(lines: plane.Lines) -> plane.Learning:
    *_, last = plane.learn(lines.mixture, "score", steps=500, lines=lines, report=250)
    return last


def test_a_network_learns_the_score(score: plane.Learning, lines: plane.Lines) -> None:
    by_level = {round(t, 2): error for t, error in score.curve}
    assert by_level[5.0] < 0.05 and score.error < 0.2
    x = plane_exact.path(score.learned, start(500, 4), levels(25))[-1]
    data = lines.mixture.sample(500, np.random.default_rng(5))
    assert plane_exact.sliced_distance(x, data) < 0.08


@pytest.mark.parametrize("stage", ["cd", "ct"])
def test_a_consistency_function_is_learned_from_it(
    stage: Any, score: plane.Learning, lines: plane.Lines
) -> None:
    first, *_, last = plane.learn(
        lines.mixture, stage, steps=400, score=score.learned, lines=lines, report=40
    )
    one_step = lines.consistency_curve(score.learned)
    assert last.error < 0.4 * one_step[0][2], "one jump is not nearer than the teacher's one step"
    middle = len(last.curve) // 2
    assert last.curve[middle][1] < 0.5 * one_step[middle][1], "f is not the same along a path"
    assert last.error < first.error
    at = start(20, 6)
    assert np.array_equal(last.learned(at, T_MIN), at), "f(x, T_MIN) is x"
    # two steps from the learned function, as a sampler
    system = plane.System(sampler="consistency", evaluations=2, network=stage)
    *_, arrived = plane.sample(
        lines.mixture, (system,), particles=800, seed=1, learned={stage: last.learned}
    )
    assert isinstance(arrived, plane.Arrived) and arrived.distance < 0.12


def test_training_is_the_same_again_and_stage_and_steps_are_checked(lines: plane.Lines) -> None:
    runs = [
        [
            report.loss
            for report in plane.learn(lines.mixture, "score", steps=6, lines=lines, report=3)
        ]
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 2
    with pytest.raises(BadRequest, match="no stage"):
        plane.learn(lines.mixture, "magic", lines=lines)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="training steps=0"):
        plane.learn(lines.mixture, "score", steps=0, lines=lines)
