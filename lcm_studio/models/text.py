"""Prompts to conditioning tensors, kept so that a text is encoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement


class TextEncoders:
    """One CLIP text encoder (SD: last hidden state) or two (SDXL: penultimate states and a pooled vector)."""

    def __init__(
        self,
        pairs: Sequence[tuple[Any, Any]],
        placement: Placement,
        *,
        zero_negative: bool = False,
        keep: int = 256,
    ) -> None:
        self.pairs = tuple(pairs)
        self.placement = placement
        self.zero_negative = zero_negative
        self.keep = keep
        self._kept: OrderedDict[Hashable, dict[str, Tensor]] = OrderedDict()
        self._lock = threading.Lock()
        self._tokenizing = threading.Lock()  # padding and truncation are state of a tokenizer

    def encode(
        self, text: str, *, state: Hashable = (), negative: bool = False
    ) -> dict[str, Tensor]:
        """`hidden` `(1, L, D)` and, of SDXL, `pooled` `(1, D)`, on the model's device.

        `state`: what else the result depends on (the LoRAs in force). An empty negative prompt of SDXL
        is all zeros where the pipeline says so (force_zeros_for_empty_prompt).
        """
        zero = negative and not text and self.zero_negative
        key = (text, zero, state)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        encoded = self._run(text)
        if zero:
            encoded = {name: torch.zeros_like(value) for name, value in encoded.items()}
        with self._lock:
            self._kept[key] = encoded
            while len(self._kept) > self.keep:
                self._kept.popitem(last=False)
        return encoded

    def _run(self, text: str) -> dict[str, Tensor]:
        double = len(self.pairs) == 2
        hidden, pooled = [], None
        for tokenizer, encoder in self.pairs:
            with self._tokenizing:
                ids = tokenizer(
                    text,
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                    return_tensors="pt",
                )
            mask = None
            if getattr(encoder.config, "use_attention_mask", False):
                mask = ids.attention_mask.to(self.placement.device)
            out = encoder(
                ids.input_ids.to(self.placement.device),
                attention_mask=mask,
                output_hidden_states=double,
            )
            if double:
                hidden.append(out.hidden_states[-2])
                if out[0].ndim == 2:
                    pooled = out[0]
            else:
                hidden.append(out[0])
        encoded = {"hidden": torch.cat(hidden, dim=-1)}
        if pooled is not None:
            encoded["pooled"] = pooled
        return encoded

    def truncated(self, text: str) -> str:
        """What the tokenizer cuts off at its end, decoded; empty where the text fits."""
        tokenizer = self.pairs[0][0]
        with self._tokenizing:
            ids = tokenizer(text, truncation=False, verbose=False).input_ids
        most = tokenizer.model_max_length
        return "" if len(ids) <= most else str(tokenizer.decode(ids[most - 1 : -1])).strip()
