"""Levels of edits: along anchors, and on a model's grid."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.edits.schedules import (
    ANCHORS,
    along,
    default_anchors,
    default_eta,
    geometric,
    on_grid,
)
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.engine import default_folders

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


@pytest.mark.parametrize("task", [*ANCHORS, "superres5", "superres7"])
@pytest.mark.parametrize("steps", [1, 2, 4, 6, 8, 50])
def test_every_default_falls_and_keeps_some_fresh_noise(task, steps):
    levels = along(default_anchors(task, steps), steps)
    assert all(b < a for a, b in pairwise(levels))
    assert 0 < default_eta(task, steps) <= 1


def test_scales_between_go_by_8x():
    for steps in (4, 8):
        assert default_anchors("superres6", steps) == default_anchors("superres8", steps)
        assert default_eta("superres6", steps) == default_eta("superres8", steps)


@pytest.mark.parametrize("name", ["scenery-lcm", "scenery-teacher"])
def test_the_nearest_member_of_the_grid_is_taken(name):
    model = Engine(EngineConfig(models_dirs=default_folders())).model(name)
    grid = model.grid(model.info.max_steps) if model.info.consistency else range(999, -1, -1)
    logs = [math.log(min(max(model.schedule.ve_sigma(t), 1e-6), 1e6)) for t in grid]
    for wanted in (1e-3, 0.1, 0.37, 1.0, 2.6, 9.0, 80.0, 1e4):
        at = math.log(wanted)
        best = min(range(len(logs)), key=lambda i: abs(logs[i] - at))
        assert on_grid([wanted], model) == [float(grid[best])]
