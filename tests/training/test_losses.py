"""Losses against oracles that share no code with them: an exact Gaussian, and plain formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lcm_studio.maths.schedule import NoiseSchedule
from training.objectives.diffusion import diffusion_loss, min_snr_weight
from training.objectives.latent import consistency_output, distance, guided_ddim, lcd_loss

KINDS = ("epsilon", "v_prediction", "sample")
MEAN, SPREAD = 0.3, 0.6


def schedule(kind: str) -> NoiseSchedule:
    return NoiseSchedule.from_config({"prediction_type": kind})


class Gaussian:
    """Data N(mean, spread^2): denoiser and PF-ODE in closed form, float64."""

    def __init__(self, kind: str, mean: float = MEAN) -> None:
        self.kind, self.mean = kind, mean
        self.bar = torch.cumprod(
            1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, 0
        )

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        bar = self.bar[t].reshape(-1, 1, 1, 1)
        return bar.sqrt(), (1 - bar).sqrt()

    def prediction(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        a, s = self.levels(t)
        eps = (x - a * x0) / s
        return {"epsilon": eps, "sample": x0, "v_prediction": a * eps - s * x0}[self.kind]

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        a, s = self.levels(t)
        x0 = self.mean + a * SPREAD**2 / (a**2 * SPREAD**2 + s**2) * (x - a * self.mean)
        return self.prediction(x0, x, t)

    def flow(self, x: Tensor, t: Tensor) -> Tensor:
        """Where the ODE through (x, t) ends, as the prediction whose x0 is that end."""
        a, s = self.levels(t)
        end = self.mean + SPREAD * (x - a * self.mean) / (a**2 * SPREAD**2 + s**2).sqrt()
        return self.prediction(end, x, t)


def batch(n: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x0 = MEAN + SPREAD * torch.randn(n, 2, 4, 4, generator=g, dtype=torch.float64)
    eps = torch.randn(n, 2, 4, 4, generator=g, dtype=torch.float64)
    t = torch.randint(2, 50, (n,), generator=g) * 20 + 19
    return x0, eps, t


def algorithm_1(
    f: Any, f_minus: Any, teacher: Any, kind: str, *, skip: int = 20, examples: int = 64
) -> Tensor:
    """The mean distance of a batch for predictions f, f_minus and (cond, uncond) of a teacher."""
    noise = schedule(kind)
    z, eps, t = (v[:examples] for v in batch())
    w = torch.rand(len(t), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    distances, _ = lcd_loss(
        lambda x, t: consistency_output(f, x, t, noise),
        lambda x, t: consistency_output(f_minus, x, t, noise),
        lambda x, t, s: guided_ddim(teacher, x, t, s, w, noise),
        lambda a, b: distance(a, b, kind="l2"),
        z=z,
        eps=eps,
        t_nk=t,
        t_n=t - skip,
        schedule=noise,
    )
    return distances.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_consistency_function_has_nearly_no_loss_and_less_on_a_finer_grid(
    kind: str,
) -> None:
    exact = Gaussian(kind)

    def pair(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return exact.denoise(x, s), exact.denoise(x, s)

    coarse, fine = (
        algorithm_1(exact.flow, exact.flow, pair, kind, skip=skip).item() for skip in (20, 10)
    )
    assert coarse < 1e-5
    assert (
        fine < coarse / 10
    )  # second-order steps: a quarter of the error, a sixteenth of its square


@pytest.mark.parametrize("kind", KINDS)
def test_another_function_has_loss(kind: str) -> None:
    exact, wrong = Gaussian(kind), Gaussian(kind, mean=0.0)
    pair = lambda x, s: (exact.denoise(x, s), exact.denoise(x, s))  # noqa: E731
    assert algorithm_1(wrong.denoise, wrong.denoise, pair, kind) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_guided_step_is_the_papers_formula(kind: str) -> None:
    noise = schedule(kind)
    cond, uncond = Gaussian(kind, mean=1.0), Gaussian(kind, mean=-1.0)
    x0, eps, t = batch()
    x_t = noise.add_noise(x0, eps, t)
    w = torch.linspace(0, 8, len(t), dtype=torch.float64)
    found = guided_ddim(
        lambda x, s: (cond.denoise(x, s), uncond.denoise(x, s)), x_t, t, t - 20, w, noise
    )
    a, s = cond.levels(t)
    a2, s2 = cond.levels(t - 20)
    parts = []
    for model in (cond, uncond):
        x = model.mean + a * SPREAD**2 / (a**2 * SPREAD**2 + s**2) * (x_t - a * model.mean)
        parts.append(a2 * x + s2 * (x_t - a * x) / s)
    scale = w.reshape(-1, 1, 1, 1)
    wanted = (1 + scale) * parts[0] - scale * parts[1]
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_boundary_is_the_identity(kind: str) -> None:
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    t = torch.zeros(3, dtype=torch.long)
    found = consistency_output(lambda x, t: torch.full_like(x, 7.0), x, t, schedule(kind))
    assert torch.equal(found, x)


def test_the_target_and_the_teacher_get_no_gradient() -> None:
    live, frozen = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
    loss = algorithm_1(
        lambda x, t: live * x,
        lambda x, t: frozen * x,
        lambda x, t: (frozen * x, frozen * x),
        "epsilon",
        examples=4,
    )
    loss.backward()
    assert live.grad is not None and live.grad != 0
    assert frozen.grad is None


def test_pseudo_huber_is_its_formula_and_l2_the_mean_square() -> None:
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert distance(a, b, kind="l2").item() == pytest.approx((9 + 16) / 2)
    wanted = (math.sqrt(9 + 0.25) - 0.5 + math.sqrt(16 + 0.25) - 0.5) / 2
    assert distance(a, b, c=0.5).item() == pytest.approx(wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weighs_the_clean_estimate_by_the_capped_ratio(kind: str) -> None:
    """Whatever is predicted, weight x (error of the prediction)^2 = min(SNR, 5) (error of x0)^2."""
    noise = schedule(kind)
    t = torch.tensor([5, 200, 500, 999])
    like = torch.zeros(4, 1, 1, 1, dtype=torch.float64)
    a, s = noise.alpha_sigma(t, like)
    slope = {"epsilon": a / s, "v_prediction": 1 / s, "sample": a / a}[kind]
    found = min_snr_weight(a, s, 5.0, kind) * slope**2
    torch.testing.assert_close(found, (a / s).square().clamp(max=5.0))


@pytest.mark.parametrize("kind", KINDS)
def test_diffusion_loss_of_the_exact_denoiser_is_the_posterior_variance(kind: str) -> None:
    exact, noise = Gaussian(kind), schedule(kind)
    g = torch.Generator().manual_seed(1)
    x0 = MEAN + SPREAD * torch.randn(4000, 1, 4, 4, generator=g, dtype=torch.float64)
    eps = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    t = torch.full((4000,), 499)
    found = diffusion_loss(exact.denoise, x0, eps, t, noise, gamma=0)
    a, s = (v[0].item() for v in exact.levels(t[:1]))
    variance = SPREAD**2 * s**2 / (a**2 * SPREAD**2 + s**2)
    slope = {"epsilon": a / s, "v_prediction": 1 / s, "sample": 1.0}[kind]
    assert found.item() == pytest.approx(variance * slope**2, rel=0.03)
