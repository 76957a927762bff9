"""Pixel-space losses against an exact Gaussian, and the schedules against the papers' numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from lcm_studio.maths.grids import karras_sigmas
from training.objectives.pixels import (
    cm_output,
    ct_decay,
    ct_levels,
    ect_partner,
    edm_loss,
    edm_output,
    ict_levels,
    lognormal_levels,
    pair_loss,
    pf_ode_step,
    pseudo_huber,
)

MEAN, SPREAD, DATA, LEAST = 0.2, 0.4, 0.5, 0.002


def _wide(v: Tensor) -> Tensor:
    return v.reshape(-1, 1, 1, 1)


def teacher(x: Tensor, condition: Tensor) -> Tensor:
    """F of the exact denoiser of N(MEAN, SPREAD^2) under EDM's scalings, from c_in x and 250 ln sigma."""
    sigma = _wide((condition / 250).exp())
    x = x * (sigma**2 + DATA**2).sqrt()
    wanted = (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)
    skip = DATA**2 / (sigma**2 + DATA**2)
    return (wanted - skip * x) * (sigma**2 + DATA**2).sqrt() / (sigma * DATA)


def flow(x: Tensor, condition: Tensor) -> Tensor:
    """F whose consistency output is the exact end of the ODE at sigma_min."""
    sigma = _wide((condition / 250).exp())
    x = x * (sigma**2 + DATA**2).sqrt()
    ratio = ((SPREAD**2 + LEAST**2) / (SPREAD**2 + sigma**2)).sqrt()
    wanted = MEAN + ratio * (x - MEAN)
    skip = DATA**2 / ((sigma - LEAST) ** 2 + DATA**2)
    return (wanted - skip * x) * (sigma**2 + DATA**2).sqrt() / (DATA * (sigma - LEAST))


def draw(n: int = 256) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x0 = MEAN + SPREAD * torch.randn(n, 1, 2, 2, generator=g, dtype=torch.float64)
    return x0, torch.randn(x0.shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("solver", "most"), [("heun", 1e-8), ("euler", 1e-4)])
def test_the_true_consistency_function_has_nearly_no_loss(solver: str, most: float) -> None:
    x0, z = draw()
    grid = karras_sigmas(200).flip(0)
    index = torch.arange(256) % 198 + 1
    t, s = grid[index + 1], grid[index]
    x_t = x0 + _wide(t) * z
    x_s = pf_ode_step(teacher, x_t, t, s, solver=solver)
    loss = pair_loss(flow, flow, x_t=x_t, t=t, x_s=x_s, s=s, weight=torch.ones_like(t))
    assert loss.max() < most
    wrong = pair_loss(teacher, teacher, x_t=x_t, t=t, x_s=x_s, s=s, weight=torch.ones_like(t))
    assert wrong.mean() > 30 * loss.mean()


def test_boundary_is_the_identity() -> None:
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    sigma = torch.full((3,), LEAST, dtype=torch.float64)
    assert torch.equal(cm_output(lambda x, c: x + 7, x, sigma), x)


def test_denoiser_of_the_exact_network_is_the_posterior_mean() -> None:
    x0, z = draw()
    sigma = torch.linspace(0.01, 60, len(x0), dtype=torch.float64)
    x = x0 + _wide(sigma) * z
    wanted = (SPREAD**2 * x + _wide(sigma) ** 2 * MEAN) / (SPREAD**2 + _wide(sigma) ** 2)
    torch.testing.assert_close(edm_output(teacher, x, sigma), wanted)


def test_edm_loss_of_the_exact_denoiser_is_the_weighted_posterior_variance() -> None:
    g = torch.Generator().manual_seed(2)
    x0 = MEAN + SPREAD * torch.randn(20000, 1, 2, 2, generator=g, dtype=torch.float64)
    z = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    sigma = torch.full((len(x0),), 0.7, dtype=torch.float64)
    variance = SPREAD**2 * 0.7**2 / (SPREAD**2 + 0.7**2)
    weight = (0.7**2 + DATA**2) / (0.7 * DATA) ** 2
    assert edm_loss(teacher, x0, z, sigma).item() == pytest.approx(variance * weight, rel=0.02)


def test_the_targets_get_no_gradient() -> None:
    scale = torch.ones((), requires_grad=True)
    x, t = torch.ones(2, 1, 2, 2), torch.full((2,), 2.0, dtype=torch.float64)
    loss = pair_loss(
        lambda x, c: x, lambda x, c: scale * x, x_t=2 * x, t=t, x_s=x, s=t / 2, weight=t, c=0.1
    )
    assert not loss.requires_grad


def test_pseudo_huber_is_its_formula() -> None:
    a, b = torch.zeros(1, 1, 1, 2), torch.tensor([3.0, 4.0]).reshape(1, 1, 1, 2)
    assert pseudo_huber(a, b, 12.0).item() == pytest.approx(13 - 12)
    assert pseudo_huber(a, b, 0.0).item() == pytest.approx(5)


def test_ct_schedules_start_and_end_as_published() -> None:
    assert ct_levels(0, 1000, 2, 150) == 2
    assert ct_levels(1000, 1000, 2, 150) == 151
    levels = [ct_levels(k, 1000, 2, 150) for k in range(1001)]
    assert levels == sorted(levels)
    assert ct_decay(2, 2, 0.9) == pytest.approx(0.9)
    assert ct_decay(150, 2, 0.9) == pytest.approx(0.9 ** (2 / 150))


def test_ict_levels_double_from_11_to_1281() -> None:
    found = sorted({ict_levels(k, 400_000, 10, 1280) for k in range(0, 400_000, 1000)})
    assert found == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert ict_levels(50_000, 400_000, 10, 1280) == 21  # K' = 50,000 for 400,000 steps


def test_lognormal_indices_follow_their_chances() -> None:
    sigmas = karras_sigmas(11).flip(0)
    u = torch.linspace(0, 1, 200_001, dtype=torch.float64)[:-1]
    found = torch.bincount(lognormal_levels(u, sigmas), minlength=10) / len(u)

    def below(sigma: float) -> float:
        return math.erf((math.log(sigma) + 1.1) / (math.sqrt(2) * 2.0))

    mass = [below(float(b)) - below(float(a)) for a, b in itertools.pairwise(sigmas)]
    wanted = torch.tensor(mass) / sum(mass)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert lognormal_levels(torch.tensor([0.9999999]), sigmas).max() == 9


def test_ect_pairs_close_with_the_stages() -> None:
    t = torch.tensor([0.01, 0.5, 10.0, 80.0], dtype=torch.float64)
    gaps = [(t - ect_partner(t, stage)) / t for stage in range(1, 9)]
    assert all((a >= b).all() for a, b in itertools.pairwise(gaps))
    assert gaps[-1].max() < 0.04
    assert (ect_partner(t, 1) >= 0).all()
    n = 1 + 8 / (1 + math.exp(0.5))
    assert ect_partner(t, 4)[1].item() == pytest.approx(0.5 * (1 - n / 16))
