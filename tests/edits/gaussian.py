"""A toy world where everything is known: Gaussian images, their exact consistency function and posterior."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.models.protocol import Cond
from lcm_studio.models.words import read_fitted
from lcm_studio.spec.fitted import Fit
from lcm_studio.spec.models import ModelInfo

FITTED = read_fitted(Path(__file__).with_name("fitted.yaml"))


def fit(task: str, steps: int) -> Fit:
    """Numbers that a search found for pictures, to try where the posterior is known."""
    found = FITTED.fit(task, steps)
    assert found is not None
    return found


class GaussianModel:
    """x0 ~ N(mu, C) on 1 x 1 x `size` "images"; f(x, sigma) = mu + C^1/2 (C + sigma^2)^-1/2 (x - mu).

    That is the end of the probability-flow ODE in closed form (Karras et al. 2022, eq. 1), float64.
    """

    latent = False
    device = "cpu"

    def __init__(self, size: int = 24, length: float = 8.0, spread: float = 0.5) -> None:
        self.size = size
        self.schedule = KarrasSchedule()
        at = torch.arange(size, dtype=torch.float64)
        gap = at[:, None] - at[None]
        self.cov = spread**2 * torch.exp(-gap.abs() / length)
        self.cov += 1e-4 * torch.eye(size, dtype=torch.float64)
        self.mean = 0.2 * torch.sin(at / 3)
        values, self.vectors = torch.linalg.eigh(self.cov)
        self.values = values.clamp(min=1e-12)
        self.info = ModelInfo(
            id="gaussian", path="", kind="cm", width=size, height=1, multiple=1, guidance="none"
        )

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        gain = (self.values[None] / (self.values[None] + t.double()[:, None] ** 2)).sqrt()
        flat = (x_t.flatten(1).double() - self.mean) @ self.vectors
        return (self.mean + (flat * gain) @ self.vectors.T).reshape(x_t.shape)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def encode(self, images: Tensor) -> Tensor:
        return images

    def embed(self, prompts) -> Cond:
        return Cond(batch=len(prompts))

    def check(self, images: Tensor) -> tuple[bool, ...]:
        return (False,) * len(images)

    def sample_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return 1, height, width

    def posterior(self, matrix: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x0 given matrix x0 = y (conditioning of a Gaussian)."""
        inner = matrix @ self.cov @ matrix.T + 1e-12 * torch.eye(len(matrix), dtype=torch.float64)
        gain = self.cov @ matrix.T @ torch.linalg.inv(inner)
        mean = self.mean + gain @ (y - matrix @ self.mean)
        return mean, self.cov - gain @ matrix @ self.cov

    def draw(self, count: int, seed: int = 0) -> Tensor:
        """True samples `(count, size)`."""
        g = torch.Generator().manual_seed(seed)
        z = torch.randn(count, self.size, generator=g, dtype=torch.float64)
        return self.mean + (z * self.values.sqrt()) @ self.vectors.T


class Sideways:
    """A x = x M^T along the last axis, for any `matrix` M `(m, w)` of full row rank."""

    gram = "dense"

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def A(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T

    def At(self, y: Tensor) -> Tensor:
        return y @ self.matrix

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        gram = self.matrix @ self.matrix.T
        return y @ torch.linalg.inv(gram + damping * torch.eye(len(gram)).to(gram)) @ self.matrix


class DoubleNoise:
    """Unit noise in float64 for many images at once."""

    def __init__(self, count: int, size: int, seed: int = 0) -> None:
        self.shape = (count, 1, 1, size)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Tensor:
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


def w2_squared(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared 2-Wasserstein distance of two Gaussians (Dowson & Landau 1982)."""

    def root(c: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh((c + c.T) / 2)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    cross = root(root(cov_a) @ cov_b @ root(cov_a))
    shift = ((mean_a - mean_b) ** 2).sum()
    return float(shift + torch.trace(cov_a + cov_b - 2 * cross))
