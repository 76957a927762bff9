"""The smooth right inverse of block means: exact, idempotent, the least bending there is; laws that broken ones fail."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from lcm_studio.edits.seams import block_seam_score
from lcm_studio.operators import BlockMean, Compose, Histospline, Mask, project

CASES = {
    "p": st.integers(1, 8),
    "rows": st.integers(1, 9),
    "columns": st.integers(1, 9),
    "seed": st.integers(0, 10**6),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
}


def normal(shape, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)


def tolerance(dtype):
    return 2e-5 if dtype == torch.float32 else 1e-12


def exactness_gap(inverse, p, rows, columns, seed=0, dtype=torch.float64):
    """Largest |A S y - y| over pictures of unit spread."""
    y = normal((2, 3, rows, columns), seed, dtype)
    return float((BlockMean(p, rows * p, columns * p).A(inverse.pinv(y)) - y).abs().max())


def idempotence_gap(inverse, p, rows, columns, seed=0, dtype=torch.float64):
    """How far a second projection moves what a first has made."""
    op = BlockMean(p, rows * p, columns * p)
    x, y = normal((2, 3, rows * p, columns * p), seed, dtype), normal((2, 3, rows, columns), seed)
    once = project(op, x, y.to(dtype), inverse=inverse)
    assert once.shape == x.shape and once.dtype == dtype
    return float((project(op, once, y.to(dtype), inverse=inverse) - once).abs().max())


def bending(size):
    """The Gram matrix of second differences with reflected borders."""
    d = torch.diag(torch.full((size,), -2.0, dtype=torch.float64))
    d += torch.diag(torch.ones(size - 1, dtype=torch.float64), 1)
    d += torch.diag(torch.ones(size - 1, dtype=torch.float64), -1)
    d[0, 0] = d[-1, -1] = -1
    return d.T @ d


def bending_gap(inverse, p, blocks):
    """Distance of one axis of `inverse` to the solution of its constrained least squares, by the KKT system."""
    means = torch.eye(blocks, dtype=torch.float64).repeat_interleave(p, dim=1) / p
    zero = torch.zeros(blocks, blocks, dtype=torch.float64)
    system = torch.cat(
        [
            torch.cat([bending(blocks * p), means.T], dim=1),
            torch.cat([means, zero], dim=1),
        ]
    )
    right = torch.cat([torch.zeros(blocks * p, blocks, dtype=torch.float64), torch.eye(blocks)])
    solved = torch.linalg.solve(system, right.double())[: blocks * p]
    # one picture per block that is one, a single block wide: along the other axis they are flat
    made = inverse.pinv(torch.eye(blocks, dtype=torch.float64)[None, :, :, None])
    found = made[0].mean(-1).T
    return float((found - solved).abs().max())


@settings(max_examples=120, deadline=None)
@given(**CASES)
def test_means_are_met_exactly_and_once(p, rows, columns, seed, dtype):
    spline = Histospline(p)
    assert exactness_gap(spline, p, rows, columns, seed, dtype) < tolerance(dtype)
    assert idempotence_gap(spline, p, rows, columns, seed, dtype) < 5 * tolerance(dtype)


@settings(max_examples=40, deadline=None)
@given(p=st.integers(1, 8), blocks=st.integers(2, 9))
def test_nothing_that_has_the_means_bends_less(p, blocks):
    assert bending_gap(Histospline(p), p, blocks) < 1e-8


@settings(max_examples=40, deadline=None)
@given(damping=st.floats(0.001, 2), **CASES)
def test_damping_is_that_of_block_means(p, rows, columns, seed, dtype, damping):
    y = normal((1, 2, rows, columns), seed, dtype)
    op = BlockMean(p, rows * p, columns * p)
    wanted = op.A(op.pinv(y, damping))
    torch.testing.assert_close(op.A(Histospline(p).pinv(y, damping)), wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_masked_means_are_met_and_the_others_stay(p, rows, columns, seed, dtype):
    means = BlockMean(p, rows * p, columns * p)
    keep = (normal((1, 1, rows, columns), seed + 1) > 0).double()
    op = Compose(Mask(keep), means)
    x, y = normal((1, 3, rows * p, columns * p), seed, dtype), normal((1, 3, rows, columns), seed)
    out = project(op, x, (keep * y).to(dtype), inverse=Histospline(p))
    wanted = torch.where(keep > 0, y.to(dtype), means.A(x))
    assert float((means.A(out) - wanted).abs().max()) < 5 * tolerance(dtype)


class Loose(Histospline):
    """Broken: overshoots by a hundredth."""

    def pinv(self, y, damping=0.0):
        return super().pinv(y, damping) * 1.01


class Repeat(Histospline):
    """Exact, and not smooth: A+ itself."""

    def pinv(self, y, damping=0.0):
        return y.repeat_interleave(self.p, -1).repeat_interleave(self.p, -2)


class Sampled(Histospline):
    """Broken: bilinear, as smooth as can be, but its means are others."""

    def pinv(self, y, damping=0.0):
        return torch.nn.functional.interpolate(y, scale_factor=self.p, mode="bilinear")


def test_each_law_fails_on_a_broken_inverse():
    assert exactness_gap(Loose(4), 4, 5, 7) > 1e-3
    assert idempotence_gap(Loose(4), 4, 5, 7) > 1e-3
    assert exactness_gap(Sampled(4), 4, 5, 7) > 1e-3
    assert exactness_gap(Repeat(4), 4, 5, 7) < 1e-12
    assert bending_gap(Repeat(4), 4, 6) > 1e-2


@pytest.mark.parametrize("p", [2, 3, 4, 8])
def test_no_block_shows(p):
    y = torch.from_numpy(gaussian_filter(normal((1, 3, 24, 17), 0).numpy(), (0, 0, 2, 2)))

    def score(inverse):
        picture = 127 + 400 * inverse.pinv(y)[0].permute(1, 2, 0).numpy()
        return block_seam_score(picture, p)

    assert score(Repeat(p)) > 10
    assert score(Histospline(p)) < 1.15


def test_flat_pictures_stay_flat_and_mirrors_stay_mirrors():
    flat = torch.full((1, 3, 4, 6), 0.3, dtype=torch.float64)
    torch.testing.assert_close(Histospline(4).pinv(flat), torch.full((1, 3, 16, 24), 0.3).double())
    y = normal((1, 1, 5, 7), 3)
    made = Histospline(3).pinv(y)
    torch.testing.assert_close(Histospline(3).pinv(y.flip(-1)), made.flip(-1))
