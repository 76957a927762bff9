"""The filter of a noisy residual against the posterior of the Gaussian world that it is written for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm_studio.operators import Correlated, Identity, project

CORNER = 0.2

SIZES = {"height": st.integers(1, 13), "width": st.integers(1, 13), "seed": st.integers(0, 10**6)}


def normal(shape, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)


def covariance(height, width):
    """K as a matrix over the pixels, from its definition; the mean's variance is large instead of infinite."""
    y, x = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    total = torch.zeros(height * width, height * width, dtype=torch.float64)
    for j in range(height):
        for i in range(width):
            wave = torch.cos(torch.pi * j * (y + 0.5) / height)[:, None]
            wave = (wave * torch.cos(torch.pi * i * (x + 0.5) / width)[None]).flatten()
            wave = wave / wave.norm()
            w = ((j / height) ** 2 + (i / width) ** 2) ** 0.5
            power = 1e9 if w == 0 else 1 / (w * (1 + (w / CORNER) ** 2))
            total += power * torch.outer(wave, wave)
    return total


def posterior_gap(inverse, height, width, seed, damping):
    """Distance of `project` to E[x | y], errors of x of covariance K and noise of variance `damping`."""
    x, y = normal((1, 1, height, width), seed), normal((1, 1, height, width), seed + 1)
    k = covariance(height, width)
    noisy = k + damping * torch.eye(len(k), dtype=torch.float64)
    wanted = x.flatten() + k @ torch.linalg.solve(noisy, (y - x).flatten())
    found = project(Identity(), x, y, damping, inverse=inverse)
    return float((found.flatten() - wanted).abs().max())


@settings(max_examples=30, deadline=None)
@given(damping=st.floats(0.01, 20), **SIZES)
def test_it_is_the_posterior_mean(height, width, seed, damping):
    assert posterior_gap(Correlated(CORNER), height, width, seed, damping) < 1e-6


@settings(max_examples=30, deadline=None)
@given(dtype=st.sampled_from([torch.float32, torch.float64]), **SIZES)
def test_without_noise_everything_is_believed(height, width, seed, dtype):
    x, y = (normal((2, 3, height, width), s, dtype) for s in (seed, seed + 1))
    out = project(Identity(), x, y, 0.0, inverse=Correlated(CORNER))
    assert out.dtype == dtype
    torch.testing.assert_close(out, y, atol=1e-5, rtol=1e-5)


def test_tones_are_believed_and_grain_is_not():
    flat = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    grain = flat * torch.where(torch.arange(32) % 2 == 0, 1.0, -1.0)
    torch.testing.assert_close(Correlated(CORNER).pinv(flat, 1.6), flat)
    kept = Correlated(CORNER).pinv(grain, 1.6)[
        ..., 4:-4, 4:-4
    ]  # at the border its mirror image is a tone
    assert float(kept.abs().max()) < 0.1


class White(Correlated):
    """Broken: one weight for all frequencies, so that a part of the grain stays."""

    def pinv(self, y, damping=0.0):
        return y / (1 + damping)


@pytest.mark.parametrize("damping", [0.1, 1.6])
def test_the_law_fails_on_a_broken_filter(damping):
    assert posterior_gap(White(CORNER), 9, 7, 0, damping) > 0.01
