"""The exact 8-bit finish, on adversarial input, judged on the PNG read back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from lcm_studio.edits import finish
from lcm_studio.edits.pixels import picture, tensor
from lcm_studio.edits.seams import block_seam_score
from lcm_studio.operators import LUMA, BlockMean, bicubic_downsample, gaussian_blur


def reread(pixels):
    """What a PNG file gives back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.asarray(Image.open(buffer))


def wild(rng, shape, kind):
    """Estimates as a network makes them, and worse: far outside the range, or black and white."""
    if kind == "noise":
        return rng.normal(127, 200, shape).astype(np.float32)
    if kind == "extremes":
        return np.where(rng.random(shape) < 0.5, -400, 700).astype(np.float32)
    return (rng.random(shape) * 255).astype(np.float32)


KINDS = st.sampled_from(["noise", "extremes", "plain"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kind=KINDS)
def test_masked_pixels_keep_their_bytes(seed, kind):
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    keep = rng.random((13, 17)) < 0.5
    out = reread(finish.keep_pixels(wild(rng, source.shape, kind), source, keep))
    assert np.array_equal(out[keep], source[keep])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kind=KINDS, dark=st.booleans())
def test_luma_is_met_within_one(seed, kind, dark):
    rng = np.random.default_rng(seed)
    y = rng.random((13, 17)) * 255 * sum(LUMA)
    if dark:
        y = np.where(rng.random(y.shape) < 0.5, 0, 255 * sum(LUMA))
    out = reread(finish.meet_luma(wild(rng, (13, 17, 3), kind), y))
    assert np.abs(out @ np.asarray(LUMA) - y).max() <= 0.51


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kind=KINDS, p=st.sampled_from([2, 3, 4, 8]))
def test_block_means_are_met_within_one(seed, kind, p):
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 255, *range(256)], (5, 3, 3)).astype(np.float64)
    out = reread(finish.meet_block_means(wild(rng, (5 * p, 3 * p, 3), kind), y, p))
    means = BlockMean(p, 5 * p, 3 * p).A(tensor(out).double())
    assert np.abs(picture(means[0]) - y).max() <= 0.5 / p**2 + 1e-3


@pytest.mark.parametrize("p", [2, 3, 4, 8])
@pytest.mark.parametrize("low", [60, -40])
def test_the_blocks_of_the_means_do_not_show(p, low):
    """Also where a part of the picture is black or white; shifting each block alone prints them."""
    rng = np.random.default_rng(p)
    size = (15 * p, 11 * p, 3)
    x = low + 67 + 250 * p * gaussian_filter(rng.normal(size=size), (2 * p, 2 * p, 0))
    x += rng.normal(
        0, 3, size
    )  # as pictures have; in a ramp of less than a level a pixel rounding shows
    y = BlockMean(p, *size[:2]).A(tensor(np.clip(x, 0, 255)).double())
    # what the estimate lacks is smooth, as the errors of networks are
    y = np.rint(picture(y[0]) + 40 * gaussian_filter(rng.normal(size=(15, 11, 3)), (1, 1, 0)))
    y = np.clip(y, 0, 255)
    out = finish.meet_block_means(x.astype(np.float32), y, p)
    gap = y - out.reshape(15, p, 11, p, 3).mean(axis=(1, 3))
    assert np.abs(gap).max() <= 0.5 / p**2 + 1e-9
    lacks = y - np.clip(x, 0, 255).reshape(15, p, 11, p, 3).mean(axis=(1, 3))
    alone = np.clip(x, 0, 255) + np.kron(lacks, np.ones((p, p, 1)))
    assert block_seam_score(out, p) < 1.15 < block_seam_score(alone, p)


def test_replace_clip_and_round_is_not_enough():
    """What the finish is for: the obvious way errs by tens of levels on the same input."""
    rng = np.random.default_rng(0)
    x, v = wild(rng, (32, 32, 3), "noise"), np.asarray(LUMA)
    y = rng.random((32, 32)) * 254
    naive = finish.to_bytes(x + ((y - x @ v) / (v @ v))[..., None] * v)
    assert np.abs(naive @ v - y).max() > 20


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (lambda: gaussian_blur(2.0, 48, 40), 30, 225),
        (lambda: gaussian_blur(2.0, 48, 40), 0, 256),
        (lambda: bicubic_downsample(4, 48, 40), 0, 256),
    ],
)
def test_blurs_are_met_within_one(make, low, high, seed):
    """Also where black and white next to each other leave little room in the box."""
    rng = np.random.default_rng(seed)
    op = make()
    coarse = np.kron(rng.integers(low, high, (6, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    y = np.rint(picture(op.A(tensor(coarse).double())[0])).astype(np.float32)
    x = np.clip(coarse + rng.normal(0, 25, coarse.shape), -40, 300).astype(np.float32)
    out = reread(finish.meet_operator(op, x, y, damping=1e-3))
    assert np.abs(picture(op.A(tensor(out).double())[0]) - y).max() <= 1.0
