"""A prompt as chunks of weighted tokens, each as long as the text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcm_studio.spec.prompts import pieces, word_pattern

BACK = 20  # tokens that a chunk may end earlier, behind a comma, so that no phrase is cut in two
PLACEHOLDER = 0  # the id of a token whose embedding a textual inversion gives


@dataclass(frozen=True, eq=False)
class Chunk:
    """Token ids between start and end, the weight of each, and where a textual inversion gives it, its embedding."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    vectors: tuple[Tensor | None, ...] = ()

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

    @property
    def rows(self) -> dict[int, Tensor]:
        """{place in the padded chunk: embedding} of textual inversions."""
        return {i + 1: vector for i, vector in enumerate(self.vectors) if vector is not None}


@dataclass(frozen=True, eq=False)
class _Token:
    id: int
    weight: float
    vector: Tensor | None = None


def chunks_of(
    prompt: str, tokenizer: Any, words: Mapping[str, Tensor] | None = None
) -> list[Chunk]:
    """One chunk at least; a prompt without weights and breaks that fits is one, with the ids of the whole text.

    `words`: {word in small letters: embeddings `(n, D)`} of textual inversions. The n tokens of a word stay in one chunk.
    """
    most = tokenizer.model_max_length - 2
    chunks: list[list[_Token]] = [[]]
    commas: list[int] = []  # places behind the commas of the last chunk
    comma = _single(tokenizer, ",")
    for piece in pieces(prompt):
        if piece.breaks and chunks[-1]:
            chunks.append([])
            commas.clear()
        for part in _parts(piece.text, words or {}):
            if not isinstance(part, str):
                if chunks[-1] and len(chunks[-1]) + len(part) > most:
                    chunks.append([])
                    commas.clear()
                chunks[-1] += [_Token(PLACEHOLDER, piece.weight, vector) for vector in part[:most]]
                continue
            for token in tokenizer(part, add_special_tokens=False, verbose=False).input_ids:
                if len(chunks[-1]) == most:
                    cut = max((c for c in commas if most - c <= BACK), default=most)
                    chunks.append(chunks[-1][cut:])
                    del chunks[-2][cut:]
                    commas.clear()
                chunks[-1].append(_Token(token, piece.weight))
                if token == comma:
                    commas.append(len(chunks[-1]))
    return [
        Chunk(
            tuple(token.id for token in chunk),
            tuple(token.weight for token in chunk),
            tuple(token.vector for token in chunk),
        )
        for chunk in chunks
    ]


def _parts(text: str, words: Mapping[str, Tensor]) -> Iterator[str | Tensor]:
    """The text between words of textual inversions, and their embeddings, in turn."""
    pattern = word_pattern(words)
    if pattern is None:
        yield text
        return
    at = 0
    for match in pattern.finditer(text):
        if between := text[at : match.start()]:
            yield between
        yield words[match.group("word").lower()]
        at = match.end()
    if rest := text[at:]:
        yield rest


def _single(tokenizer: Any, text: str) -> int | None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return int(ids[0]) if len(ids) == 1 else None
