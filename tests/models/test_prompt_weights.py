"""Weighted and long prompts: what the encoder says of each chunk, weighed as the AUTOMATIC1111 web UI weighs it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lcm_studio.device import choose
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.load import load_folder
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Generate
from tests import tiny

KINDS = ("lcm", "sdxl")


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.save(request.param, tmp_path_factory.mktemp("models") / request.param)
    return load_folder(folder, choose("cpu"))


def hidden(model: Any, text: str, **more: Any) -> Tensor:
    with torch.no_grad():
        return model.text.encode(text, **more)["hidden"]


def weighed(states: Tensor, weights: dict[int, float]) -> Tensor:
    """The web UI's rule on one chunk: times the weight of each token, then back to the mean of before."""
    out = states.clone()
    for place, weight in weights.items():
        out[:, place] *= weight
    return out * states.mean() / out.mean()


def test_one_word_is_weighed(model: Any) -> None:
    plain = hidden(model, "sunset lake sea")
    # start, sunset, lake, sea, end ...
    torch.testing.assert_close(hidden(model, "sunset (lake:1.5) sea"), weighed(plain, {2: 1.5}))
    torch.testing.assert_close(hidden(model, "((sunset)) lake [sea]"), weighed(plain, {1: 1.21, 3: 1 / 1.1}))  # fmt: skip
    assert torch.equal(hidden(model, "(sunset:1) lake sea"), plain)
    assert torch.equal(hidden(model, r"sunset lake sea"), plain)


def test_a_break_and_a_long_prompt_are_chunks_after_each_other(model: Any) -> None:
    both = hidden(model, "sunset BREAK lake sea")
    assert torch.equal(both, torch.cat([hidden(model, "sunset"), hidden(model, "lake sea")], 1))
    most = model.text.pairs[0][0].model_max_length - 2
    words = ["sunset"] * (most + 3)
    cut = hidden(model, " ".join(words))
    assert torch.equal(cut, torch.cat([hidden(model, " ".join(words[:most])), hidden(model, "sunset " * 3)], 1))  # fmt: skip
    # a phrase that would be cut goes on in the next chunk whole
    phrases = "sunset " * (most - 3) + ", lake sea night"
    assert torch.equal(
        hidden(model, phrases),
        torch.cat(
            [hidden(model, "sunset " * (most - 3) + ","), hidden(model, "lake sea night")], 1
        ),
    )
    assert model.tokens(phrases) == (most + 1, 2 * most)
    assert model.truncated(phrases) == ""


def test_a_trainer_sees_captions_as_stock_diffusers_does(model: Any) -> None:
    caption = "sunset (lake:1.5) BREAK " + "sea " * 20
    model.text.plain = True
    try:
        cond = model.embed([Prompt(text=caption)])
    finally:
        model.text.plain = False
    tokenizer, encoder = model.text.pairs[0]
    ids = tokenizer(caption, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt").input_ids  # fmt: skip
    with torch.no_grad():
        out = encoder(ids, output_hidden_states=True)
    wanted = out[0] if len(model.text.pairs) == 1 else out.hidden_states[-2]
    assert torch.equal(cond.tensors["text_hidden"][..., : wanted.shape[-1]], wanted)


def test_the_shorter_of_two_prompts_is_filled_with_empty_chunks(model: Any) -> None:
    cond = model.embed([Prompt(text="lake BREAK sea", negative="night", guidance=3.0)])
    names = {"text_hidden", "uncond_hidden"} & set(cond.tensors)
    length = model.text.pairs[0][0].model_max_length
    assert {cond.tensors[name].shape[1] for name in names} == {2 * length}
    if "uncond_hidden" in names:
        wanted = torch.cat([hidden(model, "night"), hidden(model, "")], 1)
        assert torch.equal(cond.tensors["uncond_hidden"], wanted)
    mixed = model.embed([Prompt(text="lake BREAK sea"), Prompt(text="night")])
    assert mixed.batch == 2
    alone = model.embed([Prompt(text="night")])
    assert alone.group != mixed.group  # different lengths never share a call
    assert isinstance(mixed, Cond)


def test_sdxl_takes_its_pooled_vector_from_the_first_chunk(tmp_path: Path) -> None:
    model: Any = load_folder(tiny.save("sdxl", tmp_path / "sdxl"), choose("cpu"))
    pooled = [
        model.text.encode(text)["pooled"] for text in ("lake BREAK sea", "lake", "(lake:2) BREAK x")
    ]
    assert torch.equal(pooled[0], pooled[1]) and torch.equal(pooled[0], pooled[2])


def test_prompts_of_any_length_run_beside_each_other(tmp_path: Path) -> None:
    for kind in KINDS:
        tiny.save(kind, tmp_path / kind)
    prompts = ["lake", "(lake:1.4) sea", "sunset " * 40, "night BREAK (sea:0.5)"]
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu", keep=2)) as engine:
        for kind in KINDS:
            requests = [Generate(prompt=p, model=kind, steps=3, seed=i) for i, p in enumerate(prompts)]  # fmt: skip
            alone = [list(engine.run(request))[-1] for request in requests]
            with ThreadPoolExecutor(4) as pool:
                together = [
                    e[-1] for e in pool.map(lambda request: list(engine.run(request)), requests)
                ]
            for one, other in zip(alone, together, strict=True):
                assert isinstance(one, Done) and isinstance(other, Done), (one, other)
                difference = np.abs(one.images[0].astype(int) - other.images[0].astype(int))
                assert difference.max() <= 1
                assert not any("plain words" in w or "cut off" in w for w in one.warnings)
