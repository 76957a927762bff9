"""The loop on a model whose every answer is known."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import pytest
import torch

from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.protocol import Prompt
from lcm_studio.sampling import (
    Decode,
    Encode,
    Estimate,
    Ode,
    Predict,
    SeededNoise,
    Way,
    drive,
    multistep,
)
from lcm_studio.spec.errors import BadRequest
from tests.toy import GaussianToy

VP = NoiseSchedule.from_config({"beta_schedule": "scaled_linear"})
VE = KarrasSchedule()
SCHEDULES = pytest.mark.parametrize("schedule", [VP, VE], ids=["vp", "ve"])


class Normal:
    """Unit noise in float64 from one generator."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.generator = torch.Generator().manual_seed(0)

    def draw(self) -> torch.Tensor:
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


def exact_start(toy: GaussianToy, level: float, noise: Normal) -> torch.Tensor:
    """Draws of the true marginal at `level`."""
    x0 = toy.mu + toy.s * noise.draw()
    t = toy.schedule.level_tensor(level, len(x0))
    return toy.schedule.add_noise(x0, noise.draw(), t)


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_multistep_keeps_mean_and_variance(schedule: Any, steps: int) -> None:
    toy = GaussianToy(schedule)
    noise = Normal((4, 3, 160, 160))
    levels = toy.grid(steps)
    x = exact_start(toy, levels[0], noise)
    out = drive(
        multistep(x, levels, toy.embed([Prompt()] * 4), schedule=schedule, noise=noise), toy
    )
    tolerance = 5 * toy.s / math.sqrt(out.numel())
    assert abs(out.mean().item() - toy.mu) < tolerance
    # the VE loop renoises with sqrt(sigma^2 - sigma_min^2), so its variance is exact up to sigma_min^2
    assert out.std().item() == pytest.approx(toy.s, abs=tolerance)


@SCHEDULES
def test_starting_in_the_middle_keeps_the_picture(schedule: Any) -> None:
    toy = GaussianToy(schedule, s=1e-6)
    level = toy.grid(8)[-1]
    noise = Normal((1, 3, 8, 8))
    x = exact_start(toy, level, noise)
    out = drive(multistep(x, [level], toy.embed([Prompt()]), schedule=schedule, noise=noise), toy)
    assert torch.allclose(out, torch.full_like(out, toy.mu), atol=1e-4)


def test_ddim_follows_the_ode_to_the_same_end() -> None:
    toy = GaussianToy(VP)
    noise = Normal((1, 3, 8, 8))
    x = exact_start(toy, 999.0, noise)
    cond = toy.embed([Prompt()])

    def ends(levels: list[float]) -> torch.Tensor:
        steps = multistep(
            x, levels, cond, schedule=VP, noise=noise, way=Ode(end=None if VP.ends_clean else 0)
        )
        return drive(steps, Denoiser(toy))

    class Denoiser:
        """E[x_0 | x_t] of the toy, which is what a plain diffusion model predicts."""

        def __init__(self, toy: GaussianToy) -> None:
            self.toy = toy

        def predict(self, x_t: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
            alpha, sigma = VP.alpha_sigma(t, x_t)
            gain = alpha * self.toy.s**2 / (alpha**2 * self.toy.s**2 + sigma**2)
            return self.toy.mu + gain * (x_t - alpha * self.toy.mu)

    exact = drive(multistep(x, [999.0], cond, schedule=VP, noise=noise), toy)
    errors = [
        (ends([float(t) for t in range(999, -1, -stride)]) - exact).abs().max().item()
        for stride in (111, 37, 3)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def halved(x0_hat: torch.Tensor, k: int, x_t: torch.Tensor) -> Generator[Any, Any, torch.Tensor]:
    """A refinement that asks for nothing."""
    yield from ()
    return x0_hat / 2


@SCHEDULES
def test_without_fresh_noise_it_is_ddim_and_with_all_of_it_as_before(schedule: Any) -> None:
    toy = GaussianToy(schedule)
    x = exact_start(toy, toy.grid(4)[0], Normal((2, 3, 8, 8)))

    def end(**more: Any) -> torch.Tensor:
        noise, cond = Normal((2, 3, 8, 8)), toy.embed([Prompt()] * 2)
        return drive(multistep(x, toy.grid(4), cond, schedule=schedule, noise=noise, **more), toy)

    assert torch.equal(end(way=Way(eta=1.0)), end())
    assert torch.equal(end(way=Way(eta=1.0), refine=halved), end(refine=halved))
    if schedule is VP:  # the VE loop takes sigma_min off what it adds, DDIM does not
        assert torch.allclose(
            end(way=Way(eta=0.0)), end(way=Ode(end=None if VP.ends_clean else 0)), atol=1e-6
        )
    assert (
        0
        < (end(way=Way(eta=1e-3)) - end(way=Way(eta=0.0))).norm()
        < (end() - end(way=Way(eta=0.0))).norm()
    )


def test_carried_noise_is_what_the_network_saw_before_the_refinement() -> None:
    toy, seen = GaussianToy(VP), []
    x = exact_start(toy, 999.0, Normal((1, 3, 8, 8)))

    def refine(
        x0_hat: torch.Tensor, k: int, x_t: torch.Tensor
    ) -> Generator[Any, Any, torch.Tensor]:
        seen.append((x0_hat, x_t))
        return (yield from halved(x0_hat, k, x_t))

    noise = Normal((1, 3, 8, 8))
    fresh = Normal((1, 3, 8, 8)).draw()
    cond = toy.embed([Prompt()])
    drive(
        multistep(
            x, [999.0, 499.0], cond, schedule=VP, noise=noise, refine=refine, way=Way(eta=0.8)
        ),
        toy,
    )
    alpha, sigma = VP.alpha_sigma(torch.tensor([999.0]), x)
    z = 0.8 * fresh + 0.6 * (x - alpha * seen[0][0]) / sigma
    assert torch.allclose(seen[1][1], VP.renoise(seen[0][0] / 2, z, 499.0))


def test_noise_is_that_of_the_seed_alone_and_of_a_stock_generator() -> None:
    batch = SeededNoise((5, 6, 7), (4, 8, 8))
    alone = SeededNoise((6,), (4, 8, 8))
    generator = torch.Generator("cpu").manual_seed(6)
    for _ in range(3):
        expected = torch.randn((1, 4, 8, 8), generator=generator)
        assert torch.equal(batch.draw()[1:2], expected)
        assert torch.equal(alone.draw(), expected)


def test_one_draw_per_step_but_the_last() -> None:
    class Counter:
        count = 0

        def draw(self) -> torch.Tensor:
            self.count += 1
            return torch.zeros(1, 3, 4, 4)

    noise, toy = Counter(), GaussianToy(VP)
    cond = toy.embed([Prompt()])
    drive(multistep(torch.zeros(1, 3, 4, 4), toy.grid(4), cond, schedule=VP, noise=noise), toy)
    assert noise.count == 3


def test_refine_may_ask_and_its_result_goes_on() -> None:
    toy, seen = GaussianToy(VP), []

    def refine(
        x0_hat: torch.Tensor, k: int, x_t: torch.Tensor
    ) -> Generator[Any, Any, torch.Tensor]:
        images = yield Decode(x0_hat)
        latents = yield Encode(images * 0 + 0.25)
        seen.append(k)
        return latents

    asks: list[Any] = []
    noise = SeededNoise((0,), (3, 8, 8))
    steps = multistep(
        noise.draw(), toy.grid(3), toy.embed([Prompt()]), schedule=VP, noise=noise, refine=refine
    )
    out = drive(steps, toy, on_ask=asks.append)
    assert seen == [0, 1, 2]
    assert torch.equal(out, torch.full_like(out, 0.25))
    estimates = [ask for ask in asks if isinstance(ask, Estimate)]
    assert [(e.done, e.total) for e in estimates] == [(1, 3), (2, 3), (3, 3)]
    assert all(torch.equal(e.x0_hat, out) for e in estimates)
    assert sum(isinstance(ask, Predict) for ask in asks) == 3


@pytest.mark.parametrize("levels", [[], [5.0, 5.0], [1.0, 2.0]])
def test_levels_that_do_not_fall_are_refused(levels: list[float]) -> None:
    toy = GaussianToy(VP)
    noise = SeededNoise((0,), (3, 8, 8))
    steps = multistep(noise.draw(), levels, toy.embed([Prompt()]), schedule=VP, noise=noise)
    with pytest.raises(BadRequest):
        drive(steps, toy)


def test_a_broken_loop_is_noticed() -> None:
    """Renoising with the wrong level must fail the mean-and-variance test above."""

    class Broken(GaussianToy):
        def predict(self, x_t: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
            return super().predict(x_t, (t * 0.8).long(), cond)

    toy, noise = Broken(VP), Normal((4, 3, 160, 160))
    levels = toy.grid(4)
    x = exact_start(toy, levels[0], noise)
    cond = toy.embed([Prompt()] * 4)
    out = drive(multistep(x, levels, cond, schedule=VP, noise=noise), toy)
    assert abs(out.std().item() - toy.s) > 5 * toy.s / math.sqrt(out.numel())
