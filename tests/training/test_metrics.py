"""Metrics against closed forms and against other people's implementations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from training.metrics import (
    frechet,
    frechet_distance,
    frechet_unbiased,
    moments,
    pairwise_diversity,
    psnr,
    ssim,
)
from training.scenery.evaluation.agreement import agreement_by_attribute, prompt_agreement


def gaussian(seed: int, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    return rng.standard_normal(size), root @ root.T + 0.1 * np.eye(size)


def test_frechet_of_one_dimension_is_closed_form() -> None:
    got = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[9.0]]))
    assert got == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2, rel=1e-12)


def test_frechet_of_commuting_covariances_is_closed_form() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    a, b = rng.uniform(0.1, 3, 5), rng.uniform(0.1, 3, 5)
    mean = rng.standard_normal(5)
    got = frechet_distance(mean, turn * a @ turn.T, mean + 0.5, turn * b @ turn.T)
    assert got == pytest.approx(5 * 0.25 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_frechet_equals_the_form_with_a_matrix_square_root(seed: int) -> None:
    (m1, c1), (m2, c2) = gaussian(seed), gaussian(seed + 100)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(m2, c2, m1, c1) == pytest.approx(expected, rel=1e-9)


def test_frechet_survives_singular_covariances_and_vanishes_on_equals() -> None:
    few = np.random.default_rng(1).standard_normal((5, 40)).astype(np.float32)
    assert frechet(few, few) == pytest.approx(0, abs=1e-5)
    assert np.isfinite(frechet(few, few[:3]))
    assert frechet(few, few + 2) == pytest.approx(40 * 4, rel=1e-5)


def test_frechet_grows_as_samples_shrink_and_extrapolation_undoes_it() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((400, 24)), rng.standard_normal((20000, 24))
    assert frechet(a[:100], b) > frechet(a, b) > 0.2
    assert abs(frechet_unbiased(a, b)) < 0.35 * frechet(a, b)
    with pytest.raises(ValueError, match="too few to extrapolate"):
        frechet_unbiased(a[:50], b)


def test_wrong_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"use \(N, D\)"):
        moments(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="different widths"):
        frechet(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"use \(N, D\)"):
        pairwise_diversity(np.zeros((1, 4)))


def test_agreement_counts_only_what_the_caption_names() -> None:
    shown = [
        {"time": "night", "body": "moon", "side": "left", "house": "red"},
        {"time": "day", "body": "none", "side": "none", "house": "blue"},
    ]
    captions = ["night, moon on the right", "day, blue house"]
    assert prompt_agreement(captions, shown) == pytest.approx((2 / 3 + 1) / 2)
    assert agreement_by_attribute(captions, shown) == {
        "body": 1.0, "house": 1.0, "side": 0.0, "time": 1.0,
    }  # fmt: skip
    assert prompt_agreement(["a dragon", "day"], shown) == 1.0
    with pytest.raises(ValueError, match="no caption names"):
        prompt_agreement(["a dragon", ""], shown)


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert pairwise_diversity(points) == pytest.approx((5 + 0 + 5) / 3)


def test_psnr_of_a_known_error() -> None:
    a = torch.full((2, 3, 16, 16), 0.5)
    b = a.clone()
    b[1] += 0.1
    got = psnr(a, b)
    assert torch.isinf(got[0])
    assert got[1].item() == pytest.approx(20, abs=1e-4)
    with pytest.raises(ValueError, match="use two"):
        psnr(a, b[:1])


def test_ssim_is_one_for_equal_pictures_and_less_for_noisy_ones() -> None:
    rng = np.random.default_rng(3)
    a = torch.from_numpy(rng.random((2, 3, 32, 40)))
    noisy = (a + 0.1 * torch.from_numpy(rng.standard_normal(a.shape))).clamp(0, 1)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])
    assert bool((ssim(a, noisy) < 0.99).all())
    with pytest.raises(ValueError, match="11-pixel window"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
