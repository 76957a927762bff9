"""A mixture of round Gaussians on the plane: its noised density, score and denoiser in closed form.

Every distribution of the plane is one (`plane_data`), so that each learned answer has an exact one beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """p_0 = sum_k weights_k N(centres_k, width^2 I); noise of level t adds t^2 to every variance.

    `centres` `(K, 2)`, `weights` `(K,)` that add up to 1, `width` > 0, all float64.
    """

    centres: Floats
    weights: Floats
    width: float

    def variance(self, t: float) -> float:
        """Of each component of p_t: width^2 + t^2."""
        return self.width**2 + t**2

    def sample(self, count: int, rng: np.random.Generator, t: float = 0.0) -> Floats:
        """`(count, 2)` points of p_t."""
        which = rng.choice(len(self.weights), size=count, p=self.weights)
        spread = self.variance(t) ** 0.5 * rng.standard_normal((count, 2))
        points: Floats = self.centres[which] + spread
        return points

    def log_density(self, x: Floats, t: float) -> Floats:
        """log p_t at `x` `(N, 2)`: `(N,)`."""
        logits = self._logits(x, t)
        top = logits.max(axis=1)
        total: Floats = np.exp(logits - top[:, None]).sum(axis=1)
        outside = (x**2).sum(axis=1) / (2 * self.variance(t))
        return np.log(total) + top - outside - np.log(2 * np.pi * self.variance(t))

    def mean_of_centres(self, x: Floats, t: float) -> Floats:
        """E[centre | x_t = x] for `x` `(N, 2)`, in the dtype of `x`."""
        shares = self._logits(x, t)
        shares -= shares.max(axis=1, keepdims=True)
        np.exp(shares, out=shares)
        one = np.ones((len(self.centres), 1))
        sums = shares @ np.concatenate([self.centres, one], axis=1).astype(x.dtype)
        mean: Floats = sums[:, :2] / sums[:, 2:]
        return mean

    def score(self, x: Floats, t: float) -> Floats:
        """grad log p_t at `x` `(N, 2)`: (E[centre | x_t] - x) / (width^2 + t^2)."""
        slope: Floats = (self.mean_of_centres(x, t) - x) / self.variance(t)
        return slope

    def denoise(self, x: Floats, t: float) -> Floats:
        """D(x; t) = E[x_0 | x_t = x] = x + t^2 score, Tweedie's formula (Karras et al. 2022, eq. 3)."""
        share = t**2 / self.variance(t)
        estimate: Floats = x + share * (self.mean_of_centres(x, t) - x)
        return estimate

    def on_grid(self, xs: Floats, ys: Floats, t: float) -> tuple[Floats, Floats]:
        """Density `(len(ys), len(xs))` and score `(len(ys), len(xs), 2)` of p_t on a grid.

        A round Gaussian is a product of one in x and one in y, so that a grid costs three matrix products.
        """
        variance = self.variance(t)
        across = np.exp(-((xs[:, None] - self.centres[:, 0]) ** 2) / (2 * variance))
        down = np.exp(-((ys[:, None] - self.centres[:, 1]) ** 2) / (2 * variance)) * self.weights
        total = down @ across.T
        mean_x = down @ (across * self.centres[:, 0]).T
        mean_y = (down * self.centres[:, 1]) @ across.T
        # far from everything the products are zero in floating point; there the plain formula serves
        far = total < 1e-250
        safe = np.where(far, 1.0, total)
        mean = np.stack([mean_x / safe, mean_y / safe], axis=-1)
        points = np.stack(np.meshgrid(xs, ys), axis=-1)
        if far.any():
            mean[far] = self.mean_of_centres(points[far], t)
        return total / (2 * np.pi * variance), (mean - points) / variance

    def _logits(self, x: Floats, t: float) -> Floats:
        """log(weight kernel) up to -|x|^2 / (2 variance), which all components share: `(N, K)`, dtype of `x`."""
        slopes = self.centres / self.variance(t)
        shifts = np.log(self.weights) - (self.centres**2).sum(axis=1) / (2 * self.variance(t))
        logits: Floats = x @ slopes.T.astype(x.dtype)
        logits += shifts.astype(x.dtype)
        return logits
