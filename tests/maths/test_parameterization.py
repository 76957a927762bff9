"""Predictions there and back, for every type (property tests, float64)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.maths.parameterization import from_x0_eps, to_eps, to_x0
from lcm_studio.maths.schedule import PREDICTION_TYPES, NoiseSchedule
from lcm_studio.maths.solvers import ddim_step
from lcm_studio.spec.errors import ModelError

SCHEDULE = NoiseSchedule.from_config({"prediction_type": "v_prediction"})


@given(st.integers(1, 999), st.integers(0, 2**31), st.sampled_from(PREDICTION_TYPES))
def test_there_and_back(level: int, seed: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0, eps = (torch.randn((2, 3), generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.full((2,), level)
    alpha, sigma = SCHEDULE.alpha_sigma(t, x0)
    x_t = SCHEDULE.add_noise(x0, eps, t)
    pred = from_x0_eps(x0, eps, alpha, sigma, kind)
    assert torch.allclose(to_x0(pred, x_t, alpha, sigma, kind), x0, atol=1e-9)
    assert torch.allclose(to_eps(pred, x_t, alpha, sigma, kind), eps, atol=1e-9)
    assert torch.allclose(ddim_step(x0, eps, alpha, sigma), x_t)


def test_unknown_types_are_named() -> None:
    x = torch.zeros(1)
    for convert in (to_x0, to_eps, from_x0_eps):
        with pytest.raises(ModelError, match="flow"):
            convert(x, x, x, x, "flow")
