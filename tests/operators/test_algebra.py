"""The laws every operator obeys, over odd sizes, channel counts and dtypes; each law catches a broken operator."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lcm_studio.operators import (
    BlockMean,
    Compose,
    Convolution,
    Identity,
    LinearOperator,
    Luma,
    Mask,
    Neutral,
    bicubic_downsample,
    gaussian_blur,
    gaussian_downsample,
    gaussian_kernel,
    line_blur,
    motion_kernel,
    project,
)

KINDS = (
    "identity",
    "mask",
    "luma",
    "blocks",
    "blur",
    "bicubic",
    "blur-down",
    "motion",
    "mask-of-blocks",
    "luma-of-blocks",
    "mask-of-blur",
)


def norm(x: Tensor) -> Tensor:
    """Euclidean norm per image `(B,)`."""
    return x.flatten(1).norm(dim=1)


def keep(height: int, width: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(1, 1, height, width, generator=g) > 0.4).double()


def build(kind: str, channels: int, height: int, width: int, seed: int) -> LinearOperator:
    """An operator of this kind for `(B, channels, height, width)`."""
    weights = (torch.rand(channels, generator=torch.Generator().manual_seed(seed)) + 0.1).tolist()
    match kind:
        case "identity":
            return Identity()
        case "mask":
            return Mask(keep(height, width, seed))
        case "luma":
            return Luma(weights)
        case "blocks":
            return BlockMean(3, height, width)
        case "blur":
            return gaussian_blur(0.8, height, width)
        case "bicubic":
            return bicubic_downsample(2, height - height % 2, width - width % 2)
        case "blur-down":
            return gaussian_downsample(0.7, 2, height - height % 2, width - width % 2)
        case "motion":
            return Convolution(motion_kernel(4.0, 30.0), height, width, iterations=400)
        case "mask-of-blocks":
            blocks = BlockMean(3, height, width)
            return Compose(Mask(keep(blocks.rows, blocks.columns, seed)), blocks)
        case "luma-of-blocks":
            return Compose(Luma(weights), BlockMean(2, height, width))
        case "mask-of-blur":
            return Compose(Mask(keep(height, width, seed)), gaussian_blur(0.6, height, width))
    raise AssertionError(kind)


def images(
    kind: str, channels: int, height: int, width: int, seed: int, dtype: torch.dtype
) -> Tensor:
    """Two random images of a size that the kind takes."""
    if kind in ("bicubic", "blur-down"):
        height, width = height - height % 2, width - width % 2
    g = torch.Generator().manual_seed(seed + 1)
    return torch.randn(2, channels, height, width, generator=g, dtype=torch.float64).to(dtype)


CASES = {
    "kind": st.sampled_from(KINDS),
    "channels": st.integers(1, 5),
    "height": st.integers(8, 15),
    "width": st.integers(8, 15),
    "seed": st.integers(0, 10**6),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
}


def tolerance(dtype: torch.dtype) -> float:
    return 2e-4 if dtype == torch.float32 else 1e-6


def adjoint_gap(op: LinearOperator, x: Tensor, seed: int = 0) -> Tensor:
    """|<A x, y> - <x, A^T y>| / (|A x| |y|) per image."""
    image = op.A(x)
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(image.shape, generator=g, dtype=torch.float64).to(x.dtype)
    left = (image * y).flatten(1).sum(1)
    right = (x * op.At(y)).flatten(1).sum(1)
    return (left - right).abs() / (norm(image) * norm(y) + 1e-30)


def pinv_gap(op: LinearOperator, x: Tensor) -> Tensor:
    """|A A+ A x - A x| / |A x| per image."""
    y = op.A(x)
    return norm(op.A(op.pinv(y)) - y) / (norm(y) + 1e-30)


def projection_gap(op: LinearOperator, x: Tensor, other: Tensor) -> Tensor:
    """How far a second projection moves what a first has made."""
    once = project(op, x, op.A(other))
    return norm(project(op, once, op.A(other)) - once) / (norm(once) + 1e-30)


def symmetry_gap(op: LinearOperator, x: Tensor, other: Tensor) -> Tensor:
    """|<A+ A x, x'> - <x, A+ A x'>|: the projection is orthogonal, so A+ is the Moore-Penrose inverse."""
    left = (op.pinv(op.A(x)) * other).flatten(1).sum(1)
    right = (x * op.pinv(op.A(other))).flatten(1).sum(1)
    return (left - right).abs() / (norm(x) * norm(other))


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_the_adjoint_is_the_adjoint(kind, channels, height, width, seed, dtype):
    op = build(kind, channels, height, width, seed)
    x = images(kind, channels, height, width, seed, dtype)
    assert (adjoint_gap(op, x) < 1e-5).all()


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_a_pinv_a_is_a_and_projection_is_idempotent(kind, channels, height, width, seed, dtype):
    op = build(kind, channels, height, width, seed)
    x = images(kind, channels, height, width, seed, dtype)
    other = images(kind, channels, height, width, seed + 7, dtype)
    assert (pinv_gap(op, x) < tolerance(dtype)).all()
    assert (projection_gap(op, x, other) < 10 * tolerance(dtype)).all()
    assert (symmetry_gap(op, x, other) < 10 * tolerance(dtype)).all()


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_projection_meets_the_known_part_and_stays_in_the_dtype(
    kind, channels, height, width, seed, dtype
):
    op = build(kind, channels, height, width, seed)
    x = images(kind, channels, height, width, seed, dtype)
    y = op.A(images(kind, channels, height, width, seed + 3, dtype))
    out = project(op, x, y)
    assert out.shape == x.shape and out.dtype == dtype
    assert (norm(op.A(out) - y) < 10 * tolerance(dtype) * (norm(y) + norm(x))).all()


@settings(max_examples=60, deadline=None)
@given(damping=st.floats(0.01, 10), **CASES)
def test_damped_pinv_solves_the_damped_equation(
    kind, channels, height, width, seed, dtype, damping
):
    op = build(kind, channels, height, width, seed)
    y = op.A(images(kind, channels, height, width, seed, dtype))
    answer = op.pinv(y, damping)
    residual = op.At(op.A(answer)) + damping * answer - op.At(y)
    assert (norm(residual) < 10 * tolerance(dtype) * (norm(op.At(y)) + norm(y))).all()


class HalfAdjoint(Luma):
    """Broken: the adjoint is off by a factor."""

    def At(self, y):
        return super().At(y) * 0.5


class SwappedAdjoint(BlockMean):
    """Broken: the adjoint is the pseudo-inverse; sums of signed differences would hide it on constants."""

    def At(self, y):
        return self.pinv(y)


class LooseInverse(BlockMean):
    """Broken: A+ overshoots."""

    def pinv(self, y, damping=0.0):
        return super().pinv(y, damping) * 1.01


class OutsideInverse(Mask):
    """Broken: A+ writes into the unknown part, which A A+ A = A alone does not see."""

    def pinv(self, y, damping=0.0):
        return y + (1 - self._as(y)) * y.mean()


def test_each_law_fails_on_a_broken_operator():
    x = images("luma", 3, 12, 10, 0, torch.float64)
    other = images("luma", 3, 12, 10, 5, torch.float64)
    assert (adjoint_gap(HalfAdjoint(), x) > 1e-3).any()
    assert (adjoint_gap(SwappedAdjoint(3, 12, 10), x) > 1e-3).any()
    loose = LooseInverse(3, 12, 10)
    assert (pinv_gap(loose, x) > 1e-3).all()
    assert (projection_gap(loose, x, other) > 1e-6).all()
    outside = OutsideInverse(keep(12, 10, 1))
    assert (pinv_gap(outside, x) < 1e-9).all()
    assert (symmetry_gap(outside, x, other) > 1e-3).any()


def test_closed_forms_of_the_papers():
    x = images("luma", 3, 8, 8, 0, torch.float64)
    v = torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64)
    y = torch.einsum("c,bchw->bhw", v, x)[:, None]
    torch.testing.assert_close(Luma().A(x), y)
    torch.testing.assert_close(Luma().pinv(y), v.reshape(1, 3, 1, 1) * y / v.dot(v))
    means = torch.nn.functional.avg_pool2d(x, 4)
    torch.testing.assert_close(BlockMean(4, 8, 8).A(x), means)
    nearest = torch.nn.functional.interpolate(means, scale_factor=4, mode="nearest")
    torch.testing.assert_close(BlockMean(4, 8, 8).pinv(means), nearest)


def test_block_means_agree_with_opencv():
    import cv2

    x = torch.rand(1, 3, 24, 16, dtype=torch.float64)
    small = cv2.resize(x[0].permute(1, 2, 0).numpy(), (4, 6), interpolation=cv2.INTER_AREA)
    torch.testing.assert_close(BlockMean(4, 24, 16).A(x)[0].permute(1, 2, 0).numpy(), small)


def test_blurs_keep_constants_and_sum_to_one():
    flat = torch.full((1, 2, 21, 17), 0.7, dtype=torch.float64)
    for op in (
        gaussian_blur(1.3, 21, 17),
        Convolution(motion_kernel(7, 40), 21, 17),
        BlockMean(4, 21, 17),
    ):
        torch.testing.assert_close(op.A(flat).min(), op.A(flat).max())
        torch.testing.assert_close(op.A(flat).mean().item(), 0.7)
    assert float(gaussian_kernel(2.5).sum()) == pytest.approx(1)


def test_a_horizontal_motion_blur_equals_its_rows():
    x = torch.randn(1, 1, 12, 20, dtype=torch.float64)
    kernel = motion_kernel(5, 0)
    rows = line_blur(kernel[kernel.shape[0] // 2], 12, 20, along=1)
    torch.testing.assert_close(Convolution(kernel, 12, 20).A(x), rows.A(x))
    columns = line_blur(kernel[kernel.shape[0] // 2], 12, 20, along=0)
    torch.testing.assert_close(Convolution(kernel.T, 12, 20).A(x), columns.A(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlockMean(9, 8, 8),
        lambda: gaussian_blur(8.0, 16, 16),
        lambda: gaussian_blur(float("nan"), 16, 16),
        lambda: bicubic_downsample(3, 16, 16),
        lambda: Convolution(motion_kernel(40, 0), 16, 16),
        lambda: Mask(torch.full((1, 1, 4, 4), 0.5)),
        lambda: Luma((0.0, 0.0)),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(make):
    from lcm_studio.spec.errors import BadRequest

    with pytest.raises(BadRequest) as error:
        make()
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_the_neutral_way_back_from_luma_leaves_colours_alone():
    from lcm_studio.spec.errors import BadRequest

    x = images("luma", 3, 8, 8, 0, torch.float64)
    y = Luma().A(images("luma", 3, 8, 8, 5, torch.float64))
    met = project(Luma(), x, y, inverse=Neutral())
    torch.testing.assert_close(Luma().A(met), y)
    torch.testing.assert_close(met[:, :1] - met[:, 1:], x[:, :1] - x[:, 1:])
    # A+ does not: it tints
    tinted = project(Luma(), x, y)
    assert (tinted[:, :1] - tinted[:, 1:] - (x[:, :1] - x[:, 1:])).abs().max() > 0.1
    grey = torch.full((1, 3, 4, 4), 0.2, dtype=torch.float64)
    grey_met = project(Luma(), grey, 0.7 * Luma().A(grey), inverse=Neutral())
    torch.testing.assert_close(grey_met, 0.7 * grey)
    torch.testing.assert_close(Neutral().pinv(y, 1.0), Neutral().pinv(y) / 2)
    with pytest.raises(BadRequest, match="add up to zero"):
        Neutral((1.0, -1.0))
