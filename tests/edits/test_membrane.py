"""The inverse of a mask: what is wrong outside a hole goes on into it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.edits.harmonic import MOST, harmonic
from lcm_studio.edits.membrane import Membrane
from lcm_studio.operators import Mask, project


def holes(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hole = rng.random((height, width)) < 0.2
    top, left = rng.integers(0, height - 3), rng.integers(0, width - 3)
    hole[top : top + height // 2, left : left + width // 2] = True
    hole[tuple(rng.integers(0, (height, width)))] = False
    return hole


def mask_of(hole: np.ndarray) -> Mask:
    return Mask(torch.from_numpy(~hole).double()[None, None])


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(5, 24),
    width=st.integers(5, 24),
    channels=st.sampled_from([1, 3, 4]),
)
def test_known_pixels_are_met_and_the_continuation_is_harmonic(seed, height, width, channels):
    hole = holes(seed, height, width)
    op = mask_of(hole)
    generator = torch.Generator().manual_seed(seed)
    x, truth = torch.rand(2, 2, channels, height, width, generator=generator).double()
    y = op.A(truth)
    met = project(op, x, y, inverse=Membrane(hole))
    torch.testing.assert_close(op.A(met), y, atol=1e-6, rtol=0)
    again = project(op, met, y, inverse=Membrane(hole))
    torch.testing.assert_close(again, met, atol=1e-5, rtol=0)
    change = (met - x).numpy()
    added = np.pad(change, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    laplacian = (
        added[..., :-2, 1:-1] + added[..., 2:, 1:-1] + added[..., 1:-1, :-2] + added[..., 1:-1, 2:]
    ) - 4 * added[..., 1:-1, 1:-1]
    assert np.abs(laplacian[..., hole]).max() < 1e-5
    # a harmonic continuation stays within the range of what it continues
    assert change[..., hole].max() <= change[..., ~hole].max() + 1e-6
    assert change[..., hole].min() >= change[..., ~hole].min() - 1e-6


def test_a_tone_that_is_wrong_everywhere_is_put_right_inside_too():
    hole = np.zeros((24, 32), bool)
    hole[6:20, 8:30] = True
    op, truth = mask_of(hole), torch.rand(1, 3, 24, 32).double()
    estimate = truth - 0.25
    y = op.A(truth)
    met = project(op, estimate, y, inverse=Membrane(hole))
    torch.testing.assert_close(met, truth, atol=1e-6, rtol=0)
    assert float((project(op, estimate, y) - truth).abs().max()) == pytest.approx(0.25)


def test_damping_lets_the_estimate_through():
    hole = np.zeros((8, 8), bool)
    hole[2:5, 3:6] = True
    y = mask_of(hole).A(torch.rand(1, 3, 8, 8).double())
    membrane = Membrane(hole)
    torch.testing.assert_close(membrane.pinv(y, 1.0), membrane.pinv(y) / 2)


def test_a_large_hole_is_solved_at_half_size_and_its_border_stays_exact():
    hole = np.zeros((200, 180), bool)
    hole[20:170, 20:160] = True
    assert hole.sum() > MOST
    rows, columns = torch.meshgrid(torch.arange(200.0), torch.arange(180.0), indexing="ij")
    wave = torch.sin(rows / 40) * torch.exp(-columns / 40)  # harmonic, but for the grid
    y = mask_of(hole).A(wave[None, None].double())
    found = Membrane(hole).pinv(y)
    torch.testing.assert_close(mask_of(hole).A(found), y)
    exact = harmonic(y[0].permute(1, 2, 0).float().numpy(), hole, hole.size)[..., 0]
    assert np.abs(exact - found[0, 0].numpy()).max() < 0.05
    assert float((found[0, 0] - wave).abs().max()) < 0.05


def test_a_hole_without_an_outside_says_nothing():
    hole = np.ones((6, 6), bool)
    assert not Membrane(hole).pinv(torch.zeros(1, 3, 6, 6)).any()
