"""Numbers for pictures and features: Frechet distance, PSNR, SSIM, diversity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


def moments(features: Array) -> tuple[Array, Array]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), in float64."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features have shape {x.shape}; use (N, D) with N of 2 or more")
    return x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])


def frechet_distance(mean1: Array, cov1: Array, mean2: Array, cov2: Array) -> float:
    """Squared 2-Wasserstein distance of two Gaussians (Dowson and Landau 1982, eq. 4).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), means (D,), covariances (D, D).
    Both roots come from eigenvalues of symmetric matrices, so singular covariances, which
    samples fewer than D give, need no jitter and the result has no imaginary part.
    """
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape:
        raise ValueError(
            f"features of different widths: {mean1.shape} and {mean2.shape}; "
            "compare features of one network"
        )
    values, vectors = np.linalg.eigh(_symmetric(cov1))
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(_symmetric(root @ _symmetric(cov2) @ root))
    gap = float(((mean1 - mean2).astype(np.float64) ** 2).sum())
    spread = float(np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(cross.clip(0)).sum())
    return max(0.0, gap + spread)


def _symmetric(matrix: Array) -> Array:
    m = np.asarray(matrix, np.float64)
    return (m + m.T) / 2


def frechet(a: Array, b: Array) -> float:
    """Frechet distance of two sets of features (N, D) and (M, D).

    The estimate is too high by a term in 1/N + 1/M that differs between models (Chong and
    Forsyth 2020, sec. 3). Compare figures only at equal N and M, and read them against the
    distance of two disjoint sets of real pictures, which is that term alone.
    """
    return frechet_distance(*moments(a), *moments(b))


def frechet_unbiased(a: Array, b: Array, *, points: int = 8, seed: int = 0) -> float:
    """Distance extrapolated to endless samples (FID-infinity, Chong and Forsyth 2020, alg. 1).

    A line through distances of random subsets of `a` against 1/N, read at 0. What remains is the
    bias of `b`, equal for every model that is compared with it; may come out below 0.
    """
    if len(a) < 4 * a.shape[1]:
        raise ValueError(
            f"{len(a)} features of width {a.shape[1]} are too few to extrapolate; "
            f"use at least {4 * a.shape[1]}"
        )
    rng = np.random.default_rng(seed)
    sizes = np.linspace(len(a) // 2, len(a), points).astype(int)
    reference = moments(b)
    distances = [
        frechet_distance(*moments(a[rng.choice(len(a), n, replace=False)]), *reference)
        for n in sizes
    ]
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def pairwise_diversity(features: Array) -> float:
    """Mean Euclidean distance between two different members of a set of features (N, D)."""
    x = torch.as_tensor(np.asarray(features, np.float64))
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features have shape {tuple(x.shape)}; use (N, D) with N of 2 or more")
    return float(torch.nn.functional.pdist(x).mean())


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of pictures (B, C, H, W) in [0, 1]; (B,), inf if equal."""
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        values = [peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in _pairs(a, b)]
    return torch.tensor(values, dtype=torch.float64)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of pictures (B, C, H, W) in [0, 1]; (B,).

    Wang et al. 2004, eq. 13, with their 11 x 11 Gaussian window of sigma 1.5 where it is whole, mean
    over channels.
    """
    from skimage.metrics import structural_similarity

    if min(a.shape[-2:]) < 11:
        raise ValueError(f"pictures of {tuple(a.shape[-2:])} are smaller than the 11-pixel window")
    values = [
        structural_similarity(
            x, y, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in _pairs(a, b)
    ]  # fmt: skip
    return torch.tensor(values, dtype=torch.float64)


def _pairs(a: Tensor, b: Tensor) -> Iterator[tuple[Array, Array]]:
    _check_pair(a, b)
    return zip(a.double().cpu().numpy(), b.double().cpu().numpy(), strict=True)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"pictures have shapes {tuple(a.shape)} and {tuple(b.shape)}; use two (B, C, H, W)"
        )
