"""The maths equals diffusers' schedulers, number by number."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, DDIMScheduler, LCMScheduler
from diffusers import LatentConsistencyModelPipeline as Pipeline

from lcm_studio.maths.boundary import cm_scalings, lcm_scalings
from lcm_studio.maths.grids import cm_timesteps, ddim_timesteps, karras_sigmas, lcm_timesteps
from lcm_studio.maths.guidance import guidance_embedding
from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.parameterization import dynamic_threshold
from lcm_studio.maths.pixels import from_pixels, to_pixels
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.spec.errors import BadRequest, ModelError


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero", [False, True])
def test_alphas(name: str, zero: bool) -> None:
    scheduler = LCMScheduler(
        beta_schedule=name, rescale_betas_zero_snr=zero, prediction_type="v_prediction"
    )
    mine = NoiseSchedule.from_config(scheduler.config).alphas_cumprod
    assert torch.allclose(mine, scheduler.alphas_cumprod.double(), atol=3e-6)


def test_zero_terminal_snr_refuses_epsilon() -> None:
    with pytest.raises(ModelError, match="zero terminal SNR"):
        NoiseSchedule.from_config({"rescale_betas_zero_snr": True})


@pytest.mark.parametrize("original", [50, 100, 17])
def test_lcm_grid_for_every_step_count(original: int) -> None:
    for steps in range(1, original + 1):
        scheduler = LCMScheduler(original_inference_steps=original)
        scheduler.set_timesteps(steps)
        assert lcm_timesteps(steps, original) == scheduler.timesteps.tolist()
    with pytest.raises(BadRequest):
        lcm_timesteps(original + 1, original)
    with pytest.raises(BadRequest):
        lcm_timesteps(0, original)


@pytest.mark.parametrize("shift", [1.5, 2.0, 3.0, 7.0])
def test_a_shifted_lcm_grid_stays_on_the_levels_that_were_trained(shift: float) -> None:
    origin = LCMScheduler(original_inference_steps=50)
    origin.set_timesteps(50)
    known = origin.timesteps.tolist()
    for steps in range(1, 51):
        even, shifted = lcm_timesteps(steps), lcm_timesteps(steps, shift=shift)
        assert shifted[0] == even[0] and all(b < a for a, b in pairwise(shifted))
        assert set(shifted) <= set(known) and len(shifted) == steps
        assert all(s >= e for s, e in zip(shifted, even, strict=True))
        stock = LCMScheduler(original_inference_steps=50)
        stock.set_timesteps(timesteps=shifted)
        assert stock.timesteps.tolist() == shifted
    assert lcm_timesteps(4, shift=2) == [999, 859, 679, 399]  # u = 3/4, 1/2, 1/4 -> 6/7, 2/3, 2/5
    assert lcm_timesteps(50, shift=shift) == known


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50, 999])
def test_ddim_grid(spacing: str, steps: int) -> None:
    scheduler = DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert ddim_timesteps(steps, spacing=spacing) == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 40])
def test_consistency_model_levels(steps: int) -> None:
    scheduler = CMStochasticIterativeScheduler()
    scheduler.set_timesteps(steps)
    schedule = KarrasSchedule.from_config(scheduler.config)
    levels = [schedule.sigma_at(i) for i in reversed(cm_timesteps(steps, len(schedule)))]
    assert np.allclose(levels, scheduler.sigmas[:-1].numpy(), rtol=1e-5)
    assert levels[0] == pytest.approx(80.0)


def test_karras_ends() -> None:
    sigmas = karras_sigmas(40)
    assert sigmas[0].item() == pytest.approx(80)
    assert sigmas[-1].item() == pytest.approx(0.002)
    assert bool((sigmas[1:] < sigmas[:-1]).all())


def test_boundary_scalings() -> None:
    scheduler = LCMScheduler()
    for t in (0, 1, 19, 259, 999):
        c_skip, c_out = lcm_scalings(torch.tensor([t]))
        theirs = scheduler.get_scalings_for_boundary_condition_discrete(t)
        assert (c_skip.item(), c_out.item()) == pytest.approx(theirs, rel=1e-6)
    karras = CMStochasticIterativeScheduler()
    for sigma in (0.002, 0.5, 80.0):
        level = torch.tensor([sigma], dtype=torch.float64)
        c_skip, c_out, _ = cm_scalings(level)
        theirs = karras.get_scalings_for_boundary_condition(level)
        assert (c_skip.item(), c_out.item()) == pytest.approx([v.item() for v in theirs])
    c_skip, c_out, _ = cm_scalings(torch.tensor([0.002], dtype=torch.float64))
    assert (c_skip.item(), c_out.item()) == (1.0, 0.0)


@pytest.mark.parametrize("dim", [16, 17, 256])
def test_guidance_embedding(dim: int) -> None:
    w = torch.tensor([0.0, 0.5, 7.0, 14.0])
    theirs = Pipeline.get_guidance_scale_embedding(None, w, embedding_dim=dim)  # type: ignore[arg-type]
    assert torch.equal(guidance_embedding(w, dim), theirs)


def test_dynamic_threshold() -> None:
    scheduler = LCMScheduler(thresholding=True, sample_max_value=3.0)
    x = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 3
    assert torch.allclose(dynamic_threshold(x, most=3.0), scheduler._threshold_sample(x))


def test_add_noise_and_levels() -> None:
    schedule = NoiseSchedule.from_config({})
    x0, eps = torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    t = torch.tensor([19, 999])
    theirs = LCMScheduler().add_noise(x0, eps, t)
    assert torch.allclose(schedule.add_noise(x0, eps, t), theirs, atol=1e-5)
    for level in (0.0, 259.0, 999.0):
        assert schedule.nearest_timestep(schedule.ve_sigma(level)) == level
    assert schedule.ve_sigma(999) == pytest.approx(14.6, abs=0.05)
    karras = KarrasSchedule()
    assert karras.nearest_timestep(1e9) == 80.0
    assert torch.equal(karras.renoise(x0, eps, 0.002), x0)


def test_pixels_there_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([pixels] * 3, axis=-1)
    assert np.array_equal(to_pixels(from_pixels((image,)))[0], image)
    assert to_pixels(torch.full((1, 1, 2, 2), 9.0))[0].shape == (2, 2, 3)
    assert to_pixels(torch.full((1, 3, 2, 2), 9.0))[0].max() == 255
