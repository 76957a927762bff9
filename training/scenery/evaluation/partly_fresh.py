"""diffusers' LCMScheduler with a share of fresh noise, as `lcm_studio.sampling.ways.Way` has it."""

from __future__ import annotations

from typing import Any

from diffusers import LCMScheduler
from diffusers.schedulers.scheduling_lcm import LCMSchedulerOutput

from lcm_studio.maths.parameterization import partly_fresh


class PartlyFresh(LCMScheduler):
    """x' = alpha' x_0 + sigma' (eta z + sqrt(1 - eta^2) eps): `eta` 1 is the stock scheduler, 0 is DDIM's step.

    z is the noise that the stock scheduler draws, eps the noise that x_t and x_0 imply.
    """

    eta: float = 1.0

    # pipelines look whether `generator` is among the parameters
    def step(
        self,
        model_output: Any,
        timestep: Any,
        sample: Any,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """One step; see diffusers' LCMScheduler."""
        x, x_0 = super().step(model_output, timestep, sample, generator, return_dict=False)
        if self.step_index < self.num_inference_steps:
            signal = self.alphas_cumprod[self.timesteps[self.step_index]]
            before = self.alphas_cumprod[timestep]
            clean, sigma = signal.sqrt() * x_0, (1 - signal).sqrt()
            z = (x - clean) / sigma  # the noise that was drawn
            x = clean + sigma * partly_fresh(
                sample, x_0, before.sqrt(), (1 - before).sqrt(), z, self.eta
            )
        return LCMSchedulerOutput(prev_sample=x, denoised=x_0) if return_dict else (x, x_0)
