"""The likelihood by the ODE's divergence, where the density is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import drive
from lcm_studio.sampling.likelihood import log_likelihood, rademacher
from lcm_studio.sampling.samplers import Walk
from lcm_studio.sampling.samplers.grids import spaced
from lcm_studio.spec.errors import BadRequest
from tests.sampling.exact import Draws, Mixture

VP = NoiseSchedule.from_config({})
VE = KarrasSchedule()
SCHEDULES = pytest.mark.parametrize("schedule", [VP, VE], ids=["vp", "ve"])


def found(model: Mixture, x0: torch.Tensor, *, most: int = 2000, **more: Any) -> Any:
    walk = Walk(
        schedule=model.schedule, cond=Cond(batch=len(x0)), noise=Draws(tuple(x0.shape)), evaluations=most
    )  # fmt: skip
    levels = spaced(model.schedule, 2, "log-snr")
    return drive(log_likelihood(walk, x0, levels, **more), model)


def exact(model: Mixture, x0: torch.Tensor) -> torch.Tensor:
    """log p of the data as the lowest level has them."""
    low = torch.tensor(model.schedule.ve_sigma(spaced(model.schedule, 2, "log-snr")[-1])).double()
    return model.log_density(x0, torch.ones_like(x0), torch.full_like(x0, float(low)))


@SCHEDULES
@pytest.mark.parametrize(
    "data",
    [{"means": (0.0,), "weights": (1.0,), "s": 0.5}, {"means": (-0.5, 0.5), "weights": (0.5, 0.5)}],
)
def test_it_is_the_density(schedule: Any, data: dict[str, Any]) -> None:
    model = Mixture(schedule, **data)
    x0 = torch.tensor([[-0.6, 0.3], [0.4, 0.5], [0.45, -0.55]], dtype=torch.float64).reshape(
        3, 2, 1, 1
    )
    result = found(model, x0, tolerance=1e-5)
    # the prior is not quite the noised data: VP ends with abar = .0047, VE with a noise of 80
    assert torch.allclose(result.log_p, exact(model, x0), atol=0.03)


def test_probes_estimate_the_divergence() -> None:
    model = Mixture(VE, means=(0.0,), weights=(1.0,), s=0.5)
    x0 = torch.full((1, 3, 8, 8), 0.2, dtype=torch.float64)
    result = found(model, x0, tolerance=1e-4, probes=rademacher(2, (3, 8, 8), seed=0))
    per_dim = (result.log_p - exact(model, x0)) / x0.numel()
    assert abs(per_dim.item()) < 0.01  # on a Gaussian signs give the trace exactly


def test_a_wrong_divergence_is_noticed() -> None:
    """Without the density's change along the path the test above must fail."""
    model = Mixture(VE, means=(0.0,), weights=(1.0,), s=0.5)
    x0 = torch.full((1, 2, 1, 1), 0.2, dtype=torch.float64)
    end = found(model, x0, tolerance=1e-4).x
    prior = -(end.flatten() ** 2).sum() / (2 * 80**2) - 2 * math.log(80 * math.sqrt(2 * math.pi))
    assert abs(prior - exact(model, x0).item()) > 1


def test_too_few_evaluations_are_a_sentence() -> None:
    with pytest.raises(BadRequest, match="allow more"):
        found(Mixture(VE), torch.zeros(1, 2, 1, 1, dtype=torch.float64), most=9)
