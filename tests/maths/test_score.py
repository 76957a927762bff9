"""The score on data whose density is known, from every parametrization, in both families."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.parameterization import from_x0_eps
from lcm_studio.maths.schedule import PREDICTION_TYPES, NoiseSchedule
from lcm_studio.maths.score import denoised, score, score_from
from lcm_studio.maths.sde import corrector_size, levels_for, step_for
from tests.sampling.exact import Mixture

VP = NoiseSchedule.from_config({})
VE = KarrasSchedule()
LEVELS = [(VP, 3.0), (VP, 300.0), (VP, 999.0), (VE, 0.01), (VE, 1.0), (VE, 80.0)]


@pytest.mark.parametrize(("schedule", "level"), LEVELS)
@pytest.mark.parametrize("data", [{"means": (0.3,), "weights": (1.0,), "s": 0.5}, {}])
def test_score_is_the_gradient_of_the_log_density(
    schedule: Any, level: float, data: dict[str, Any]
) -> None:
    model = Mixture(schedule, **data)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(schedule.level_tensor(level, 5), x)
    x_t = (alpha * 0.4 * x + sigma * x.flip(0)).requires_grad_()
    (wanted,) = torch.autograd.grad(model.log_density(x_t, alpha, sigma).sum(), x_t)
    x_t = x_t.detach()
    x0_hat = model.denoise(x_t / alpha, sigma / alpha)
    found = score(x_t, x0_hat, alpha, sigma)
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert torch.allclose(denoised(x_t, found, alpha, sigma), x0_hat, atol=1e-8)
    eps = (x_t - alpha * x0_hat) / sigma
    for kind in PREDICTION_TYPES if schedule is VP else ("epsilon", "sample"):
        pred = from_x0_eps(x0_hat, eps, alpha, sigma, kind)
        assert torch.allclose(
            score_from(pred, x_t, alpha, sigma, kind), wanted, rtol=1e-5, atol=1e-5
        )


def test_the_choices_of_2020_for_cifar() -> None:
    """Song & Ermon 2020, table of settings: sigma from 50 to 0.01 in 232 levels, T = 5, epsilon = 6.2e-6."""
    assert levels_for(3 * 32 * 32, 50, 0.01) == pytest.approx(232, rel=0.06)
    epsilon = step_for((50 / 0.01) ** (1 / 231), 5) * 0.01**2
    assert epsilon == pytest.approx(6.2e-6, rel=0.02)


def test_the_corrector_has_the_ratio_that_it_is_asked_for() -> None:
    generator = torch.Generator().manual_seed(1)
    s, z = (torch.randn(3, 2, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    epsilon = corrector_size(s, z, 0.16) / 2
    signal = (epsilon * s).flatten(1).norm(dim=1)
    noise = ((2 * epsilon).sqrt() * z).flatten(1).norm(dim=1)
    assert torch.allclose(signal / noise, torch.full((3,), 0.16, dtype=torch.float64))
