"""What a network predicts, turned into x_0 and eps and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lcm_studio.maths.schedule import PREDICTION_TYPES
from lcm_studio.spec.errors import ModelError


def _unknown(prediction_type: str) -> ModelError:
    return ModelError(
        f"prediction_type={prediction_type!r} is unknown; allowed: {', '.join(PREDICTION_TYPES)}"
    )


def to_x0(pred: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str) -> Tensor:
    """x0_hat from a prediction at level (alpha, sigma); shapes `(B, ...)` and `(B, 1, ..., 1)`.

    epsilon: (x_t - sigma eps) / alpha.  v: alpha x_t - sigma v (Salimans & Ho 2022, eq. 9).
    """
    if prediction_type == "epsilon":
        return (x_t - sigma * pred) / alpha
    if prediction_type == "v_prediction":
        return alpha * x_t - sigma * pred
    if prediction_type == "sample":
        return pred
    raise _unknown(prediction_type)


def to_eps(pred: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str) -> Tensor:
    """eps_hat from a prediction at level (alpha, sigma). v: sigma x_t + alpha v."""
    if prediction_type == "epsilon":
        return pred
    if prediction_type == "v_prediction":
        return sigma * x_t + alpha * pred
    if prediction_type == "sample":
        return (x_t - alpha * pred) / sigma
    raise _unknown(prediction_type)


def partly_fresh(
    x_t: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor, share: float
) -> Tensor:
    """Noise for the next level, of unit variance: share z + sqrt(1 - share^2) eps, with x_t = alpha x0 + sigma eps.

    `z`: fresh noise. `share` in [0, 1]: 1 is renoising (Song et al. 2023, Algorithm 1), 0 DDIM (Song et al. 2021, eq. 12).
    """
    if share == 1:
        return z
    eps = (x_t - alpha * x0) / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)
    return share * z + math.sqrt(1 - share * share) * eps


def from_x0_eps(
    x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str
) -> Tensor:
    """The prediction that a network of this type is trained towards: eps, v = alpha eps - sigma x0, or x0."""
    if prediction_type == "epsilon":
        return eps
    if prediction_type == "v_prediction":
        return alpha * eps - sigma * x0
    if prediction_type == "sample":
        return x0
    raise _unknown(prediction_type)


def dynamic_threshold(x0: Tensor, *, ratio: float = 0.995, most: float = 1.0) -> Tensor:
    """Clips each image to its `ratio` quantile s of |x0|, 1 <= s <= most, and divides by s.

    Saharia et al. 2022, section 2.3; diffusers' `_threshold_sample`. `x0`: `(B, ...)`.
    """
    flat = x0.flatten(1)
    s = flat.abs().quantile(ratio, dim=1, keepdim=True).clamp(1, max(1.0, most))
    return (flat.clamp(-s, s) / s).reshape(x0.shape)
