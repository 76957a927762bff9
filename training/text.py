"""A small CLIP text encoder and a tokenizer whose tokens are whole words of a vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PAD = "<|endoftext|>"
_START = "<|startoftext|>"


def write_tokenizer(folder: Path, words: Iterable[str], max_length: int = 40) -> Path:
    """vocab.json and merges.txt in CLIP's format: every word of `words` becomes one token.

    Byte-level BPE trained on the words alone; what it does not know falls back to bytes.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=30000,
        min_frequency=1,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    model.train_from_iterator(sorted(set(words)), trainer)
    merges = json.loads(model.to_str())["model"]["merges"]
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges]
    tokens = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in pairs)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    for special in (_START, _PAD):
        vocabulary[special] = len(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    about = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "bos_token": _START,
        "eos_token": _PAD,
        "pad_token": _PAD,
        "unk_token": _PAD,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1))
    return folder


def make_text_encoder(
    tokenizer: Any, *, width: int = 128, layers: int = 2, heads: int = 4
) -> torch.nn.Module:
    """An untrained CLIPTextModel for `tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=width,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Tokens:
    """Prompts to token ids, as the diffusers pipelines make them; remembers what it has seen."""

    def __init__(self, tokenizer: Any) -> None:
        @lru_cache(maxsize=65536)
        def ids(text: str) -> tuple[int, ...]:
            found = tokenizer(
                text,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
            )
            return tuple(found.input_ids)

        self._ids = ids

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64 (B, model_max_length)."""
        return torch.tensor([self._ids(text) for text in texts])
