"""The recipes' losses as pure functions of networks and tensors: no randomness, no state."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lcm_studio.maths.boundary import lcm_scalings
from lcm_studio.maths.guidance import cfg_w
from lcm_studio.maths.parameterization import from_x0_eps, to_eps, to_x0
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.maths.solvers import ddim_step
from training.ahead import at_once

Predict = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, C, H, W), t (B,)) -> prediction
GuidedPredict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # -> (cond, uncond)


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


def consistency_output(
    predict: Predict,
    x_t: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    *,
    sigma_data: float = 0.5,
    timestep_scaling: float = 10.0,
) -> Tensor:
    """f(x_t, t) = c_skip x_t + c_out x0_hat (Luo et al. 2023, eq. 9), float32 or float64."""
    alpha, sigma = schedule.alpha_sigma(t, x_t)
    pred = predict(x_t, t)
    x0_hat = to_x0(pred.to(x_t.dtype), x_t, alpha, sigma, schedule.prediction_type)
    c_skip, c_out = lcm_scalings(t, sigma_data=sigma_data, timestep_scaling=timestep_scaling)
    shape = (-1, *(1,) * (x_t.ndim - 1))
    return c_skip.to(x_t).reshape(shape) * x_t + c_out.to(x_t).reshape(shape) * x0_hat


@torch.no_grad()
def guided_ddim(
    teacher: GuidedPredict, x_t: Tensor, t: Tensor, s: Tensor, w: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """x_s by one DDIM step of the guided PF-ODE from x_t (Luo et al. 2023, eq. 12-14).

    t, s int64 (B,); w (B,) in the paper's convention, cond + w (cond - uncond).
    """
    alpha, sigma = schedule.alpha_sigma(t, x_t)
    kind = schedule.prediction_type
    cond, uncond = (p.to(x_t.dtype) for p in teacher(x_t, t))
    w = w.to(x_t).reshape(-1, *(1,) * (x_t.ndim - 1))
    x0 = cfg_w(to_x0(uncond, x_t, alpha, sigma, kind), to_x0(cond, x_t, alpha, sigma, kind), w)
    eps = cfg_w(to_eps(uncond, x_t, alpha, sigma, kind), to_eps(cond, x_t, alpha, sigma, kind), w)
    return ddim_step(x0, eps, *schedule.alpha_sigma(s, x_t))


def distance(a: Tensor, b: Tensor, *, kind: str = "huber", c: float = 1e-3) -> Tensor:
    """Mean over all but the batch, (B,): squares, or pseudo-Huber sqrt(d^2 + c^2) - c."""
    difference = (a - b).flatten(1)
    if kind == "l2":
        return difference.square().mean(1)
    return (difference.square() + c * c).sqrt().sub(c).mean(1)


def lcd_loss(
    student: Predict,
    target: Predict,
    teacher: GuidedPredict,
    *,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    w: Tensor,
    schedule: NoiseSchedule,
    kind: str = "huber",
    c: float = 1e-3,
    timestep_scaling: float = 10.0,
    ends: Tensor | None = None,
    x_s: Tensor | None = None,
    through: Callable[[Tensor], Tensor] | None = None,
    start: Callable[[Callable[[], Tensor]], Callable[[], Tensor]] = at_once,
) -> Tensor:
    """Latent consistency distillation loss of each example, (B,) (Luo et al. 2023, Algorithm 1).

    x_t (B, C, H, W) at t; the target sees the teacher's x_s at s < t and gets no gradient. Of the last
    rows the targets are known: `ends` (E, C, H, W); s, w and x_s are then of the B - E rows before. `x_s`:
    the teacher's step, where it was taken already. `through` is given the student's f(x_t, t) and returns
    what is measured in its place. `start` begins the target's part, perhaps beside the student's.
    """
    scaling = {"timestep_scaling": timestep_scaling}
    n = len(x_t) - (0 if ends is None else len(ends))
    near = guided_ddim(teacher, x_t[:n], t[:n], s, w, schedule) if x_s is None else x_s

    @torch.no_grad()
    def target_output() -> Tensor:
        return consistency_output(target, near, s, schedule, **scaling)

    later = start(target_output)
    output = consistency_output(student, x_t, t, schedule, **scaling)
    wanted = later()
    if ends is not None:
        wanted = torch.cat([wanted, ends.to(wanted)])
    return distance(through(output) if through else output, wanted, kind=kind, c=c)
