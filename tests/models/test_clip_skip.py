"""Clip skip, counted as diffusers counts it and equal to it; the negative prompt keeps all layers there, and here."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.engine.registry import Registry
from lcm_studio.engine.validate import check_request
from lcm_studio.images.parameters import parameters_line, parse_parameters
from lcm_studio.models.load import load_folder
from lcm_studio.models.protocol import Prompt
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.settings import from_settings, to_settings
from tests import tiny
from tests.models.test_parity import BOUND, PROMPT, ours

LAYERS = 4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("sd", "sdxl", "cm"):
        pipe = tiny.build(kind)
        deepen(pipe)
        pipe.save_pretrained(root / kind)
    return root


def deepen(pipe: Any) -> None:
    """Text encoders of more layers, so that there is something to leave out."""
    for end, projected in (("", False), ("_2", True)):
        if getattr(pipe, f"text_encoder{end}", None) is not None:
            setattr(pipe, f"text_encoder{end}", encoder(len(pipe.tokenizer), projected))


def encoder(vocabulary: int, projected: bool) -> Any:
    old = tiny.text_encoder(vocabulary, projected=projected)
    old.config.num_hidden_layers = LAYERS
    torch.manual_seed(8 + projected)
    return type(old)(old.config).eval()


def stock(folder: Path, skip: int, **call: Any) -> np.ndarray:
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if folder.name == "sd" and not hasattr(pipe.text_encoder, "text_model"):
        # diffusers looks for the last norm where older versions of transformers have it
        norm = pipe.text_encoder.final_layer_norm
        pipe.text_encoder.text_model = SimpleNamespace(final_layer_norm=norm)
    out = pipe(
        PROMPT, num_inference_steps=2, generator=torch.Generator("cpu").manual_seed(3),
        clip_skip=skip, output_type="np", **call,
    )  # fmt: skip
    return np.asarray(out.images)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_as_stock(models: Path, kind: str) -> None:
    model: Any = load_folder(models / kind, choose("cpu"))
    pictures = []
    for skip in (0, 1, 2):
        call = {"guidance_scale": 3.0, "negative_prompt": "night sea"}
        theirs = stock(models / kind, skip, **call)
        mine = ours(
            model,
            prompt=PROMPT,
            negative="night sea",
            guidance=3.0,
            steps=2,
            seed=3,
            clip_skip=skip,
        )
        assert np.abs(mine - theirs).max() <= BOUND, skip
        pictures.append(mine)
    for one, other in itertools.pairwise(pictures):
        assert np.abs(one - other).max() > BOUND


def test_chunks_and_requests_beside_each_other_skip_their_own(models: Path) -> None:
    model: Any = load_folder(models / "sd", choose("cpu"))
    both = [Prompt(text="lake BREAK sea", clip_skip=skip) for skip in (0, 1)]
    joined = model.embed(both).tensors["text_hidden"]
    for row, prompt in zip(joined, both, strict=True):
        assert torch.equal(row[None], model.embed([prompt]).tensors["text_hidden"])
    alone = [model.embed([Prompt(text=text, clip_skip=1)]).tensors["text_hidden"] for text in ("lake", "sea")]  # fmt: skip
    assert torch.equal(joined[1:], torch.cat(alone, 1))
    assert not torch.equal(joined[0], joined[1])


def test_bounds_go_by_the_model(models: Path) -> None:
    registry = Registry((models,))
    for kind, most in (("sd", LAYERS - 1), ("sdxl", LAYERS - 2)):
        info = registry.info(kind)
        assert info.most_skipped == most
        check_request(Generate(model=kind, clip_skip=most), info)
        with pytest.raises(BadRequest, match=f"0 to {most} layers"):
            check_request(Generate(model=kind, clip_skip=most + 1), info)
    with pytest.raises(BadRequest, match="no CLIP text encoder"):
        check_request(Generate(model="cm", clip_skip=1), registry.info("cm"))


def test_settings_and_what_other_programs_write() -> None:
    request = Generate(prompt="lake", seed=3, clip_skip=1)
    said = to_settings(request)
    assert from_settings(said) == request
    assert "Clip skip: 2" in parameters_line(said)
    read = parse_parameters("lake\nSteps: 4, Seed: 3, Clip skip: 2")
    assert read is not None and read["clip_skip"] == 1
    read = parse_parameters("lake\nSteps: 4, Seed: 3, Clip skip: 1")
    assert read is not None and "clip_skip" not in read
    assert "clip_skip" not in to_settings(Generate(prompt="lake"))
