"""Levels of edits: along anchors, and on a model's grid."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.edits.schedule import (
    BOTTOM,
    along,
    anchors_of,
    geometric,
    on_grid,
    schedule_for,
    top_of_extent,
)
from lcm_studio.edits.task import Relaxed
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.engine import default_folders
from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.spec.fitted import Fit, Fitted
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Edit
from tests.edits.gaussian import FITTED, fit

falling = st.lists(st.floats(0.05, 80), min_size=2, max_size=6, unique=True).map(
    lambda v: sorted(v, reverse=True)
)


@given(falling, st.integers(1, 50))
def test_levels_fall_from_the_first_anchor_to_the_last(anchors, steps):
    levels = along(anchors, steps)
    assert len(levels) == steps
    assert levels[0] == pytest.approx(anchors[0])
    assert steps == 1 or levels[-1] == pytest.approx(anchors[-1])
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(levels))


@given(falling)
def test_as_many_levels_as_anchors_are_the_anchors(anchors):
    assert along(anchors, len(anchors)) == pytest.approx(anchors)


@given(st.floats(1, 80), st.floats(0.05, 0.9), st.integers(2, 50))
def test_two_anchors_give_a_geometric_fall(first, last, steps):
    ratio = (last / first) ** (1 / (steps - 1))
    assert geometric(first, last, steps) == pytest.approx([first * ratio**k for k in range(steps)])


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 8, 50])
def test_every_fitted_schedule_falls_and_keeps_some_fresh_noise(steps):
    for task in (*FITTED.tasks, "superres5", "superres7"):
        numbers = fit(task, steps)
        levels = along(numbers.levels, steps)
        assert all(b < a for a, b in pairwise(levels))
        assert 0 < numbers.eta <= 1


@pytest.mark.parametrize("steps", [4, 8])
def test_scales_between_go_by_the_next_larger_one(steps):
    assert fit("superres6", steps) == fit("superres8", steps) != fit("superres4", steps)
    alone = Fitted(tasks={"superres2": FITTED.tasks["superres2"]})
    assert alone.fit("superres4", steps) == alone.fit("superres2", steps)
    assert Fitted().fit("superres4", steps) is None


def test_where_levels_were_fitted_at_one_noise_they_follow_it():
    numbers = fit("denoise", 4)
    assert anchors_of(numbers, 0.2)[0] == pytest.approx(2 * anchors_of(numbers, 0.1)[0])
    for sigma in (1 / 255, 0.03, 0.1, 0.3, 1.0):
        first, last = anchors_of(numbers, sigma)
        assert 0 < last <= first / 2


class Plain:
    """What a schedule needs of a model: a pixel model of unit cells on Karras levels."""

    latent = True
    schedule = KarrasSchedule()

    def __init__(self, fitted=None):
        self.info = ModelInfo(
            id="plain", path="", kind="lcm", width=64, height=64, multiple=8, guidance="none",
            consistency=True, fitted=fitted,
        )  # fmt: skip

    def levels(self):
        return [float(self.schedule.sigma_at(i)) for i in range(len(self.schedule))]

    def grid(self, steps, timesteps=None, *, kind=None, size=None):
        return [float(t) for t in timesteps or self.levels()]

    def sample_shape(self, width, height):
        return 4, height // 8, width // 8


def of(settings, model, steps=4, **more):
    request = Edit(task="deblur", image=np.zeros((8, 8, 3), np.uint8), steps=steps)
    return schedule_for(request, settings, model, **{"top": 2.0, **more})


def test_the_textbook_falls_geometrically_from_its_top_with_all_noise_fresh():
    schedule = of(Relaxed(), Plain())
    assert (schedule.eta, schedule.noise_scale, schedule.emphasis) == (1, 1, 0)
    assert schedule.relax == (0, 0, 0, 0) and schedule.source == "textbook"
    assert schedule.levels == tuple(on_grid(geometric(2.0, BOTTOM, 4), Plain()))


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.06, 0.09, 0.1, 0.5])
def test_where_the_noise_hides_little_nothing_is_over_relaxed(noise):
    pair = replace(fit("denoise", 4), relax_last=(0.2,), relax_from=0.05)
    schedule = of(Relaxed(), Plain(Fitted(tasks={"deblur": (pair, pair)})), noise=noise)
    share = min(max(noise / 0.05 - 1, 0), 1)
    assert schedule.relax == pytest.approx((0, 0, 0, 0.2 * share))


def test_fitted_numbers_hold_until_the_user_says_otherwise():
    few = Fit(
        levels=(1.5, 0.5), eta=0.7, noise_scale=0.6, relax_first=(0.4,), relax_last=(0.1, 0.3)
    )
    model = Plain(
        Fitted(tasks={"deblur": (few, replace(few, eta=0.9))}, made={"date": "2026-01-02"})
    )
    schedule = of(Relaxed(), model)
    assert schedule.levels == tuple(on_grid(geometric(1.5, 0.5, 4), model))
    assert (schedule.eta, schedule.noise_scale) == (0.7, 0.6)
    assert schedule.relax == (0.4, 0, 0.1, 0.3)
    assert schedule.source == "fitted on 2026-01-02"
    assert of(Relaxed(), model, steps=8).eta == 0.9
    assert of(Relaxed(), model, steps=1).relax == (0,)
    assert of(Relaxed(), model, steps=1).noise_scale == 1  # less noise goes with late relaxation
    told = of(Relaxed(eta=1.0, noise_scale=0.8, relax=(0.2,), levels=(3.0, 1.0)), model)
    assert (told.eta, told.noise_scale, told.relax) == (1, 0.8, (0.2, 0))
    assert of(Relaxed(), model, by_strength=True).levels[0] == of(Relaxed(), Plain()).levels[0]


def test_larger_holes_and_wider_blurs_start_higher():
    tops = [top_of_extent(pixels, Plain()) for pixels in (16, 32, 64)]
    assert tops == [2.0, 4.0, 8.0]
    assert top_of_extent(1, Plain()) == 2 * BOTTOM


@pytest.mark.parametrize("name", ["scenery-lcm", "scenery-teacher"])
def test_the_nearest_member_of_the_grid_is_taken(name):
    model = Engine(EngineConfig(models_dirs=default_folders())).model(name)
    grid = model.grid(model.info.max_steps) if model.info.consistency else range(999, -1, -1)
    logs = [math.log(min(max(model.schedule.ve_sigma(t), 1e-6), 1e6)) for t in grid]
    for wanted in (1e-3, 0.1, 0.37, 1.0, 2.6, 9.0, 80.0, 1e4):
        at = math.log(wanted)
        best = min(range(len(logs)), key=lambda i: abs(logs[i] - at))
        assert on_grid([wanted], model) == [float(grid[best])]
