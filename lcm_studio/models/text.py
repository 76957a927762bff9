"""Prompts to conditioning tensors, kept so that a text is encoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.models.chunks import Chunk, chunks_of
from lcm_studio.models.inversions import NO_WORDS, Inversions, Words, placed
from lcm_studio.spec import prompts


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
        self.plain = False  # True: every prompt as by stock diffusers, cut at the encoder's length, marks taken for words
        widths = tuple(encoder.get_input_embeddings().weight.shape[1] for _, encoder in self.pairs)
        self.inversions = Inversions(widths)
        self._kept: OrderedDict[Hashable, dict[str, Tensor]] = OrderedDict()
        self._lock = threading.Lock()
        self._tokenizing = threading.Lock()  # padding and truncation are state of a tokenizer

    def chunks(self, text: str, words: Words = NO_WORDS) -> int:
        """How many times the encoder's length a prompt takes."""
        return 1 if self.plain else len(self._chunks(text, 0, words))

    def tokens(self, text: str, words: Words = NO_WORDS) -> tuple[int, int]:
        """(tokens of a prompt without start and end, tokens that fit into its chunks)."""
        chunks = self._chunks(text, 0, words)
        each = self.pairs[0][0].model_max_length - 2
        return sum(len(chunk.weights) for chunk in chunks), len(chunks) * each

    def _chunks(self, text: str, encoder: int, words: Words = NO_WORDS) -> list[Chunk]:
        with self._tokenizing:
            return chunks_of(text, self.pairs[encoder][0], words.of(encoder))

    def encode(
        self,
        text: str,
        *,
        state: Hashable = (),
        negative: bool = False,
        chunks: int = 1,
        words: Words = NO_WORDS,
        skip: int = 0,
    ) -> dict[str, Tensor]:
        """`hidden` `(1, L, D)` and, of SDXL, `pooled` `(1, D)`, on the model's device.

        A prompt that fits and has no marks is encoded as by stock diffusers. Another one goes through the encoder in
        chunks, one after the other along L, and each token's hidden state is multiplied by its weight, with the mean of
        the chunk kept (the weighting of the AUTOMATIC1111 web UI). `chunks`: at least so many, empty ones at the end.
        `skip`: last layers that are left out; the pooled vector comes from the last one all the same, as in diffusers.
        `words`: of textual inversions, which stand for one embedding or several; the pooled vector is that of the end, also
        where stock diffusers takes a word's place for it (old configs of SDXL, eos_token_id 2).
        `state`: what else the result depends on (the LoRAs in force). An empty negative prompt of SDXL
        is all zeros where the pipeline says so (force_zeros_for_empty_prompt).
        """
        zero = negative and not text and self.zero_negative
        used = has_words(text, words)
        key = (text, zero, state, chunks, words.key if used else (), skip)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        marked = used or prompts.has_marks(text)
        if chunks > 1 or (not self.plain and marked) or self.chunks(text) > 1:
            encoded = self._in_chunks(text, chunks, words, skip)
        else:
            encoded = self._run(text, skip)
        if zero:
            encoded = {name: torch.zeros_like(value) for name, value in encoded.items()}
        with self._lock:
            self._kept[key] = encoded
            while len(self._kept) > self.keep:
                self._kept.popitem(last=False)
        return encoded

    def _run(self, text: str, skip: int) -> dict[str, Tensor]:
        both = []
        for tokenizer, _ in self.pairs:
            with self._tokenizing:
                ids = tokenizer(
                    text,
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                    return_tensors="pt",
                )
            both.append((ids.input_ids, ids.attention_mask))
        return self._states(both, skip)

    def _in_chunks(self, text: str, least: int, words: Words, skip: int) -> dict[str, Tensor]:
        each = [self._chunks(text, i, words) for i in range(len(self.pairs))]
        count = max(least, *map(len, each))
        empty = [self._chunks("", i)[0] for i in range(len(self.pairs))]
        encoded = []
        for n in range(count):
            now = [
                chunks[n] if n < len(chunks) else none
                for chunks, none in zip(each, empty, strict=True)
            ]
            padded = [
                chunk.padded(tokenizer)
                for chunk, (tokenizer, _) in zip(now, self.pairs, strict=True)
            ]
            with placed([encoder for _, encoder in self.pairs], [chunk.rows for chunk in now]):
                states = self._states([(ids, mask) for ids, mask, _ in padded], skip)
            states["hidden"] = _weighted(states["hidden"], padded[0][2])
            encoded.append(states)
        joined = {"hidden": torch.cat([states["hidden"] for states in encoded], dim=1)}
        if "pooled" in encoded[0]:
            joined["pooled"] = encoded[0]["pooled"]
        return joined

    def _states(self, both: Sequence[tuple[Tensor, Tensor]], skip: int) -> dict[str, Tensor]:
        """What the encoders say of token ids and attention masks `(1, L)`, one pair for each encoder."""
        double = len(self.pairs) == 2
        hidden, pooled = [], None
        for (ids, attention), (_, encoder) in zip(both, self.pairs, strict=True):
            mask = None
            if getattr(encoder.config, "use_attention_mask", False):
                mask = attention.to(self.placement.device)
            out = encoder(
                ids.to(self.placement.device),
                attention_mask=mask,
                output_hidden_states=double or skip > 0,
            )
            if double:
                hidden.append(out.hidden_states[-2 - skip])
                if out[0].ndim == 2:
                    pooled = out[0]
            elif skip:
                hidden.append(_final_norm(encoder)(out.hidden_states[-1 - skip]))
            else:
                hidden.append(out[0])
        encoded = {"hidden": torch.cat(hidden, dim=-1)}
        if pooled is not None:
            encoded["pooled"] = pooled
        return encoded


def _final_norm(encoder: Any) -> Any:
    """The last norm of a CLIP text encoder, whose layers newer versions of transformers keep a level higher."""
    return getattr(encoder, "text_model", encoder).final_layer_norm


def has_words(text: str, words: Words) -> bool:
    """Whether a prompt holds one of the words."""
    pattern = prompts.word_pattern(words.of(0))
    return pattern is not None and pattern.search(text) is not None


def _weighted(hidden: Tensor, weights: Tensor) -> Tensor:
    """`hidden` `(1, L, D)` times `weights` `(L,)`, brought back to its mean."""
    if bool((weights == 1).all()):
        return hidden
    out = hidden * weights.to(hidden)[None, :, None]
    return out * (hidden.mean() / out.mean())
