"""A prompt as chunks of weighted tokens, each as long as the text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcm_studio.spec.prompts import pieces

BACK = 20  # tokens that a chunk may end earlier, behind a comma, so that no phrase is cut in two


@dataclass(frozen=True)
class Chunk:
    """Token ids between start and end, and the weight of each."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def padded(self, tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Ids and attention mask `(1, L)`, weights `(L,)`: start, tokens, end and padding as the tokenizer has them."""
        length = tokenizer.model_max_length
        ids = [tokenizer.bos_token_id, *self.ids, tokenizer.eos_token_id]
        rest = length - len(ids)
        mask = [1] * len(ids) + [0] * rest
        weights = [1.0, *self.weights, *[1.0] * (rest + 1)]
        return (
            torch.tensor([ids + [tokenizer.pad_token_id] * rest]),
            torch.tensor([mask]),
            torch.tensor(weights),
        )


def chunks_of(prompt: str, tokenizer: Any) -> list[Chunk]:
    """One chunk at least; a prompt without weights and breaks that fits is one, with the ids of the whole text."""
    most = tokenizer.model_max_length - 2
    chunks: list[list[tuple[int, float]]] = [[]]
    commas: list[int] = []  # places behind the commas of the last chunk
    comma = _single(tokenizer, ",")
    for piece in pieces(prompt):
        if piece.breaks and chunks[-1]:
            chunks.append([])
            commas.clear()
        for token in tokenizer(piece.text, add_special_tokens=False, verbose=False).input_ids:
            if len(chunks[-1]) == most:
                cut = max((c for c in commas if most - c <= BACK), default=most)
                chunks.append(chunks[-1][cut:])
                del chunks[-2][cut:]
                commas.clear()
            chunks[-1].append((token, piece.weight))
            if token == comma:
                commas.append(len(chunks[-1]))
    return [
        Chunk(tuple(token for token, _ in chunk), tuple(weight for _, weight in chunk))
        for chunk in chunks
    ]


def _single(tokenizer: Any, text: str) -> int | None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return int(ids[0]) if len(ids) == 1 else None
