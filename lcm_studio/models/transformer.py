"""Transformers on latents: flow models (FLUX.1, Stable Diffusion 3, Z-Image) and SANA-Sprint on the circle."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.maths.flow import FlowSchedule, TrigFlowSchedule
from lcm_studio.maths.guidance import cfg
from lcm_studio.models.codec import LatentCodec
from lcm_studio.models.families import FAMILIES, Family
from lcm_studio.models.kinds import Kind, kind_of, row_of
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.models.tiny import FAST
from lcm_studio.models.weights import LoraSwitch
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import LoraSpec

KEPT_PROMPTS = 64
HIGHEST = 1.5708  # of SANA-Sprint's levels, as its pipeline starts
MIDDLE = 1.3  # its second level, with two steps alone


class TransformerModel:
    """f(x_t, t, cond) of a transformer between stock diffusers' text encoding and an autoencoder.

    Not thread-safe by itself but for `truncated`: the engine's lane is the only caller.
    """

    latent = True

    def __init__(
        self,
        *,
        info: ModelInfo,
        parts: Mapping[str, Any],
        codec: LatentCodec,
        scheduler: Mapping[str, Any],
        placement: Placement,
        loras: LoraSwitch,
    ) -> None:
        self.info = info
        self.transformer = parts["transformer"]
        self.components = dict(parts)
        self.codec = codec
        self.preview_decoder = FAST if codec.offer(FAST) else "default"
        self.scheduler = dict(scheduler)
        self.placement = placement
        self.loras = loras
        self.family: Family = FAMILIES[info.kind]()
        self.schedule: TrigFlowSchedule | FlowSchedule = (
            TrigFlowSchedule() if info.kind == "sana" else FlowSchedule()
        )
        self._pipe = self.family.pipeline(parts, scheduler)
        self._texts: OrderedDict[Hashable, dict[str, Tensor]] = OrderedDict()
        # truncation is state of a tokenizer, and the lane encodes while requests are checked: these have their own
        self._counter: Any = None
        self._counting = threading.Lock()

    @property
    def device(self) -> str:
        return self.placement.device

    @property
    def decoder_reach(self) -> int | None:
        """How many cells around a part of the picture its decoding needs; None = all."""
        return self.codec.reach

    def use(self, *, loras: tuple[LoraSpec, ...] = (), decoder: str = "default") -> None:
        """Switches to a set of LoRAs and a decoder for the calls that follow.

        Raises ModelError where a file does not fit; the previous state then stays.
        """
        self.loras.use(loras)
        self.codec.use(decoder)

    def close(self) -> None:
        """Ends what a backend does beside the calls; it runs the codec alone."""
        if self.codec.backend is not None:
            self.codec.backend.close()

    def sample_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of a picture."""
        factor = self.codec.factor
        return self.codec.vae.config.latent_channels, height // factor, width // factor

    def levels(self) -> list[float]:
        """A thousand falling levels."""
        top = HIGHEST if self.info.kind == "sana" else 1.0
        return [float(t) for t in np.linspace(top, 0, len(self.schedule), endpoint=False)]

    def grid(
        self,
        steps: int,
        timesteps: Sequence[int] | None = None,
        *,
        kind: Kind | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[float]:
        """Falling levels as the stock pipeline has them. `timesteps`: of an explicit list, in thousandths.

        Raises BadRequest for a level that there is none of.
        """
        top = HIGHEST if self.info.kind == "sana" else 1.0
        if timesteps is not None:
            bad = [t for t in timesteps if not 0 < t <= round(1000 * top)]
            if bad:
                raise BadRequest(
                    f"timesteps={list(timesteps)}: {bad[0]} is no level of this model; "
                    f"use 1 to {round(1000 * top)} (thousandths)"
                )
            return [min(t / 1000, top) for t in timesteps]
        if self.info.kind == "sana":
            if steps == 2:
                return [float(np.float32(t)) for t in (HIGHEST, MIDDLE)]
            return [float(t) for t in torch.linspace(HIGHEST, 0, steps + 1)[:-1]]
        width, height = size or (self.info.width, self.info.height)
        _, rows, columns = self.sample_shape(width, height)
        return self.family.sigmas(self.scheduler, steps, (rows // 2) * (columns // 2))

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        """The conditioning of one image per prompt; texts are encoded once and kept."""
        return Cond.join([self._embed_one(prompt) for prompt in prompts])

    def _embed_one(self, prompt: Prompt) -> Cond:
        scale = self.info.guidance_default if prompt.guidance is None else prompt.guidance
        kind = kind_of(prompt.kind) if prompt.kind else row_of(self.info)
        guided = kind.guidance != "embedded" and scale > 1
        tensors = {f"text_{name}": value for name, value in self._text(prompt.text).items()}
        if guided:
            uncond = self._text(prompt.negative)
            tensors |= {f"uncond_{name}": value for name, value in uncond.items()}
        tensors["scale"] = torch.tensor([scale], dtype=torch.float32, device=self.device)
        return Cond(tensors=tensors, batch=1, group=(guided,))

    def _text(self, text: str) -> dict[str, Tensor]:
        key = (text, self.loras.state)
        if key not in self._texts:
            self._texts[key] = self.family.encode(self._pipe, text)
            while len(self._texts) > KEPT_PROMPTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """x0_hat `(B, C, H, W)`, float32: one network call, doubled inside for classifier-free guidance."""
        guided = bool(cond.group[0]) if isinstance(cond.group, tuple) and cond.group else False
        scale = cond.tensors["scale"]
        text = _part(cond.tensors, "text_")
        if guided:
            uncond = _part(cond.tensors, "uncond_")
            text = {name: torch.cat([uncond[name], value]) for name, value in text.items()}
        twice = 2 if guided else 1
        level = t.to(x_t.device, torch.float32)
        velocity = self.family.velocity(
            self.transformer,
            x_t.float().repeat(twice, 1, 1, 1),
            level.repeat(twice),
            text,
            scale.repeat(twice),
        ).float()
        if guided:
            without, with_text = velocity.chunk(2)
            velocity = cfg(without, with_text, scale.reshape(-1, 1, 1, 1))
        level = level.reshape(-1, 1, 1, 1)
        if self.info.kind == "sana":
            return level.cos() * x_t - level.sin() * velocity
        return x_t - level * velocity

    def decode(self, latents: Tensor) -> Tensor:
        """Images `(B, 3, H, W)`, nominally in [-1, 1]."""
        return self.codec.decode(latents)

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents of images `(B, 3, H, W)` in [-1, 1]: the posterior's mean."""
        return self.codec.encode(images)

    def check(self, images: Tensor) -> tuple[bool, ...]:
        """There is no safety checker in these families."""
        return (False,) * len(images)

    def notes(self, loras: tuple[LoraSpec, ...]) -> tuple[str, ...]:
        """What of LoRA files in use is not applied."""
        return self.loras.notes(loras)

    def truncated(self, text: str) -> str:
        """The part of `text` that the tokenizer cuts off, or nothing."""
        with self._counting:
            if self._counter is None:
                self._counter = copy.deepcopy(self.family.tokenizer(self._pipe))
            tokenizer = self._counter
            ids = tokenizer(text, truncation=False, verbose=False).input_ids
        most = self.family.tokens
        return "" if len(ids) <= most else str(tokenizer.decode(ids[most - 1 : -1])).strip()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
