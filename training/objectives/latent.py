"""Latent consistency distillation (Luo et al. 2023): the parametrisation, the solver and the distance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lcm_studio.maths.boundary import lcm_scalings
from lcm_studio.maths.guidance import cfg_w
from lcm_studio.maths.parameterization import to_eps, to_x0
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.maths.solvers import ddim_step

Predict = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, C, H, W), t (B,)) -> prediction
GuidedPredict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # -> (cond, uncond)
Consistency = Callable[[Tensor, Tensor], Tensor]  # f(z_t, t) -> z_0
Solver = Callable[[Tensor, Tensor, Tensor], Tensor]  # psi(z_t, t, s) -> z_s
Distance = Callable[[Tensor, Tensor], Tensor]  # (B, C, H, W) twice -> (B,)


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
    f: Consistency,
    f_minus: Consistency,
    psi: Solver,
    d: Distance,
    *,
    z: Tensor,
    eps: Tensor,
    t_nk: Tensor,
    t_n: Tensor,
    schedule: NoiseSchedule,
) -> tuple[Tensor, Tensor]:
    """Latent consistency distillation (Luo et al. 2023, Algorithm 1), one iteration on a batch.

    `f` is the student f_theta(z_t, omega, c, t), `f_minus` the same with the averaged weights theta^-,
    `psi` the solver of the augmented PF-ODE; omega and c are bound to them. z, eps (B, C, H, W): data and
    noise. t_nk = t_{n+k} > t_n, int64 (B,). Returns the distances (B,) and f_theta(z_{t_{n+k}}).
    """
    alpha, sigma = schedule.alpha_sigma(t_nk, z)
    z_tnk = alpha * z + sigma * eps  # ~ N(alpha z, sigma^2 I)
    with torch.no_grad():
        z_hat = psi(z_tnk, t_nk, t_n)  # z_{t_n}, k levels lower on the teacher's path
        target = f_minus(z_hat, t_n)
    estimate = f(z_tnk, t_nk)
    return d(estimate, target), estimate
