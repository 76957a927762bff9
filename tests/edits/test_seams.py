"""Blending inside a hole, and the score that tells whether its border can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lcm_studio.edits.seams import poisson, seam_score


def hills(seed, size=(96, 112), across=3.0):
    """A smooth random picture in [0, 255] that changes `across` times as much downwards as sideways."""
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.normal(size=(*size, 3)), (2, 2 * across, 0))
    return (127 + 50 * x / x.std()).clip(0, 255).astype(np.float32)


def holes(size=(96, 112)):
    box, side, disc = (np.zeros(size, bool) for _ in range(3))
    box[30:70, 25:80] = True
    side[:, 70:] = True
    y, x = np.ogrid[: size[0], : size[1]]
    disc |= (y - 48) ** 2 + (x - 50) ** 2 < 27**2
    return {"box": box, "side": side, "disc": disc}


@pytest.mark.parametrize("hole", holes().values(), ids=holes())
def test_an_untouched_picture_scores_one_whatever_its_direction(hole):
    found = [seam_score(hills(seed, across=a), hole) for seed in range(8) for a in (1 / 3, 1, 3)]
    assert np.mean(found) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("hole", holes().values(), ids=holes())
def test_a_step_at_the_border_scores_more(hole):
    scores = [
        seam_score(np.where(hole[..., None], hills(1) + step, hills(1)), hole)
        for step in (0, 4, 16)
    ]
    assert scores[0] < scores[1] < scores[2]
    assert scores[2] > 1.5


@pytest.mark.parametrize("hole", holes().values(), ids=holes())
@pytest.mark.parametrize("times", [1, 3], ids=["small", "at a quarter"])
def test_blending_leaves_no_seam_and_no_known_pixel_changed(hole, times):
    """The known side has grain that the made one lacks, another colour, and a step of its own at the border."""
    rng = np.random.default_rng(0)
    hole = np.kron(hole, np.ones((times, times), bool))
    hill = hills(2, hole.shape)
    known = hill + rng.normal(0, 2, hill.shape).astype(np.float32)
    made = hill + 9 + np.where(hole[..., None], 14, 0).astype(np.float32)
    pasted = np.where(hole[..., None], made, known)
    blended = poisson(made, known, hole)
    assert (blended[~hole] == known[~hole]).all()
    assert seam_score(pasted, hole) > 1.6
    assert seam_score(blended, hole) < 1.15
    deep = gaussian_filter(hole.astype(float), 6) > 0.99
    assert np.abs(blended - hill)[deep].mean() < 4  # the offset is gone inside, too


def test_a_made_picture_that_fits_stays_as_it_is():
    """A linear ramp has the same step everywhere, so that nothing is to be mended."""
    y, x = np.mgrid[:40, :50].astype(np.float32)
    picture = np.stack([y + x, 2 * y, 3 * x], axis=-1)
    hole = np.zeros((40, 50), bool)
    hole[10:25, 12:40] = True
    np.testing.assert_allclose(poisson(picture, picture, hole), picture, atol=1e-4)
