"""Textual inversions: every layout that people have, equal to stock's `load_textual_inversion`, weighed and in chunks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lcm_studio.device import choose
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.inversion_file import inversion_facts
from lcm_studio.models.load import load_folder
from lcm_studio.models.lora_file import lora_facts
from lcm_studio.models.protocol import Prompt
from lcm_studio.spec.errors import BadRequest, ModelError, StudioError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Edit, EmbeddingSpec, Generate, LoraSpec
from lcm_studio.spec.settings import from_settings, to_settings
from tests import tiny
from tests.models.test_parity import BOUND, ours

WIDTH = 32  # of both text encoders of tests/tiny.py


def vectors(count: int, seed: int, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) / 4


def save(path: Path, tensors: dict[str, Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and beside them textual inversions in every layout."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("sd", "sdxl", "cm"):
        tiny.save(kind, root / kind)
    ours = root / "embeddings"
    save(ours / "cat" / "learned_embeds.safetensors", {"<ink>": vectors(1, 1)[0]})
    save(ours / "Bad-Hands.safetensors", {"emb_params": vectors(3, 2)})
    save(ours / "glow.safetensors", {"clip_g": vectors(2, 4), "clip_l": vectors(2, 3)})
    save(ours / "halves" / "learned_embeds.safetensors", {"<two>": vectors(2, 5)})
    save(ours / "halves" / "learned_embeds_2.safetensors", {"<two>": vectors(1, 6)})
    save(ours / "wide.safetensors", {"emb_params": vectors(1, 7, 48)})
    (ours / "old.pt").write_bytes(pickle.dumps({"string_to_param": 1}))
    (ours / "broken.safetensors").write_bytes(b"\x80\x04")
    return root


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    with Engine(EngineConfig(models_dirs=(folder,), device="cpu", keep=3)) as engine:
        yield engine


FILES = [
    ({"<ink>": vectors(1, 1)}, "learned_embeds.safetensors", ("<ink>",), (32,), 1),
    ({"<ink>": vectors(2, 1)}, "style.safetensors", ("<ink>", "style"), (32,), 2),
    ({"<ink>": vectors(1, 1)[0]}, "style.safetensors", ("<ink>", "style"), (32,), 1),
    ({"emb_params": vectors(4, 1, 48)}, "Easy.safetensors", ("Easy",), (48,), 4),
    ({"*": vectors(4, 1)}, "Easy.safetensors", ("Easy",), (32,), 4),
    (
        {"clip_l": vectors(2, 1), "clip_g": vectors(2, 1, 48)},
        "xl.safetensors",
        ("xl",),
        (32, 48),
        2,
    ),
    (
        {"text_encoders_0": vectors(1, 1), "text_encoders_1": vectors(1, 1, 48)},
        "xl.safetensors",
        ("xl",),
        (32, 48),
        1,
    ),
]


@pytest.mark.parametrize(("tensors", "name", "words", "widths", "count"), FILES)
def test_layouts(
    tmp_path: Path, tensors: dict[str, Tensor], name: str, words: tuple[str, ...],
    widths: tuple[int, ...], count: int,
) -> None:  # fmt: skip
    facts = inversion_facts(save(tmp_path / name, tensors))
    assert (facts.words, facts.widths, facts.vectors) == (words, widths, count)


def test_two_files_of_a_script_for_sdxl_are_one(tmp_path: Path) -> None:
    first = save(tmp_path / "learned_embeds.safetensors", {"<ink>": vectors(1, 1)})
    save(tmp_path / "learned_embeds_2.safetensors", {"<ink>": vectors(1, 2, 48)})
    assert inversion_facts(first).widths == (32, 48)
    # two styles whose names differ by a number are two files
    style = save(tmp_path / "style.safetensors", {"emb_params": vectors(1, 1)})
    save(tmp_path / "style_2.safetensors", {"emb_params": vectors(1, 2)})
    assert inversion_facts(style).widths == (32,)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a.lora_up.weight": vectors(1, 1), "a.lora_down.weight": vectors(1, 1)}, "no textual inversion"),
        ({"conv_in.weight": vectors(2, 1)}, "no textual inversion"),
        ({"x": torch.zeros(200, 32)}, "200 x 32"),
        ({"x": torch.zeros(2, 3, 4)}, "2 x 3 x 4"),
        ({"clip_l": vectors(2, 1), "clip_g": vectors(1, 1)}, "2 vectors for one text encoder and 1"),
        ({"x": torch.zeros(2, 32, dtype=torch.int64)}, "no textual inversion"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_by_what_it_is(
    tmp_path: Path, tensors: dict[str, Tensor], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        inversion_facts(save(tmp_path / "some.safetensors", tensors))


def stock(kind: str, given: dict[str, list[Tensor]], prompt: str, **call: Any) -> np.ndarray:
    """A fresh stock pipeline's picture with these tokens in its text encoders."""
    pipe = tiny.build(kind)
    pipe.set_progress_bar_config(disable=True)
    if kind == "sdxl":
        pipe.tokenizer_2 = tiny.tokenizer()
    for token, tensors in given.items():
        for end, tensor in zip(("", "_2"), tensors, strict=False):
            pipe.load_textual_inversion(
                {token: tensor}, token=token,
                tokenizer=getattr(pipe, f"tokenizer{end}"), text_encoder=getattr(pipe, f"text_encoder{end}"),
            )  # fmt: skip
    generator = torch.Generator("cpu").manual_seed(3)
    out = pipe(prompt, num_inference_steps=2, generator=generator, output_type="np", **call)
    return np.asarray(out.images)


def mine(engine: Engine, **settings: Any) -> np.ndarray:
    """The floating picture of a request whose textual inversions the engine has found."""
    request, _ = engine.resolved(Generate(seed=3, steps=2, **settings))
    model = engine.model(request.model)
    names = ("prompt", "negative", "guidance", "steps", "seed", "embeddings")
    return ours(model, **{name: getattr(request, name) for name in names})


def test_as_stock_on_stable_diffusion(engine: Engine) -> None:
    # in small letters: of a token with capitals stock takes the first vector only
    theirs = stock(
        "sd", {"<ink>": [vectors(1, 1)], "bad-hands": [vectors(3, 2)]}, "sunset <ink>, lake",
        negative_prompt="bad-hands night", guidance_scale=3.0,
    )  # fmt: skip
    given = {"prompt": "sunset <ink>, lake", "guidance": 3.0, "model": "sd"}
    got = mine(engine, negative="Bad-Hands night", **given)
    assert np.abs(got - theirs).max() <= BOUND
    assert np.abs(mine(engine, negative="bad-hands night", **given) - theirs).max() <= BOUND
    assert np.abs(mine(engine, negative="night", **given) - theirs).max() > BOUND


def test_as_stock_on_sdxl(engine: Engine) -> None:
    theirs = stock("sdxl", {"glow": [vectors(2, 3), vectors(2, 4)]}, "a glow lake", guidance_scale=1.0)  # fmt: skip
    given = {"guidance": 1.0, "model": "sdxl"}
    assert np.abs(mine(engine, prompt="a glow lake", **given) - theirs).max() <= BOUND
    assert np.abs(mine(engine, prompt="a lake", **given) - theirs).max() > BOUND


def test_a_file_of_the_request_with_a_word_of_its_own(engine: Engine, tmp_path: Path) -> None:
    file = save(tmp_path / "x.safetensors", {"emb_params": vectors(2, 9)})
    theirs = stock("sd", {"mystyle": [vectors(2, 9)]}, "lake, mystyle", guidance_scale=1.0)
    got = mine(
        engine, prompt="lake, mystyle", guidance=1.0, model="sd",
        embeddings=(EmbeddingSpec(path=str(file), word="mystyle"),),
    )  # fmt: skip
    assert np.abs(got - theirs).max() <= BOUND


def test_words_are_weighed_and_stay_in_one_chunk(folder: Path) -> None:
    model: Any = load_folder(folder / "sd", choose("cpu"))
    words = model.text.inversions.words(
        [EmbeddingSpec(path=str(folder / "embeddings/Bad-Hands.safetensors"))]
    )

    def hidden(text: str) -> Tensor:
        with torch.no_grad():
            return model.text.encode(text, words=words)["hidden"]

    plain = hidden("lake bad-hands sea")
    weighed = plain.clone()
    weighed[:, 2:5] *= 1.3  # start, lake, three vectors, sea
    weighed *= plain.mean() / weighed.mean()
    torch.testing.assert_close(hidden("lake (bad-hands:1.3) sea"), weighed)
    most = model.text.pairs[0][0].model_max_length - 2
    long = "sea " * (most - 1)
    both = torch.cat([hidden(long), hidden("bad-hands lake")], 1)
    assert torch.equal(hidden(f"{long} bad-hands lake"), both)
    assert model.text.tokens(f"{long} bad-hands lake", words) == (most + 3, 2 * most)
    # a word within a word is none, ComfyUI's way to write it is one
    assert torch.equal(hidden("bad-handsome"), model.text.encode("bad-handsome")["hidden"])
    assert torch.equal(hidden("lake embedding:Bad-Hands sea"), plain)


def test_prompts_of_others_stay_as_they_were(folder: Path) -> None:
    model: Any = load_folder(folder / "sd", choose("cpu"))
    before = model.embed([Prompt(text="bad-hands, lake")]).tensors["text_hidden"]
    spec = EmbeddingSpec(path=str(folder / "embeddings/Bad-Hands.safetensors"))
    with_it = model.embed([Prompt(text="bad-hands, lake", embeddings=(spec,))])
    after = model.embed([Prompt(text="bad-hands, lake")]).tensors["text_hidden"]
    assert torch.equal(before, after)
    assert not torch.equal(before, with_it.tensors["text_hidden"])


def test_names_of_the_folder_that_fit(engine: Engine) -> None:
    assert engine.embeddings("sd") == ("<ink>", "<two>", "Bad-Hands")
    assert engine.embeddings("sdxl") == ("glow",)
    assert engine.embeddings("cm") == ()


def warnings(engine: Engine, prompt: str, **more: Any) -> str:
    return " ".join(engine.validate(Generate(prompt=prompt, model="sd", steps=1, **more)))


def test_what_is_not_used_is_said(engine: Engine, folder: Path) -> None:
    assert warnings(engine, "lake, <ink>, (bad-hands:1.2)") == ""
    assert "width 32 and 32, and sd has 32" in warnings(engine, "a glow")
    assert "old.pt is not read" in warnings(engine, "an old house")
    assert "embedding:none" in warnings(engine, "lake embedding:none")
    spec = EmbeddingSpec(path="bad-hands")
    assert "Bad-Hands.safetensors is not used: write Bad-Hands" in warnings(
        engine, "lake", embeddings=(spec,)
    )


@pytest.mark.parametrize(
    ("path", "word", "model", "said"),
    [
        ("nothing", "", "sd", "'nothing' is unknown.*<ink>, <two>, Bad-Hands"),
        ("/none/x.safetensors", "", "sd", "does not exist"),
        ("EMB/old.pt", "", "sd", "pickled weights"),
        ("EMB/broken.safetensors", "", "sd", "not a whole safetensors file"),
        ("EMB/wide.safetensors", "", "sd", "width 48, and sd has 32"),
        ("wide", "", "sdxl", "width 48, and sdxl has 32 and 32"),
        ("EMB/Bad-Hands.safetensors", "", "cm", "cm takes no textual inversions"),
        ("", "", "sd", "no path"),
        ("EMB/Bad-Hands.safetensors", " x", "sd", "no word"),
    ],
)
def test_refused_in_one_sentence(
    engine: Engine, folder: Path, path: str, word: str, model: str, said: str
) -> None:
    spec = EmbeddingSpec(path=path.replace("EMB", str(folder / "embeddings")), word=word)
    request = Generate(prompt="lake", model=model, steps=1, embeddings=(spec,))
    with pytest.raises(StudioError, match=said) as caught:
        engine.validate(request)
    assert "\n" not in str(caught.value)
    assert isinstance(list(engine.run(request))[-1], Failed)


def test_two_with_one_word_are_refused(engine: Engine) -> None:
    specs = tuple(EmbeddingSpec(path=path, word="x") for path in ("<ink>", "Bad-Hands"))
    with pytest.raises(BadRequest, match="the word x"):
        engine.validate(Generate(prompt="x", model="sd", embeddings=specs))


def test_settings_name_it_and_bring_it_back(engine: Engine) -> None:
    request = Generate(prompt="lake <ink>", model="sd", steps=1, seed=3)
    done = list(engine.run(request))[-1]
    assert isinstance(done, Done)
    assert done.settings["embeddings"] == [{"path": "<ink>", "word": ""}]  # no path of this machine
    again = list(engine.run(from_settings(done.settings)))[-1]
    assert isinstance(again, Done) and np.array_equal(done.images[0], again.images[0])
    plain = list(engine.run(Generate(prompt="lake", model="sd", steps=1, seed=3)))[-1]
    assert isinstance(plain, Done) and "embeddings" not in plain.settings
    own = Generate(prompt="x", embeddings=(EmbeddingSpec(path="/a/b.safetensors", word="x"),))
    assert from_settings(to_settings(own)) == own


def test_edits_and_the_last_prompt_of_a_morph_know_them(engine: Engine) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    edit = Edit(
        task="interpolate", image=image, model="sd", prompt="lake", steps=1,
        options={"kind": "prompts", "prompt_b": "lake <ink>", "frames": 2},
    )  # fmt: skip
    resolved, _ = engine.resolved(edit)
    assert [spec.path for spec in resolved.embeddings] == ["<ink>"]
    done = list(engine.run(edit))[-1]
    assert isinstance(done, Done), done
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    hole = Edit(task="inpaint", image=image, mask=mask, model="sd", prompt="<ink>", steps=2)
    done = list(engine.run(hole))[-1]
    assert isinstance(done, Done) and done.fidelity["max_error"] == 0


TARGET = "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
LAYERS = {f"{TARGET}.lora_A.weight": torch.ones(2, 32), f"{TARGET}.lora_B.weight": torch.ones(32, 2)}  # fmt: skip
XL = {f"{TARGET}.lora_A.weight": torch.ones(2, 64), f"{TARGET}.lora_B.weight": torch.ones(32, 2)}


@pytest.mark.parametrize(
    ("kind", "layers", "alone", "bundle"),
    [
        ("sd", LAYERS, {"emb_params": vectors(2, 9)}, {"string_to_param.*": vectors(2, 9)}),
        ("sd", LAYERS, {"emb_params": vectors(2, 9)}, {"emb_params": vectors(2, 9)}),
        ("sdxl", XL, {"clip_l": vectors(2, 9), "clip_g": vectors(2, 8)}, {"clip_g": vectors(2, 8), "clip_l": vectors(2, 9)}),
    ],
)  # fmt: skip
def test_a_lora_brings_the_words_that_it_bundles(
    engine: Engine, tmp_path: Path, kind: str, layers: dict[str, Tensor], alone: dict[str, Tensor], bundle: dict[str, Tensor]
) -> None:  # fmt: skip
    more = {f"bundle_emb.my.ink.{name}": value for name, value in bundle.items()}
    whole = LoraSpec(path=str(save(tmp_path / "whole.safetensors", layers | more)))
    plain = LoraSpec(path=str(save(tmp_path / "plain.safetensors", layers)))
    ink = EmbeddingSpec(path=str(save(tmp_path / "my.ink.safetensors", alone)))
    base = Generate(prompt="lake, my.ink", model=kind, steps=1, seed=3)
    wanted, got, without = (
        list(engine.run(request))[-1]
        for request in (
            replace(base, loras=(plain,), embeddings=(ink,)),
            replace(base, loras=(whole,)),
            replace(base, loras=(plain,)),
        )
    )
    assert isinstance(wanted, Done) and isinstance(got, Done) and isinstance(without, Done)
    assert np.array_equal(wanted.images[0], got.images[0])
    assert not np.array_equal(got.images[0], without.images[0])
    assert not any("left out" in text for text in got.warnings)
    assert lora_facts(Path(whole.path)).triggers == ("my.ink",)
    # its settings make the same again, and without the LoRA nobody knows the word
    again = from_settings(got.settings)
    assert again.embeddings == (EmbeddingSpec(path="my.ink"),)
    done = list(engine.run(again))[-1]
    assert isinstance(done, Done) and np.array_equal(done.images[0], got.images[0])
    with pytest.raises(StudioError, match=r"my\.ink"):
        engine.validate(replace(again, loras=()))


def test_a_bundle_that_is_for_others_or_broken_is_said(engine: Engine, tmp_path: Path) -> None:
    wide = {"bundle_emb.ink.string_to_param.*": vectors(1, 1, 48)}
    other = LoraSpec(path=str(save(tmp_path / "wide.safetensors", LAYERS | wide)))
    said = warnings(engine, "lake, ink", loras=(other,))
    assert "ink is read as plain words" in said and "width 48, and sd has 32" in said
    odd = {"bundle_emb.ink.string_to_param.*": torch.zeros(2, 2, 2)}
    broken = LoraSpec(path=str(save(tmp_path / "odd.safetensors", LAYERS | odd)))
    done = list(engine.run(Generate(prompt="lake, ink", model="sd", steps=1, loras=(broken,))))[-1]
    assert isinstance(done, Done)
    assert any("left out: a bundle with textual inversions" in text for text in done.warnings)
