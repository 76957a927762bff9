"""Pixel-space consistency models (Song et al. 2023) in diffusers' ConsistencyModelPipeline form.

A diffusion model of that form (Karras et al. 2022; what `python -m training edm` writes) has `"consistency": false` in its
studio.json: diffusers has no pipeline for it, and its weights alone do not tell the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.maths.boundary import cm_scalings, edm_scalings
from lcm_studio.maths.grids import cm_timesteps, karras_sigmas
from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.models.backends import Backend, Runner, first_output
from lcm_studio.models.kinds import Kind
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import LoraSpec


class PixelModel:
    """f(x, sigma) = c_skip x + c_out F(c_in x, 250 ln sigma), clipped to [-1, 1].

    Of a diffusion model this is D(x; sigma) = E[x_0 | x], with Karras' scalings, which is not clipped: the clip would
    bend the score.
    """

    latent = False
    decoder_reach = 0
    preview_decoder = "default"

    def __init__(
        self,
        *,
        info: ModelInfo,
        unet: Any,
        scheduler: Mapping[str, Any],
        placement: Placement,
        backend: Backend | None = None,
    ) -> None:
        self.info = info
        self.unet = unet
        self.scheduler = dict(scheduler)
        self.schedule = KarrasSchedule.from_config(scheduler)
        self.placement = placement
        self.backend = backend
        self._run = Runner(unet, first_output, "the UNet", backend=backend)

    @property
    def device(self) -> str:
        return self.placement.device

    def use(self, *, loras: tuple[LoraSpec, ...] = (), decoder: str = "default") -> None:
        """Pixel-space models have neither LoRAs nor decoders; raises ModelError where one is asked for."""
        if loras or decoder != "default":
            raise ModelError("pixel-space models take no LoRA and no decoder; remove them")

    def close(self) -> None:
        """Ends what a backend does beside the calls."""
        if self.backend is not None:
            self.backend.close()

    def sample_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H, W) of the picture itself."""
        return self.unet.config.in_channels, height, width

    def levels(self) -> list[float]:
        """All sigmas of the model's grid, falling."""
        return [self.schedule.sigma_at(i) for i in range(len(self.schedule))]

    def grid(
        self,
        steps: int,
        timesteps: Sequence[int] | None = None,
        *,
        kind: Kind | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[float]:
        """Falling sigmas. `timesteps`: falling indices, which diffusers reads from the other end: [22, 0] of 40
        samples at level 0 (sigma_max) and then at level 22.

        Of a diffusion model, `steps` sigmas from sigma_max down to sigma_min (Karras et al. 2022, eq. 5).
        Raises BadRequest for an index that is none of the model's.
        """
        levels = len(self.schedule)
        if timesteps is None and not (self.info.consistency and (kind is None or kind.few)):
            s = self.schedule
            sigmas = karras_sigmas(steps, sigma_min=s.sigma_min, sigma_max=s.sigma_max, rho=s.rho)
            return [float(sigma) for sigma in sigmas]
        index = cm_timesteps(steps, levels) if timesteps is None else list(timesteps)
        bad = [i for i in index if not 0 <= i < levels]
        if bad:
            raise BadRequest(
                f"timesteps={index}: {bad[0]} is no level of this model; use 0 to {levels - 1}"
            )
        return [self.schedule.sigma_at(i) for i in reversed(index)]

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        """The class labels, one per prompt, of a class-conditional model."""
        if not self.info.classes:
            return Cond(batch=len(prompts))
        labels = [prompt.label or 0 for prompt in prompts]
        return Cond(
            tensors={"labels": torch.tensor(labels, device=self.device)}, batch=len(prompts)
        )

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """x0_hat `(B, C, H, W)`, float32, for `x_t` at sigmas `t` `(B,)`."""
        s = self.schedule
        if self.info.consistency:
            scalings = cm_scalings(t, sigma_data=s.sigma_data, sigma_min=s.sigma_min)
        else:
            scalings = edm_scalings(t, sigma_data=s.sigma_data)
        c_skip, c_out, c_in = (c.to(x_t).reshape(-1, 1, 1, 1) for c in scalings)
        x = (c_in * x_t).to(self.placement.torch_dtype())
        if self.placement.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        time = (250.0 * t.double().log()).to(x.device, torch.float32)
        pred = self._run(x, time, class_labels=cond.tensors.get("labels"))
        x0 = c_out * pred.float() + c_skip * x_t
        clipped: Tensor = x0.clamp(-1, 1) if s.clip_denoised and self.info.consistency else x0
        return clipped

    def decode(self, latents: Tensor) -> Tensor:
        """The identity."""
        return latents

    def encode(self, images: Tensor) -> Tensor:
        """The identity."""
        return images

    def check(self, images: Tensor) -> tuple[bool, ...]:
        """There is no safety checker in this family."""
        return (False,) * len(images)

    def notes(self, loras: tuple[LoraSpec, ...]) -> tuple[str, ...]:
        """What of LoRA files in use is not applied."""
        return ()

    def truncated(self, text: str) -> str:
        """Nothing: no prompt is taken."""
        return ""
