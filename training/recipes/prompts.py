"""Prompts to what a UNet is conditioned on: Stable Diffusion 1.x/2.x and SDXL text encoders, frozen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.errors import TrainingFault
from training.text import Tokens

Conditions = dict[str, Tensor]  # "context" (B, L, D); SDXL also "pooled" (B, P)


class Prompts:
    """The text encoders of a pipeline's folder. Embeddings of single prompts can be cached."""

    def __init__(self, root: Path, device: torch.device) -> None:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.device = device
        index = json.loads((root / "model_index.json").read_text())
        self.xl = "text_encoder_2" in index
        self.zero_empty = self.xl and bool(index.get("force_zeros_for_empty_prompt", True))
        suffixes = ("", "_2") if self.xl else ("",)
        self.tokenizers: list[Any] = []
        self.encoders: list[Any] = []
        for suffix in suffixes:
            for part in (f"tokenizer{suffix}", f"text_encoder{suffix}"):
                if not (root / part).is_dir():
                    raise TrainingFault("missing_weights", f"{root} has no {part}; fetch it again")
            self.tokenizers.append(CLIPTokenizer.from_pretrained(root / f"tokenizer{suffix}"))
            model = CLIPTextModelWithProjection if suffix else CLIPTextModel
            encoder = model.from_pretrained(root / f"text_encoder{suffix}", dtype=torch.float32)
            self.encoders.append(encoder.requires_grad_(False).eval().to(device))
        self._tokens = [Tokens(tokenizer) for tokenizer in self.tokenizers]

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Conditions:
        """Embeddings as diffusers' pipelines make them; SDXL takes the last but one hidden states."""
        if not self.xl:
            ids = self._tokens[0](texts).to(self.device)
            return {"context": self.encoders[0](ids).last_hidden_state}
        states, pooled = [], None
        for tokens, encoder in zip(self._tokens, self.encoders, strict=True):
            out = encoder(tokens(texts).to(self.device), output_hidden_states=True)
            states.append(out.hidden_states[-2])
            pooled = out[0]
        assert pooled is not None
        return {"context": torch.cat(states, -1), "pooled": pooled}

    def empty(self) -> Conditions:
        """The condition that classifier-free guidance moves away from, one row."""
        found = self([""])
        return {k: torch.zeros_like(v) for k, v in found.items()} if self.zero_empty else found


def unet_arguments(conditions: Conditions, size: int) -> dict[str, Any]:
    """Keyword arguments of a UNet call; SDXL is told (H, W) of the picture, no crop, (H, W) wanted."""
    arguments: dict[str, Any] = {"encoder_hidden_states": conditions["context"]}
    if "pooled" in conditions:
        pooled = conditions["pooled"]
        ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=pooled.dtype)
        arguments["added_cond_kwargs"] = {
            "text_embeds": pooled,
            "time_ids": ids.to(pooled.device).expand(len(pooled), -1),
        }
    return arguments


def join(first: Conditions, second: Conditions) -> Conditions:
    """Rows of `first` above those of `second`, one row of which serves as many as are needed."""
    return {k: torch.cat([v, second[k].expand_as(v)]) for k, v in first.items()}
