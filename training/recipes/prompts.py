"""Prompts to what a UNet is conditioned on: Stable Diffusion 1.x/2.x and SDXL text encoders, frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.latents import weights_key
from training.networks import open_part
from training.text import Tokens

Conditions = dict[str, Tensor]  # "context" (B, L, D); SDXL also "pooled" (B, P)


class Prompts:
    """The text encoders of a pipeline's folder."""

    def __init__(self, root: Path, device: torch.device) -> None:
        self.device = device
        index = json.loads((root / "model_index.json").read_text())
        self.xl = "text_encoder_2" in index
        self.zero_empty = self.xl and bool(index.get("force_zeros_for_empty_prompt", True))
        suffixes = ("", "_2") if self.xl else ("",)
        self.tokenizers: list[Any] = []
        self.encoders: list[Any] = []
        for suffix in suffixes:
            self.tokenizers.append(open_part(root, f"tokenizer{suffix}"))
            self.encoders.append(open_part(root, f"text_encoder{suffix}").to(device))
        self._tokens = [Tokens(tokenizer) for tokenizer in self.tokenizers]

    @property
    def dtype(self) -> torch.dtype:
        """What the encoders compute in."""
        found: torch.dtype = self.encoders[0].dtype
        return found

    @cached_property
    def key(self) -> str:
        """Names the encoders' weights, and the settings that change what they say."""
        settings = ("hidden_act", "layer_norm_eps", "num_attention_heads", "eos_token_id")
        told = [
            [type(e).__name__, weights_key(e), *(getattr(e.config, name) for name in settings)]
            for e in self.encoders
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]

    def tokens(self, texts: Sequence[str]) -> list[Tensor]:
        """int64 (B, L) for each encoder."""
        return [tokens(texts) for tokens in self._tokens]

    @torch.no_grad()
    def encode(self, tokens: Sequence[Tensor]) -> Conditions:
        """Embeddings as diffusers' pipelines make them; SDXL takes the last but one hidden states."""
        if not self.xl:
            return {"context": self.encoders[0](tokens[0].to(self.device)).last_hidden_state}
        states, pooled = [], None
        for ids, encoder in zip(tokens, self.encoders, strict=True):
            out = encoder(ids.to(self.device), output_hidden_states=True)
            states.append(out.hidden_states[-2])
            pooled = out[0]
        assert pooled is not None
        return {"context": torch.cat(states, -1), "pooled": pooled}

    def __call__(self, texts: Sequence[str]) -> Conditions:
        """Embeddings of `texts`."""
        return self.encode(self.tokens(texts))

    def empty(self) -> Conditions:
        """The condition that classifier-free guidance moves away from, one row."""
        found = self([""])
        return {k: torch.zeros_like(v) for k, v in found.items()} if self.zero_empty else found


def unet_arguments(
    conditions: Conditions, size: int, sizes: Tensor | None = None
) -> dict[str, Any]:
    """Keyword arguments of a UNet call.

    SDXL is told (H, W) of the whole picture, (top, left) of the crop, and (H, W) wanted, which is
    `size`; the first four are `sizes` (B or a part of it, 4), by default those of a whole square.
    """
    arguments: dict[str, Any] = {"encoder_hidden_states": conditions["context"]}
    if "pooled" in conditions:
        pooled = conditions["pooled"]
        n = len(pooled)
        told = torch.tensor([[size, size, 0, 0]]) if sizes is None else sizes
        told = told.to(pooled).repeat(n // len(told), 1)
        wanted = torch.full((n, 2), size, dtype=pooled.dtype, device=pooled.device)
        arguments["added_cond_kwargs"] = {
            "text_embeds": pooled,
            "time_ids": torch.cat([told, wanted], 1),
        }
    return arguments


def join(first: Conditions, second: Conditions) -> Conditions:
    """Rows of `first` above those of `second`, one row of which serves as many as are needed."""
    return {k: torch.cat([v, second[k].expand_as(v)]) for k, v in first.items()}
