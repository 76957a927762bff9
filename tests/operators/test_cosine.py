"""Operators by cosines against the same ones as dense matrices, written from their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm_studio.operators import (
    Cosine,
    bicubic_downsample,
    gaussian_blur,
    gaussian_downsample,
    gaussian_kernel,
)
from lcm_studio.operators.cosines import dct, fold, idct, ratios, unfold

SIZES = {"p": st.integers(1, 8), "rows": st.integers(4, 7), "columns": st.integers(4, 7)}


def reflected(index: int, size: int) -> int:
    index %= 2 * size
    return 2 * size - 1 - index if index >= size else index


def blurs(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """Convolution with `kernel`, borders reflected, `(size, size)`."""
    radius = len(kernel) // 2
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for x in range(size):
        for t, weight in enumerate(kernel.tolist()):
            matrix[x, reflected(x + t - radius, size)] += weight
    return matrix


def means(size: int, p: int) -> torch.Tensor:
    return torch.eye(size // p, dtype=torch.float64).repeat_interleave(p, dim=1) / p


def keys(x: float, a: float = -0.5) -> float:
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def bicubic(size: int, p: int) -> torch.Tensor:
    matrix = torch.zeros(size // p, size, dtype=torch.float64)
    for i in range(size // p):
        middle = (i + 0.5) * p - 0.5
        near = range(int(middle) - 2 * p - 1, int(middle) + 2 * p + 3)
        weights = [keys((x - middle) / p) for x in near]
        for x, weight in zip(near, weights, strict=True):
            matrix[i, reflected(x, size)] += weight / sum(weights)
    return matrix


def gap(op: Cosine, down: torch.Tensor, right: torch.Tensor, damping: float) -> float:
    """The largest difference of A, A^T and the damped A+ to those of the matrices."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, down.shape[1], right.shape[1], generator=g, dtype=torch.float64)
    y = down @ x @ right.T
    whole = torch.kron(down, right)
    gram = whole @ whole.T + damping * torch.eye(len(whole), dtype=torch.float64)
    solved = (torch.linalg.solve(gram, y.flatten(2).flatten(0, 1).T).T @ whole).reshape(x.shape)
    pairs = ((op.A(x), y), (op.At(y), down.T @ y @ right), (op.pinv(y, damping), solved))
    return max(float((a - b).abs().max()) for a, b in pairs)


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(0.3, 1.2), damping=st.floats(0.001, 1), **SIZES)
def test_blurs_are_their_matrices(p, rows, columns, sigma, damping):
    kernel = gaussian_kernel(sigma)
    height, width = rows + 2, columns + 2
    op = gaussian_blur(sigma, height, width)
    assert gap(op, blurs(kernel, height), blurs(kernel, width), damping) < 1e-9


@settings(max_examples=20, deadline=None)
@given(damping=st.floats(0.001, 1), **SIZES)
def test_downsampling_is_its_matrices(p, rows, columns, damping):
    height, width = rows * p, columns * p
    op = bicubic_downsample(p, height, width)
    assert gap(op, bicubic(height, p), bicubic(width, p), damping) < 1e-9
    sigma = 0.3 * p
    kernel = gaussian_kernel(sigma)
    if len(kernel) // 2 < min(height, width):
        op = gaussian_downsample(sigma, p, height, width)
        sides = (means(size, p) @ blurs(kernel, size) for size in (height, width))
        assert gap(op, *sides, damping) < 1e-9


def test_a_wrong_transfer_is_not_the_matrix():
    op = gaussian_blur(0.8, 9, 9)
    kernel = gaussian_kernel(0.9)
    assert gap(op, blurs(kernel, 9), blurs(kernel, 9), 0.1) > 1e-3


@given(p=st.integers(1, 8), m=st.integers(1, 9))
def test_folding_and_unfolding_are_adjoint(p, m):
    g = torch.Generator().manual_seed(p * m)
    x = torch.randn(2, 3, p * m, 4, generator=g, dtype=torch.float64)
    y = torch.randn(2, 3, m, 4, generator=g, dtype=torch.float64)
    assert float((fold(x, p, -2) * y).sum()) == pytest.approx(float((x * unfold(y, p, -2)).sum()))


@given(p=st.sampled_from([1, 3, 5, 7]), m=st.integers(1, 9))
def test_the_middles_of_blocks_see_one_cosine_for_p_of_them(p, m):
    """For odd p the middle of a block is a sample."""
    g = torch.Generator().manual_seed(p * m)
    x = torch.randn(1, 1, p * m, p, generator=g, dtype=torch.float64)
    coarse = fold(fold(dct(x) * ratios(p * m, p)[:, None] * ratios(p, p), p, -2), p, -1)
    wanted = x[..., p // 2 :: p, p // 2 :: p]
    torch.testing.assert_close(idct(coarse), wanted)
