"""Around a hole only the cells that decide it are decoded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm_studio.edits.masks import window
from lcm_studio.engine import Engine, EngineConfig

CELL, REACH, RING = 8, 2, 8


@settings(max_examples=100, deadline=None)
@given(
    top=st.integers(0, 190),
    left=st.integers(0, 250),
    height=st.integers(1, 190),
    width=st.integers(1, 250),
)
def test_a_window_holds_the_hole_and_a_margin(top, left, height, width):
    hole = np.zeros((192, 256), bool)
    hole[top : top + height, left : left + width] = True
    box = window(hole, CELL, reach=REACH, ring=RING)
    inside = np.zeros_like(hole)
    if box is None:
        assert hole.mean() > 0.2
        return
    inside[box.top * CELL : box.bottom * CELL, box.left * CELL : box.right * CELL] = True
    rows, columns = (np.nonzero(hole.any(axis=a))[0] for a in (1, 0))
    near = np.zeros_like(hole)
    near[
        max(0, rows[0] - 2 * CELL) : rows[-1] + 1 + 2 * CELL,
        max(0, columns[0] - 2 * CELL) : columns[-1] + 1 + 2 * CELL,
    ] = True
    assert inside[near].all()


def test_a_hole_over_all_has_no_window():
    assert window(np.ones((64, 64), bool), CELL, reach=REACH, ring=RING) is None


@pytest.mark.parametrize(("top", "left"), [(0.16, 0.26), (0, 0.5), (0.47, 0.04)])
def test_a_window_decodes_to_its_part_of_the_picture(top, left):
    """With the bundled decoder, which is made of convolutions: what lies further moves no pixel by three levels."""
    with Engine(EngineConfig(device="cpu")) as engine, torch.inference_mode():
        model = engine.model("scenery-lcm")
        side = model.info.width
        cell = side // model.sample_shape(side, side)[2]
        hole = np.zeros((side, side), bool)
        first, start, across = int(top * side), int(left * side), side * 5 // 16
        hole[first : first + across, start : start + across] = True
        box = window(hole, cell, reach=model.decoder_reach, ring=RING)
        assert box is not None
        y, x = np.mgrid[:side, :side] * 6.4 / side
        waves = np.stack([np.sin(x + y), np.sin(3 * x) * np.cos(2 * y), np.cos(x - 4 * y)])
        z = model.encode(torch.from_numpy(waves).float()[None])
        whole = model.decode(z)
        part = model.decode(z[..., box.top : box.bottom, box.left : box.right])
    found = whole.clone()
    found[..., box.top * cell : box.bottom * cell, box.left * cell : box.right * cell] = part
    gap = (found.clamp(-1, 1) - whole.clamp(-1, 1)).abs()[0].amax(0).numpy() * 127.5
    assert gap[hole].max() < 3
    assert gap[hole].mean() < 0.1
