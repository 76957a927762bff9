"""A teacher that begins inside another one, whose latents and words differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import TrainingFault
from training.networks import open_part
from training.recipes.teacher import adapt_text_encoder, adapt_unet, make_tokenizer, make_unet
from training.text import make_text_encoder

pytestmark = pytest.mark.model

TEACHER = Path("assets/models/scenery-teacher")


def new_unet(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "latent_channels": 6, "size": 8, "channels": (128, 112, 96), "layers": (2, 1, 1), "text_width": 128
    }  # fmt: skip
    torch.manual_seed(1)
    return make_unet(**{**fields, **changes})


def test_the_inside_of_the_unet_is_kept_and_its_ends_begin_anew() -> None:
    old, unet, untouched = open_part(TEACHER, "unet"), new_unet(), new_unet()
    adapt_unet(unet, old)
    before, fresh = old.state_dict(), untouched.state_dict()
    for name, value in unet.state_dict().items():
        at_an_end = name.startswith(("conv_in.", "conv_out."))
        assert torch.equal(value, (fresh if at_an_end else before)[name]), name


def test_words_keep_their_vectors_under_other_numbers(tmp_path: Path) -> None:
    old, old_tokenizer = open_part(TEACHER, "text_encoder"), open_part(TEACHER, "tokenizer")
    read = old.config.max_position_embeddings
    tokenizer = make_tokenizer(tmp_path, ("a", "pagoda", "lake", "sunset", "zzqx"), read + 16)
    torch.manual_seed(2)
    text = make_text_encoder(tokenizer, width=128, layers=2)
    fresh = text.state_dict()["embeddings.token_embedding.weight"].clone()
    adapt_text_encoder(text, tokenizer, old, old_tokenizer)
    after, before = text.state_dict(), old.state_dict()
    key = "embeddings.token_embedding.weight"
    old_ids = old_tokenizer.get_vocab()
    known = {token: i for token, i in tokenizer.get_vocab().items() if token in old_ids}
    assert {"lake</w>", "sunset</w>", "<|startoftext|>", "<|endoftext|>"} <= set(known)
    for token, i in tokenizer.get_vocab().items():
        kept = before[key][old_ids[token]] if token in known else fresh[i]
        assert torch.equal(after[key][i], kept), token
    positions = "embeddings.position_embedding.weight"
    assert torch.equal(after[positions][:read], before[positions])
    for name, value in after.items():
        if name not in (key, positions):
            assert torch.equal(value, before[name]), name


def test_other_widths_are_refused_by_name() -> None:
    with pytest.raises(TrainingFault, match=r"start_from: .* give the same channels"):
        adapt_unet(new_unet(channels=(32, 64, 96)), open_part(TEACHER, "unet"))
