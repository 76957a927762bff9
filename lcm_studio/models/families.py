"""Families of transformers: how each encodes a text, spaces its levels and is called. Texts go through stock pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_studio.maths.flow import trig_to_flow, trig_velocity


class Family:
    """One family. `tokens`: of a prompt, as the model's card has it."""

    name: ClassVar[str]
    tokens: ClassVar[int] = 256
    components: ClassVar[tuple[str, ...]]
    shift: ClassVar[tuple[float, float]] = (0.5, 1.15)  # base and largest, of dynamic shifting

    def pipeline(self, parts: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Any:
        """The stock pipeline around the same components, for its text encoding alone."""
        import diffusers

        kind = getattr(diffusers, str(scheduler.get("_class_name", "")))
        given = {name: parts.get(name) for name in self.components}
        return getattr(diffusers, self.name)(**given, scheduler=kind.from_config(dict(scheduler)))

    def encode(self, pipe: Any, text: str) -> dict[str, Tensor]:
        """Named tensors `(1, ...)` of one prompt."""
        raise NotImplementedError

    def tokenizer(self, pipe: Any) -> Any:
        """The tokenizer that sees most of a prompt."""
        return pipe.tokenizer

    def velocity(
        self, network: Any, x: Tensor, level: Tensor, text: Mapping[str, Tensor], scale: Tensor
    ) -> Tensor:
        """dx/dlevel `(B, C, H, W)` at levels `(B,)` for guidance scales `(B,)`."""
        raise NotImplementedError

    def sigmas(self, config: Mapping[str, Any], steps: int, patches: int) -> list[float]:
        """Falling levels of `steps` steps for a picture of so many patches, by the stock scheduler."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(config))
        self._space(scheduler, steps, self._mu(config, patches))
        return [float(s) for s in scheduler.sigmas[:-1]]

    def _space(self, scheduler: Any, steps: int, mu: float) -> None:
        even = torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64).tolist()
        scheduler.set_timesteps(sigmas=even, mu=mu)

    def _mu(self, config: Mapping[str, Any], patches: int) -> float:
        """Linear in the number of patches (Esser et al. 2024, section 5.3.2, as the stock pipelines have it)."""
        low = int(config.get("base_image_seq_len", 256))
        high = int(config.get("max_image_seq_len", 4096))
        base = float(config.get("base_shift", self.shift[0]))
        most = float(config.get("max_shift", self.shift[1]))
        slope = (most - base) / (high - low)
        return patches * slope + base - slope * low


class Flux(Family):
    name = "FluxPipeline"
    components = (
        "vae",
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
        "transformer",
    )

    def encode(self, pipe: Any, text: str) -> dict[str, Tensor]:
        hidden, pooled, _ = pipe.encode_prompt(
            prompt=[text], prompt_2=None, max_sequence_length=self.tokens
        )
        return {"hidden": hidden, "pooled": pooled}

    def tokenizer(self, pipe: Any) -> Any:
        return pipe.tokenizer_2

    def velocity(
        self, network: Any, x: Tensor, level: Tensor, text: Mapping[str, Tensor], scale: Tensor
    ) -> Tensor:
        batch, channels, height, width = x.shape
        dtype = network.dtype
        packed = F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2).to(dtype)
        rows, columns = height // 2, width // 2
        ids = torch.zeros(rows, columns, 3, device=x.device, dtype=dtype)
        ids[..., 1] += torch.arange(rows, device=x.device)[:, None]
        ids[..., 2] += torch.arange(columns, device=x.device)[None, :]
        words = torch.zeros(text["hidden"].shape[1], 3, device=x.device, dtype=dtype)
        out: Tensor = network(
            hidden_states=packed,
            timestep=(level * 1000).to(dtype) / 1000,
            guidance=scale if network.config.guidance_embeds else None,
            pooled_projections=text["pooled"].to(dtype),
            encoder_hidden_states=text["hidden"].to(dtype),
            txt_ids=words,
            img_ids=ids.reshape(-1, 3),
            return_dict=False,
        )[0]
        grid = out.transpose(1, 2).reshape(batch, 4 * channels, rows, columns)
        return F.pixel_shuffle(grid, 2)


class StableDiffusion3(Family):
    name = "StableDiffusion3Pipeline"
    components = (
        "transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3",
        "tokenizer_3",
    )  # fmt: skip
    shift = (0.5, 1.16)

    def encode(self, pipe: Any, text: str) -> dict[str, Tensor]:
        hidden, _, pooled, _ = pipe.encode_prompt(
            prompt=[text],
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.tokens,
        )
        return {"hidden": hidden, "pooled": pooled}

    def tokenizer(self, pipe: Any) -> Any:
        return pipe.tokenizer_3 or pipe.tokenizer

    def velocity(
        self, network: Any, x: Tensor, level: Tensor, text: Mapping[str, Tensor], scale: Tensor
    ) -> Tensor:
        out: Tensor = network(
            hidden_states=x.to(network.dtype),
            timestep=level * 1000,
            encoder_hidden_states=text["hidden"].to(network.dtype),
            pooled_projections=text["pooled"].to(network.dtype),
            return_dict=False,
        )[0]
        return out

    def _space(self, scheduler: Any, steps: int, mu: float) -> None:
        if scheduler.config.get("use_dynamic_shifting"):
            scheduler.set_timesteps(steps, mu=mu)
        else:
            scheduler.set_timesteps(steps)


class ZImage(Family):
    name = "ZImagePipeline"
    tokens = 512
    components = ("vae", "text_encoder", "tokenizer", "transformer")

    def encode(self, pipe: Any, text: str) -> dict[str, Tensor]:
        (hidden,), _ = pipe.encode_prompt(
            [text], do_classifier_free_guidance=False, max_sequence_length=self.tokens
        )
        length = torch.tensor([len(hidden)], device=hidden.device)
        padded = F.pad(hidden, (0, 0, 0, self.tokens - len(hidden)))  # so that prompts share calls
        return {"hidden": padded[None], "length": length}

    def velocity(
        self, network: Any, x: Tensor, level: Tensor, text: Mapping[str, Tensor], scale: Tensor
    ) -> Tensor:
        dtype = network.dtype
        prompts = [
            row[: int(n)].to(dtype)
            for row, n in zip(text["hidden"], text["length"].tolist(), strict=True)
        ]
        frames = list(x.to(dtype).unsqueeze(2).unbind(0))
        out = network(frames, (1000 - level * 1000) / 1000, prompts, return_dict=False)[0]
        return -torch.stack([frame.float() for frame in out]).squeeze(2)


class Sana(Family):
    name = "SanaSprintPipeline"
    tokens = 300
    components = ("tokenizer", "text_encoder", "vae", "transformer")

    def encode(self, pipe: Any, text: str) -> dict[str, Tensor]:
        default = inspect.signature(type(pipe).__call__).parameters["complex_human_instruction"]
        hidden, mask = pipe.encode_prompt(
            [text], complex_human_instruction=default.default, max_sequence_length=self.tokens
        )
        return {"hidden": hidden, "mask": mask}

    def velocity(
        self, network: Any, x: Tensor, level: Tensor, text: Mapping[str, Tensor], scale: Tensor
    ) -> Tensor:
        """On the circle, in units of the data's spread."""
        dtype = network.dtype
        s = trig_to_flow(level)
        wide = s.reshape(-1, 1, 1, 1)
        scaled = x * (wide**2 + (1 - wide) ** 2).sqrt()
        out = network(
            scaled.to(dtype),
            encoder_hidden_states=text["hidden"].to(dtype),
            encoder_attention_mask=text["mask"],
            guidance=scale.to(dtype) * network.config.guidance_embeds_scale,
            timestep=s,
            return_dict=False,
        )[0]
        return trig_velocity(out.float(), scaled, wide)


FAMILIES: Mapping[str, type[Family]] = {
    "flux": Flux,
    "sd3": StableDiffusion3,
    "z-image": ZImage,
    "sana": Sana,
}
