"""The score of a noised density, and how it follows from what a network predicts. The identity stands here only."""

from __future__ import annotations

from torch import Tensor

from lcm_studio.maths.parameterization import to_eps


def score(x_t: Tensor, x0_hat: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """grad_x log p_t(x_t) = (alpha x0_hat - x_t) / sigma^2 = -eps_hat / sigma, of the shape of `x_t`.

    `x0_hat`: the posterior mean E[x_0 | x_t], which a diffusion model predicts (a consistency model does not).
    `alpha`, `sigma` > 0 broadcast on `x_t`; VE is alpha = 1. Tweedie's formula: Robbins 1956; Vincent 2011, eq. 12;
    Song et al. 2021 (SDE), eq. 7.
    """
    return (alpha * x0_hat - x_t) / sigma**2


def score_from(
    pred: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str
) -> Tensor:
    """The score from a network's prediction of eps, v or x_0 at level (alpha, sigma); see `to_eps`."""
    return -to_eps(pred, x_t, alpha, sigma, prediction_type) / sigma


def denoised(x_t: Tensor, score_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x_0 | x_t] = (x_t + sigma^2 score) / alpha: the identity read the other way; alpha > 0."""
    return (x_t + sigma**2 * score_t) / alpha
