"""Each way to the next level against the scheduler of stock diffusers that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import Ancestral, Ode, SeededNoise, Tcd, Way, multistep
from lcm_studio.sampling.asks import Ask, Predict
from lcm_studio.spec.errors import BadRequest

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (4, 8, 8)


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """An eps that depends on all of x and t."""
    return torch.tanh(x.roll(1, -1) + 0.3 * x - t.float().reshape(-1, 1, 1, 1) / 700)


def ours(levels: list[int], way: Way, schedule: NoiseSchedule) -> torch.Tensor:
    noise = SeededNoise((3,), SHAPE)
    x = way.start(noise.draw(), schedule, levels[0])
    steps = multistep(x, levels, Cond(), schedule=schedule, noise=noise, way=way)
    ask: Ask = next(steps)
    try:
        while True:
            value: Any = None
            if isinstance(ask, Predict):
                alpha, sigma = schedule.alpha_sigma(ask.t, ask.x_t)
                value = (ask.x_t - sigma * network(ask.x_t, ask.t)) / alpha
            ask = steps.send(value)
    except StopIteration as end:
        return end.value


def stock(scheduler: Any, steps: int, **more: Any) -> tuple[list[int], torch.Tensor]:
    scheduler.set_timesteps(steps)
    generator = torch.Generator("cpu").manual_seed(3)
    x = torch.randn((1, *SHAPE), generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        eps = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(eps, t, x, generator=generator, **more).prev_sample
    return [int(t) for t in scheduler.timesteps], x


CASES: dict[str, tuple[Callable[[], Any], Callable[[int], Way], dict[str, Any]]] = {
    "tcd": (lambda: diffusers.TCDScheduler(**SD), lambda n: Tcd(eta=0.3), {"eta": 0.3}),
    "tcd, all fresh": (lambda: diffusers.TCDScheduler(**SD), lambda n: Tcd(eta=1.0), {"eta": 1.0}),
    "tcd, none": (lambda: diffusers.TCDScheduler(**SD), lambda n: Tcd(eta=0.0), {"eta": 0.0}),
    "ancestral": (
        lambda: diffusers.EulerAncestralDiscreteScheduler(**SD, timestep_spacing="trailing"),
        lambda n: Ancestral(unit_start=False),
        {},
    ),
    "euler": (
        lambda: diffusers.EulerDiscreteScheduler(**SD, timestep_spacing="trailing"),
        lambda n: Ode(unit_start=False),
        {},
    ),
    "ddim, trailing": (
        lambda: diffusers.DDIMScheduler(**SD, clip_sample=False, timestep_spacing="trailing"),
        lambda n: Ode(stride=1000 // n),
        {},
    ),
    "ddim, linspace": (
        lambda: diffusers.DDIMScheduler(**SD, clip_sample=False, timestep_spacing="linspace"),
        lambda n: Ode(stride=1000 // n),
        {},
    ),
    "ddim, lowest level": (
        lambda: diffusers.DDIMScheduler(
            **SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        lambda n: Ode(stride=1000 // n, end=0),
        {},
    ),
}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("case", CASES)
def test_as_stock(case: str, steps: int) -> None:
    make, way, more = CASES[case]
    schedule = NoiseSchedule.from_config(SD)
    levels, theirs = stock(make(), steps, **more)
    assert torch.allclose(ours(levels, way(steps), schedule), theirs, atol=2e-4, rtol=1e-4)


def test_ways_differ() -> None:
    """The bound above tells them apart."""
    schedule = NoiseSchedule.from_config(SD)
    levels = [999, 749, 499, 249]
    ends = [ours(levels, way, schedule) for way in (Way(), Ode(), Tcd(eta=0.3), Tcd(), Ancestral())]
    assert (ends[0] - ends[1]).abs().max() > 0.1
    assert (ends[2] - ends[4]).abs().max() > 0.1
    assert torch.equal(ends[2], ends[3])


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(eta: float) -> None:
    with pytest.raises(BadRequest, match="0 to 1"):
        Tcd(eta=eta)
