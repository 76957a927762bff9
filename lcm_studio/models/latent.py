"""Latent models: LCMs with a guidance embedding, and SD 1.x/2.x/SDXL by classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.maths.boundary import lcm_scalings
from lcm_studio.maths.grids import ddim_timesteps, lcm_timesteps
from lcm_studio.maths.guidance import cfg, guidance_embedding
from lcm_studio.maths.parameterization import dynamic_threshold, to_x0
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.backends import Backend, Runner, first_output
from lcm_studio.models.catalog import original_steps
from lcm_studio.models.codec import LatentCodec
from lcm_studio.models.ip_adapter import IPAdapter
from lcm_studio.models.kinds import Kind, kind_of, row_of
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.models.steering import Steering
from lcm_studio.models.text import TextEncoders
from lcm_studio.models.tiny import FAST
from lcm_studio.models.weights import LoraSwitch
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import EmbeddingSpec, LoraSpec


class LatentModel:
    """f(x_t, t, cond) of a UNet2DConditionModel between a text encoder and an autoencoder.

    Not thread-safe by itself: the engine's lane is the only caller.
    """

    latent = True

    def __init__(
        self,
        *,
        info: ModelInfo,
        unet: Any,
        text: TextEncoders,
        codec: LatentCodec,
        scheduler: Mapping[str, Any],
        placement: Placement,
        loras: LoraSwitch,
        safety: Any = None,
        components: Mapping[str, Any] | None = None,
        backend: Backend | None = None,
        load_control: Callable[[str], Any] | None = None,
        load_adapter: Callable[[tuple[str, str]], IPAdapter] | None = None,
    ) -> None:
        self.info = info
        self.unet = unet
        self.text = text
        self.codec = codec
        self.scheduler = dict(scheduler)
        self.schedule = NoiseSchedule.from_config(scheduler)
        self.placement = placement
        self.loras = loras
        self.safety = safety
        self.components = dict(components or {})
        self.backend = backend
        self._steering = Steering(unet, info.id, load_control, load_adapter)
        self._run = Runner(unet, first_output, "the UNet", backend=backend)
        self._w_dim: int | None = unet.config.time_cond_proj_dim
        self._channels: int = unet.config.in_channels

        self.preview_decoder = FAST if codec.offer(FAST) else "default"

    @property
    def device(self) -> str:
        return self.placement.device

    @property
    def decoder_reach(self) -> int | None:
        """How many cells around a part of the picture its decoding needs; None = all."""
        return self.codec.reach

    def use(
        self,
        *,
        loras: tuple[LoraSpec, ...] = (),
        decoder: str = "default",
        control: str = "",
        ip_adapter: tuple[str, str] | None = None,
    ) -> None:
        """Switches to a set of LoRAs, a decoder, a ControlNet's folder and an IP-Adapter's (file, encoder's folder).

        It holds for the calls that follow. Raises ModelError where a file does not fit; the previous state then stays.
        """
        try:
            self.loras.use(loras)
        finally:
            self._run.variant = self.loras.state
        self.codec.use(decoder)
        self._steering.use(control, ip_adapter)

    def close(self) -> None:
        """Ends what a backend does beside the calls."""
        if self.backend is not None:
            self.backend.close()

    def sample_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of a picture."""
        factor = self.codec.factor
        return self._channels, height // factor, width // factor

    def levels(self) -> list[float]:
        """The grid that a latent consistency model was distilled on, else every timestep, falling."""
        if row_of(self.info).boundary:
            return self.grid(self._original_steps)
        return [float(t) for t in range(len(self.schedule) - 1, -1, -1)]

    def grid(
        self,
        steps: int,
        timesteps: Sequence[int] | None = None,
        *,
        kind: Kind | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[float]:
        """Falling timesteps, spaced as the kind has them.

        Raises BadRequest where the grid has fewer levels than asked for, or a timestep is none of the model's.
        """
        kind = kind or row_of(self.info)
        most = len(self.schedule)
        if timesteps is not None:
            bad = [t for t in timesteps if not 0 <= t < most]
            if bad:
                raise BadRequest(
                    f"timesteps={list(timesteps)}: {bad[0]} is no level of this model; use 0 to {most - 1}"
                )
            return [float(t) for t in timesteps]
        if steps in kind.levels:
            return [float(t) for t in kind.levels[steps]]
        if kind.spacing == "lcm":
            found = lcm_timesteps(steps, self._original_steps, most, shift=self.info.shift)
            return [float(t) for t in found]
        spacing, offset = self.scheduler.get("timestep_spacing", "leading"), 0
        if kind.spacing != "scheduler":
            spacing = kind.spacing
        if spacing == "leading":
            offset = int(self.scheduler.get("steps_offset", 0))
        return [float(t) for t in ddim_timesteps(steps, most, spacing=spacing, offset=offset)]

    @property
    def _original_steps(self) -> int:
        return original_steps(self.scheduler)

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        """The conditioning of one image per prompt; texts are encoded once and kept."""
        chunks = max(
            self.text.chunks(text, self.text.inversions.words(p.embeddings))
            for p in prompts
            for text in (p.text, p.negative)
        )
        return Cond.join([self._embed_one(prompt, chunks) for prompt in prompts])

    def _embed_one(self, prompt: Prompt, chunks: int) -> Cond:
        scale = self.info.guidance_default if prompt.guidance is None else prompt.guidance
        guided = self._w_dim is None and scale > 1
        shared: dict[str, Any] = {
            "state": self.loras.state,
            "chunks": chunks,
            "words": self.text.inversions.words(prompt.embeddings),
        }
        text = self.text.encode(prompt.text, skip=prompt.clip_skip, **shared)
        tensors = {f"text_{name}": value for name, value in text.items()}
        if guided:
            uncond = self.text.encode(prompt.negative, negative=True, **shared)
            tensors |= {f"uncond_{name}": v for name, v in uncond.items()}
            tensors["scale"] = torch.tensor([scale], dtype=torch.float32, device=self.device)
        if self._w_dim is not None:
            w = torch.tensor([scale - 1.0], dtype=torch.float32)
            tensors["w"] = guidance_embedding(w, self._w_dim).to(self.device)
        if self.info.kind == "sdxl":
            h, w_ = prompt.height or self.info.height, prompt.width or self.info.width
            size = [h, w_, 0, 0, h, w_]
            tensors["time_ids"] = torch.tensor([size], dtype=torch.float32, device=self.device)
        tensors |= self._steering.features(prompt, guided=guided)
        return Cond(tensors=tensors, batch=1, group=(guided, prompt.kind, chunks))

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """x0_hat `(B, C, H, W)`, float32: one network call, doubled inside for classifier-free guidance."""
        guided, name = _unpack(cond.group)
        kind = kind_of(name) if name else row_of(self.info)
        pred = self._network(x_t, t, cond, guided=guided).float()
        alpha, sigma = self.schedule.alpha_sigma(t, x_t)
        x0 = to_x0(pred, x_t, alpha, sigma, kind.predicts or self.schedule.prediction_type)
        if kind.way in ("renoise", "ddim"):
            x0 = self._clip(
                x0
            )  # of diffusers' schedulers LCM and DDIM clip, TCD's and Euler's do not
        if not kind.boundary:
            return x0
        c_skip, c_out = lcm_scalings(
            t, timestep_scaling=float(self.scheduler.get("timestep_scaling", 10.0))
        )
        shape = (-1, *(1,) * (x_t.ndim - 1))
        return c_out.to(x0).reshape(shape) * x0 + c_skip.to(x0).reshape(shape) * x_t

    def _clip(self, x0: Tensor) -> Tensor:
        if self.scheduler.get("thresholding", False):
            return dynamic_threshold(
                x0,
                ratio=float(self.scheduler.get("dynamic_thresholding_ratio", 0.995)),
                most=float(self.scheduler.get("sample_max_value", 1.0)),
            )
        if self.scheduler.get("clip_sample", False):
            bound = float(self.scheduler.get("clip_sample_range", 1.0))
            return x0.clamp(-bound, bound)
        return x0

    def _network(self, x_t: Tensor, t: Tensor, cond: Cond, *, guided: bool) -> Tensor:
        c = cond.tensors
        dtype = self.placement.torch_dtype()
        twice = 2 if guided else 1
        hidden, pooled = c["text_hidden"], c.get("text_pooled")
        if guided:
            hidden = torch.cat([c["uncond_hidden"], hidden])
            pooled = None if pooled is None else torch.cat([c["uncond_pooled"], pooled])
        added = None
        if pooled is not None and "time_ids" in c:
            added = {
                "text_embeds": pooled.to(dtype),
                "time_ids": c["time_ids"].to(dtype).repeat(twice, 1),
            }
        x = x_t.to(dtype)
        if self.placement.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = x.repeat(twice, 1, 1, 1) if guided else x
        levels, hidden = t.to(x.device).repeat(twice), hidden.to(dtype)
        given: dict[str, Any] = {
            "encoder_hidden_states": hidden,
            "timestep_cond": c["w"].to(dtype).repeat(twice, 1) if "w" in c else None,
            "added_cond_kwargs": added,
        }
        if "control" in c:
            image, scale = c["control"].to(dtype), c["control_scale"].to(dtype)
            given |= self._steering.residuals(
                x, levels, hidden, added, image.repeat(twice, 1, 1, 1), scale.repeat(twice)
            )
        strength = None
        if "ip_features" in c:
            pictures, strength = c["ip_features"], c["ip_scale"].repeat(twice)
            if guided:
                pictures = torch.cat([c["ip_uncond"], pictures])
            given["added_cond_kwargs"] = {**(added or {}), "image_embeds": [pictures.to(dtype)]}
        if "control" in c or strength is not None:  # their calls are not the backend's
            with self._steering.adapted(strength):
                pred = self.unet(x, levels, **given, return_dict=False)[0]
        else:
            pred = self._run(x, levels, **given)
        if guided:
            uncond, with_text = pred.float().chunk(2)
            pred = cfg(uncond, with_text, c["scale"].reshape(-1, 1, 1, 1))
        return pred

    def decode(self, latents: Tensor) -> Tensor:
        """Images `(B, 3, H, W)`, nominally in [-1, 1]."""
        return self.codec.decode(latents)

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents of images `(B, 3, H, W)` in [-1, 1]: the posterior's mean."""
        return self.codec.encode(images)

    def check(self, images: Tensor) -> tuple[bool, ...]:
        """Per image, whether the folder's own safety checker objects, as in stock diffusers."""
        if self.safety is None:
            return (False,) * len(images)
        return self.safety(images)  # type: ignore[no-any-return]

    def notes(self, loras: tuple[LoraSpec, ...]) -> tuple[str, ...]:
        """What of LoRA files in use is not applied."""
        return self.loras.notes(loras)

    def truncated(self, text: str) -> str:
        """Nothing: what is longer than the text encoder goes through it in chunks."""
        return ""

    def tokens(self, text: str, embeddings: tuple[EmbeddingSpec, ...] = ()) -> tuple[int, int]:
        """(tokens of a prompt, tokens that fit into its chunks)."""
        return self.text.tokens(text, self.text.inversions.words(embeddings))


def _unpack(group: Hashable) -> tuple[bool, str]:
    """(guided, kind) of a group that `embed` made."""
    guided, kind, _ = group if isinstance(group, tuple) and len(group) == 3 else (False, "", 1)
    return bool(guided), str(kind)
