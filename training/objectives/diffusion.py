"""Diffusion training in latents: the weighted square error of a prediction."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lcm_studio.maths.parameterization import from_x0_eps
from lcm_studio.maths.schedule import NoiseSchedule

Predict = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, C, H, W), t (B,)) -> prediction


def min_snr_weight(alpha: Tensor, sigma: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Weight of the square error of a prediction (Hang et al. 2023, eq. 8), shape of `alpha`.

    In x0 terms it is min(SNR, gamma); epsilon divides by SNR, v by SNR + 1.
    """
    snr = (alpha / sigma.clamp(min=1e-8)) ** 2
    capped = snr.clamp(max=gamma)
    if prediction_type == "epsilon":
        return capped / snr
    if prediction_type == "v_prediction":
        return capped / (snr + 1)
    return capped


def diffusion_loss(
    predict: Predict, x0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule, *, gamma: float
) -> Tensor:
    """Mean square error of the schedule's prediction; min-SNR weights where gamma > 0.

    x0, eps (B, C, H, W); t int64 (B,).
    """
    alpha, sigma = schedule.alpha_sigma(t, x0)
    kind = schedule.prediction_type
    wanted = from_x0_eps(x0, eps, alpha, sigma, kind)
    error = (predict(alpha * x0 + sigma * eps, t) - wanted).float().square().flatten(1).mean(1)
    if gamma > 0:
        error = error * min_snr_weight(alpha, sigma, gamma, kind).flatten()
    return error.mean()
