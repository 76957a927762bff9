"""Every sampler on data whose law is known: it converges, and at its order."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import (
    Predict,
    drive,
    grid_for,
    multistep,
    recorded,
    steps_of,
    way_of,
)
from lcm_studio.sampling.recorded import Point
from lcm_studio.sampling.samplers import Walk
from lcm_studio.sampling.samplers.grids import cost, spaced
from lcm_studio.sampling.samplers.run import TABLE
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS, sampler_info
from tests.sampling.exact import Draws, Mixture, affine_law

VP = NoiseSchedule.from_config({"beta_schedule": "scaled_linear"})
VE = KarrasSchedule(sigma_max=20.0)
SCHEDULES = pytest.mark.parametrize("schedule", [VP, VE], ids=["vp", "ve"])
GAUSSIAN: dict[str, Any] = {"means": (0.3,), "weights": (1.0,), "s": 0.5}
SCORED = [name for name, row in SAMPLERS.items() if row.score]


def way(
    name: str, x: Tensor, levels: Any, model: Mixture, noise: Any = None, **more: Any
) -> Tensor:
    """From the first level to the last, in VE scale, without the clean estimate at the end."""
    settings = sampler_info(name).checked(more.pop("settings", {}))
    walk = Walk(
        schedule=model.schedule, cond=Cond(batch=len(x)), noise=noise or Draws(tuple(x.shape)),
        settings=settings, evaluations=more.pop("evaluations", len(levels)), **more,
    )  # fmt: skip
    return drive(TABLE[name](walk, x, levels), model)


def ends(schedule: Any) -> tuple[float, float]:
    high, low = spaced(schedule, 2, "log-snr")
    return schedule.ve_sigma(high), schedule.ve_sigma(low)


def ode_errors(name: str, schedule: Any, counts: tuple[int, ...]) -> list[float]:
    """Largest distance from the exact end of the ODE, on a mixture of two modes, for numbers of steps."""
    model = Mixture(schedule, s=0.4)
    high, low = ends(schedule)
    p = torch.linspace(0.02, 0.98, 33, dtype=torch.float64)
    x = model.quantile(p, high)
    exact = model.quantile(p, low)
    errors = []
    for count in counts:
        levels = spaced(schedule, count + 1, "karras")
        out = way(name, x.reshape(-1, 1, 1, 1), levels, model)
        errors.append((out.flatten() - exact).abs().max().item())
    return errors


@SCHEDULES
@pytest.mark.parametrize(("name", "order"), [("ode-euler", 1), ("ode-heun", 2), ("dpmpp", 2)])
def test_ode_solvers_converge_at_their_order(schedule: Any, name: str, order: int) -> None:
    errors = ode_errors(name, schedule, (64, 128, 256))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < (0.1 if order == 1 else 0.005)
    assert rates[-1] == pytest.approx(order, abs=0.3), (errors, rates)


@SCHEDULES
def test_a_first_order_solver_is_noticed(schedule: Any) -> None:
    """Heun without its second slope must fail the order test above."""
    errors = ode_errors("ode-euler", schedule, (64, 128, 256))
    assert math.log2(errors[-2] / errors[-1]) < 1.5


@SCHEDULES
def test_euler_is_ddim(schedule: Any) -> None:
    model, x = Mixture(schedule), Draws((4, 3, 8, 8)).draw()
    x_t = schedule.prior(x)
    levels = spaced(schedule, 12, "karras") if schedule is VE else (999.0, 749.0, 400.0, 81.0)
    common: dict[str, Any] = {"schedule": schedule, "noise": Draws((4, 3, 8, 8))}
    by_euler = drive(steps_of("ode-euler", x_t, levels, Cond(batch=4), **common), model)
    by_ddim = drive(
        multistep(x_t, levels, Cond(batch=4), way=way_of(schedule, False), **common), model
    )
    assert torch.allclose(by_euler, by_ddim, atol=1e-9)


@pytest.mark.parametrize("clean", [True, False])
def test_euler_is_ddim_where_the_schedule_does_not_end_clean(clean: bool) -> None:
    config = {"_class_name": "DDIMScheduler", "set_alpha_to_one": clean}
    schedule = NoiseSchedule.from_config(config)
    model, x = Mixture(schedule), Draws((2, 3, 4, 4)).draw()
    common: dict[str, Any] = {"schedule": schedule, "noise": Draws((2, 3, 4, 4))}
    levels = (999.0, 499.0, 99.0)
    by_euler = drive(steps_of("ode-euler", x, levels, Cond(batch=2), **common), model)
    by_ddim = drive(
        multistep(x, levels, Cond(batch=2), way=way_of(schedule, False), **common), model
    )
    assert torch.allclose(by_euler, by_ddim, atol=1e-9)


@SCHEDULES
@pytest.mark.parametrize("name", ["ode-heun", "rk45"])
def test_forward_then_reverse_returns(schedule: Any, name: str) -> None:
    model, x0 = Mixture(schedule), torch.tensor([-1.1, -0.7, 0.1, 0.75, 1.0], dtype=torch.float64)
    down = spaced(schedule, 257, "karras")
    more: dict[str, Any] = {}
    if name == "rk45":
        down, more = (down[0], down[-1]), {"evaluations": 2000, "settings": {"tolerance": 1e-6}}
    up = way(name, x0.reshape(-1, 1, 1, 1), down[::-1], model, **dict(more))
    back = way(name, up, down, model, **dict(more))
    high, low = ends(schedule)
    assert torch.allclose(up.flatten(), model.follow(x0, low, high), rtol=2e-3, atol=2e-3)
    assert (back.flatten() - x0).abs().max() < 2e-3


def gaussian_law(name: str, schedule: Any, count: int, **settings: Any) -> tuple[float, float]:
    """(mean, std) at the lowest level of what the sampler makes of the exact law at the highest one."""
    model = Mixture(schedule, **GAUSSIAN)
    levels = spaced(schedule, count, "karras")
    high, _ = ends(schedule)

    def run(x: Tensor, noise: Any) -> Tensor:
        return way(name, x, levels, model, noise, settings=settings)

    return affine_law(run, count - 1, 0.3, math.hypot(0.5, high))[:2]


@SCHEDULES
@pytest.mark.parametrize("name", ["sde", "ancestral"])
def test_the_law_of_sde_samplers_converges_at_order_one(schedule: Any, name: str) -> None:
    low = ends(schedule)[1]
    errors = []
    for count in (65, 129, 257):
        mean, std = gaussian_law(name, schedule, count)
        errors.append(max(abs(mean - 0.3), abs(std - math.hypot(0.5, low))))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < 0.05
    assert rates[-1] == pytest.approx(1, abs=0.3), (errors, rates)


@SCHEDULES
def test_langevin_reaches_the_law_of_its_last_level(schedule: Any) -> None:
    """The law that many small steps leave is that of the smallest level, up to the size of a step."""
    model = Mixture(schedule, **GAUSSIAN)
    levels = spaced(schedule, 8, "log-snr")
    high, low = ends(schedule)
    target = math.hypot(0.5, low)
    errors = []
    for step, per_level in ((0.4, 60), (0.2, 120), (0.1, 240)):
        made = per_level * len(levels)

        def run(x: Tensor, noise: Any, step: float = step, made: int = made) -> Tensor:
            settings = {"step": step, "denoise": False}
            return way("langevin", x, levels, model, noise, settings=settings, evaluations=made)

        mean, std, count = affine_law(run, made, 0.0, high)
        assert count == made
        errors.append(max(abs(mean - 0.3), abs(std - target)))
    assert errors[-1] < 0.06


@SCHEDULES
@pytest.mark.parametrize(
    ("name", "evaluations", "settings"),
    [
        ("sde", 300, {"spacing": "karras"}),
        ("ancestral", 300, {"spacing": "karras"}),
        ("pc", 300, {"spacing": "karras", "snr": 0.1}),
        ("langevin", 601, {"levels": 30}),
        ("langevin-2020", 601, {}),
        ("ode-heun", 101, {}),
        ("rk45", 300, {"tolerance": 1e-4}),
    ],
)  # fmt: skip
def test_every_sampler_draws_the_mixture(
    schedule: Any, name: str, evaluations: int, settings: dict[str, Any]
) -> None:
    model = Mixture(schedule)
    noise = Draws((16, 1, 16, 16))
    levels = grid_for(name, schedule, evaluations=evaluations, settings=settings, dimensions=256)
    high, low = ends(schedule)
    x = model.quantile(torch.special.ndtr(noise.draw().flatten()), high).reshape(16, 1, 16, 16)
    x_t = x * schedule.alpha_sigma(schedule.level_tensor(levels[0], 1), x)[0]
    steps = steps_of(
        name, x_t, levels, Cond(batch=16), schedule=schedule, noise=noise, settings=settings,
        evaluations=evaluations, together=True,
    )  # fmt: skip
    out = drive(steps, model).flatten()
    assert model.calls <= evaluations
    wanted = model.denoise(
        model.quantile(torch.rand(4096, generator=noise.generator).double(), low),
        torch.tensor([low]),
    )
    distance = stats.ks_2samp(out.numpy(), wanted.numpy()).statistic
    # 1.95 sqrt(2 / n) is passed once in a thousand; Langevin leaves its own error of a step on top
    assert distance < 1.95 * math.sqrt(2 / 4096) + (0.04 if name.startswith("langevin") else 0), (
        distance
    )


@SCHEDULES
def test_sde_and_ode_have_the_same_marginals(schedule: Any) -> None:
    model, levels = Mixture(schedule), spaced(schedule, 301, "karras")
    noise = Draws((4000, 1, 1, 1), seed=3)
    high, _ = ends(schedule)
    x = model.quantile(torch.special.ndtr(noise.draw().flatten()), high).reshape(-1, 1, 1, 1)
    middle = levels[:200]
    for part in (levels, middle):
        by_sde = way("ancestral", x, part, model, noise).flatten().numpy()
        by_ode = way("ode-heun", x, part, model).flatten().numpy()
        assert stats.ks_2samp(by_sde, by_ode).pvalue > 0.01
        assert np.abs(by_sde - by_ode).max() > 0.1  # not the same points


@SCHEDULES
@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-6])
def test_rk45_meets_its_tolerance(schedule: Any, tolerance: float) -> None:
    model = Mixture(schedule)
    high, low = ends(schedule)
    p = torch.tensor(
        [0.05, 0.2, 0.5, 0.65, 0.8, 0.95], dtype=torch.float64
    )  # 0.35 is the watershed
    x = model.quantile(p, high).reshape(-1, 1, 1, 1)
    out = way(
        "rk45", x, spaced(schedule, 2, "log-snr"), model, evaluations=5000,
        settings={"tolerance": tolerance},
    ).flatten()  # fmt: skip
    error = (out - model.quantile(p, low)).abs().max().item()
    assert error < 100 * tolerance  # of one step; between two modes the flow stretches it


def test_rk45_is_scipys_own() -> None:
    from scipy.integrate import solve_ivp

    model, levels = Mixture(VE), spaced(VE, 2, "log-snr")
    high, low = ends(VE)

    def slope(theta: float, y: Any) -> Any:
        """dy/dtheta of y = x cos(theta), sigma = tan(theta)."""
        x = torch.from_numpy(y) / math.cos(theta)
        sigma = torch.tensor([math.tan(theta)], dtype=torch.float64)
        clean = model.denoise(x, sigma)
        return (math.cos(theta) * (x - clean) / sigma - math.sin(theta) * clean).numpy()

    span, y0 = (math.atan(high), math.atan(low)), [3.0 * math.cos(math.atan(high))]
    wanted = solve_ivp(slope, span, y0, rtol=1e-5, atol=1e-5)
    x = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    out = way("rk45", x, levels, model, evaluations=5000, settings={"tolerance": 1e-5})
    assert out.item() == pytest.approx(wanted.y[0, -1] / math.cos(span[1]), abs=1e-9)
    assert model.calls == wanted.nfev


def test_rows_of_rk45_do_not_depend_on_each_other() -> None:
    x = torch.tensor([-20.0, 1.0, 30.0], dtype=torch.float64).reshape(-1, 1, 1, 1)
    more: dict[str, Any] = {"evaluations": 500}
    levels = spaced(VE, 2, "log-snr")
    joint = way("rk45", x, levels, Mixture(VE), **dict(more))
    alone = torch.cat([way("rk45", row[None], levels, Mixture(VE), **dict(more)) for row in x])
    assert torch.allclose(joint, alone, atol=1e-12)


def test_rk45_out_of_evaluations_ends_with_a_word() -> None:
    model, noise, warnings = Mixture(VE), Draws((2, 1, 1, 1)), list[str]()
    levels = grid_for("rk45", VE, evaluations=12)
    steps = steps_of(
        "rk45", VE.prior(noise.draw()), levels, Cond(batch=2), schedule=VE, noise=noise,
        settings={"tolerance": 1e-6}, evaluations=12, warnings=warnings,
    )  # fmt: skip
    out = drive(steps, model)
    assert torch.isfinite(out).all()
    assert out.abs().max() < 2
    assert "12 evaluations" in warnings[0]
    assert model.calls <= 12


@SCHEDULES
@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("evaluations", [10, 16, 50])
def test_no_sampler_takes_more_evaluations_than_it_is_given(
    schedule: Any, name: str, evaluations: int
) -> None:
    model, noise = Mixture(schedule), Draws((2, 1, 4, 4))
    levels = grid_for(name, schedule, evaluations=evaluations, dimensions=16)
    x = schedule.prior(noise.draw())
    asks: list[Any] = []
    out = drive(
        steps_of(
            name, x, levels, Cond(batch=2), schedule=schedule, noise=noise, evaluations=evaluations
        ),
        model,
        on_ask=asks.append,
    )
    planned = cost(name, levels, {}, evaluations)
    assert model.calls <= planned <= evaluations
    if name != "rk45":
        assert model.calls == planned
    assert torch.isfinite(out).all()
    assert sum(isinstance(ask, Predict) for ask in asks) == model.calls


def test_ancestral_is_stock_ddpm() -> None:
    from diffusers import DDPMScheduler

    stock = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
    )
    stock.set_timesteps(10)
    levels = [float(t) for t in stock.timesteps]
    noise, model = Draws((2, 3, 4, 4)), Mixture(VP)
    x = noise.draw()
    out = way(
        "ancestral", x / VP.alpha_sigma(torch.tensor([int(levels[0])]), x)[0], levels, model, noise
    )
    out = out * VP.alpha_sigma(torch.tensor([int(levels[-1])]), out)[0]
    again = Draws((2, 3, 4, 4))
    y = again.draw()
    for t in stock.timesteps[:-1]:
        alpha, sigma = VP.alpha_sigma(t.reshape(1), y)
        eps = (y - alpha * model.denoise(y / alpha, sigma / alpha)) / sigma
        y = _ddpm(stock, eps, t, y, again.draw())
    assert torch.allclose(out, y, atol=1e-5)


def _ddpm(stock: Any, eps: Tensor, t: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """diffusers' step with our noise in place of its own: the mean from a step whose noise is known to be added last."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    stepped = stock.step(eps, t, y, generator=torch.Generator().manual_seed(0)).prev_sample
    spread = stock._get_variance(t) ** 0.5
    return stepped + spread * (z - drawn)


def test_what_is_recorded_is_every_evaluation_and_changes_nothing() -> None:
    model, seen = Mixture(VP), list[Point]()
    x = Draws((2, 1, 4, 4)).draw()

    def go(watch: bool) -> Tensor:
        noise = Draws((2, 1, 4, 4), seed=5)
        levels = grid_for("pc", VP, evaluations=9)
        steps = steps_of("pc", x, levels, Cond(batch=2), schedule=VP, noise=noise, evaluations=9)
        return drive(recorded(steps, seen.append) if watch else steps, model)

    assert torch.equal(go(True), go(False))
    assert len(seen) == 8
    sigmas = [VP.ve_sigma(float(p.t[0])) for p in seen]
    assert sigmas == sorted(sigmas, reverse=True)


def test_levels_between_timesteps_are_smooth_and_whole_ones_exact() -> None:
    t = torch.linspace(0, 999, 5000, dtype=torch.float64)
    alpha, sigma = VP.alpha_sigma(t, t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t))
    assert (alpha.diff() < 0).all()
    whole = torch.arange(1000)
    assert torch.equal(VP.alpha_sigma(whole.double(), t)[0], VP.alpha_sigma(whole, t)[0])
    back = VP.levels_at(sigma / alpha)
    assert torch.allclose(back, t, atol=1e-6)
    assert VP.level_tensor(12.0, 2).dtype == torch.long
    assert VP.ve_sigma(499.5) == pytest.approx((VP.ve_sigma(499) * VP.ve_sigma(500)) ** 0.5)


def test_pure_noise_is_left_by_a_step_that_needs_no_ve_scale() -> None:
    config = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    schedule = NoiseSchedule.from_config(config)

    class FromNoise(Mixture):
        def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
            if float(t[0]) == 999:
                return torch.full_like(x_t, float((self.means * self.weights).sum()))
            return super().predict(x_t, t, cond)

    for name in ("ode-heun", "sde", "dpmpp", "rk45"):
        noise, model = Draws((3, 1, 4, 4)), FromNoise(schedule)
        levels = grid_for(
            name,
            schedule,
            evaluations=20,
            model_grid=lambda n: [999.0 - i * 999 // n for i in range(n)],
        )
        steps = steps_of(
            name,
            noise.draw(),
            levels,
            Cond(batch=3),
            schedule=schedule,
            noise=noise,
            evaluations=20,
        )
        out = drive(steps, model)
        assert torch.isfinite(out).all()
        assert out.abs().max() < 3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rk45", {"tolerance": 0}),
        ("rk45", {"tolerance": float("nan")}),
        ("ode-heun", {"spacing": "even"}),
        ("pc", {"corrector_steps": 1.5}),
        ("dpmpp", {"tolerance": 0.1}),
        ("langevin", {"denoise": "perhaps"}),
    ],
)
def test_wrong_settings_are_one_sentence(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        sampler_info(name).checked(settings)
    assert "\n" not in str(caught.value)
    assert next(iter(settings)) in str(caught.value)
