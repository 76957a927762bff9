"""What a file or folder is: by what it holds and says, not by what it is called; what cannot be told is asked once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lcm_studio.api import Studio
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.kinds import KINDS, kind_of
from lcm_studio.models.kinds.memory import KindMemory
from lcm_studio.models.kinds.names import by_name, name_parts, steps_of
from lcm_studio.models.kinds.recognise import METADATA, of_folder, of_lora, resolve
from lcm_studio.models.lora_file import lora_facts
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Generate, LoraSpec
from tests import tiny

PUBLISHED = {
    "lcm-lora-sdv1-5/pytorch_lora_weights.safetensors": ("lcm-lora", None),
    "models--latent-consistency--lcm-lora-sdxl/snapshots/0a1b/pytorch_lora_weights.safetensors": (
        "lcm-lora",
        None,
    ),
    "TCD-SD15-LoRA/pytorch_lora_weights.safetensors": ("tcd", None),
    "Hyper-SD15-4steps-lora.safetensors": ("hyper-sd", 4),
    "Hyper-SDXL-1step-lora.safetensors": ("hyper-sd-unified", 1),
    "Hyper-SD15-8steps-CFG-lora.safetensors": ("hyper-sd-cfg", 8),
    "sdxl_lightning_8step_lora.safetensors": ("lightning", 8),
    "dmd2_sdxl_4step_lora.safetensors": ("dmd2", 4),
    "pcm_sd15_normalcfg_4step_converted.safetensors": ("pcm", 4),
    "pcm_sdxl_lcmlike_lora_converted.safetensors": ("lcm-lora", None),
    "sd_xl_turbo_lora_v1.safetensors": ("turbo", None),
}
MODELS = {
    "sdxl_lightning_1step_unet_x0.safetensors": "lightning-1",
    "sdxl_lightning_4step_unet.safetensors": "lightning",
    "Hyper-SDXL-1step-Unet.safetensors": "hyper-sd-1",
    "dmd2_sdxl_1step_unet_fp16.safetensors": "dmd2-1",
    "dmd2_sdxl_4step_unet_fp16.safetensors": "dmd2",
    "sd_xl_turbo_1.0_fp16.safetensors": "turbo",
    "DreamShaperXL_Turbo_v2.safetensors": "turbo",
    "dreamshaper_8LCM.safetensors": "lcm-lora",
    "juggernautXL_v9Lightning.safetensors": "lightning",
}
INNOCENT = ["hyperrealistic_v3", "enlightning", "turbocharged", "realisticVision_v51", "dmdx"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_of_published_loras(name: str) -> None:
    rows = [kind for kind in KINDS if "lora" in kind.carriers]
    found = by_name(name_parts(Path("/x") / name), rows)
    assert (found.name if found else None, steps_of(name_parts(Path("/x") / name))) == PUBLISHED[
        name
    ]


@pytest.mark.parametrize("name", MODELS)
def test_names_of_published_checkpoints(name: str) -> None:
    rows = [kind for kind in KINDS if {"sd", "sdxl"} & set(kind.families)]
    rows = [kind for kind in rows if "model" in kind.carriers]
    found = by_name(name_parts(Path(name)), rows)
    assert found is not None
    assert found.name == MODELS[name]


@pytest.mark.parametrize("name", INNOCENT)
def test_names_that_only_look_like_one(name: str) -> None:
    assert by_name([name], KINDS) is None


def lora(
    path: Path, *, time: bool, layout: str = "peft", metadata: dict[str, str] | None = None
) -> Path:
    """A small LoRA of tests' `sd` networks; `time`: it changes the time embedding, as distillations do."""
    unet = tiny.pipeline("sd-15").unet
    names = [n for n, m in unet.named_modules() if n.endswith(("attn1.to_q", "attn2.to_k"))]
    names += [n for n, _ in unet.named_modules() if time and n.endswith("time_emb_proj")]
    torch.manual_seed(1)
    state = {}
    for name in names:
        layer = unet.get_submodule(name)
        down, up = torch.randn(2, layer.in_features) / 4, torch.randn(layer.out_features, 2) / 4
        if layout == "kohya":
            key = f"lora_unet_{name.replace('.', '_')}"
            state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            state[f"{key}.alpha"] = torch.tensor(2.0)
        else:
            prefix = {
                "peft": "base_model.model.",
                "diffusers": "unet.",
                "comfy": "diffusion_model.",
            }
            key = prefix[layout] + name
            state |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={"format": "pt", **(metadata or {})})
    return path


WRONG = "sd_turbo_8step_lora.safetensors"


@pytest.mark.parametrize("layout", ["peft", "diffusers", "comfy", "kohya"])
@pytest.mark.parametrize("kind", [k.name for k in KINDS if "lora" in k.carriers])
def test_metadata_beats_a_wrong_name(tmp_path: Path, kind: str, layout: str) -> None:
    path = lora(tmp_path / WRONG, time=True, layout=layout, metadata={METADATA: kind})
    told = of_lora(path, "sd")
    assert told is not None
    assert (told.kind.name, told.by) == (kind, "its own metadata")


@pytest.mark.parametrize("layout", ["peft", "diffusers", "comfy", "kohya"])
@pytest.mark.parametrize("kind", [k.name for k in KINDS if "lora" in k.carriers])
def test_what_cannot_be_told_is_asked_once(tmp_path: Path, kind: str, layout: str) -> None:
    memory = KindMemory(tmp_path / "kinds.json")
    path = lora(tmp_path / "a.safetensors", time=True, layout=layout)
    with pytest.raises(BadRequest, match="choose one of") as asked:
        of_lora(path, "sd", memory)
    assert kind in str(asked.value)
    memory.remember(path, kind)
    renamed = path.rename(tmp_path / WRONG)
    told = of_lora(renamed, "sd", memory)
    assert told is not None
    assert (told.kind.name, told.by) == (kind, "what you said of it")


def test_a_style_with_a_loud_name_is_a_style(tmp_path: Path) -> None:
    for name in ("lightning-dragon", "turbo car", "my hyper-sd look"):
        assert of_lora(lora(tmp_path / f"{name}.safetensors", time=False), "sd") is None
    official = lora(tmp_path / "lcm-lora-sdv1-5" / "pytorch_lora_weights.safetensors", time=False)
    told = of_lora(official, "sd")
    assert told is not None
    assert told.kind.name == "lcm-lora"


def test_an_answer_is_remembered_by_the_studio(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_STUDIO_HOME", str(tmp_path / "home"))
    path = lora(tmp_path / "x.safetensors", time=True)
    request: dict[str, Any] = {"prompt": "lake", "model": "sd-15", "steps": 2}
    loras = (LoraSpec(path=str(path)),)
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        asked = list(engine.run(Generate(**request, loras=loras)))[-1]
        assert isinstance(asked, Failed)
        assert "its kind" in asked.message
        answered = list(engine.run(Generate(**request, loras=loras, kind="tcd")))[-1]
        assert isinstance(answered, Done)
        again = list(engine.run(Generate(**request, loras=loras)))[-1]
        assert isinstance(again, Done)
        assert again.settings["kind"] == "tcd"
        assert np.array_equal(again.images[0], answered.images[0])
        assert engine.info_as("sd-15", loras=loras).eta == 0.3
        plain = list(engine.run(Generate(**request)))[-1]
        assert isinstance(plain, Done)
        assert plain.settings["kind"] == "plain"


def test_a_kind_that_a_network_cannot_be_is_refused(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        for kind in ("sana-sprint", "nonsense"):
            failed = list(engine.run(Generate(model="sd", kind=kind)))[-1]
            assert isinstance(failed, Failed)
            assert kind in failed.message


@pytest.mark.parametrize(
    ("config", "names", "expected"),
    [
        ({"_class_name": "TCDScheduler"}, [], "tcd"),
        ({"_class_name": "LCMScheduler"}, ["sdxl-turbo"], "lcm-lora"),
        ({"_class_name": "LCMScheduler"}, ["DMD2"], "dmd2"),
        (
            {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"},
            [],
            "turbo",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
            ["sd-turbo"],
            "turbo",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
            [],
            "lightning",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"},
            [],
            "plain-euler",
        ),
        ({"_class_name": "PNDMScheduler"}, ["stable-diffusion-v1-5"], "plain"),
        ({"_class_name": "DDIMScheduler"}, ["Hyper-SD"], "hyper-sd"),
    ],
)
def test_folders_by_their_scheduler(
    config: dict[str, Any], names: list[str], expected: str
) -> None:
    told = of_folder("sd", config, embedded=False, names=names)
    assert told.kind.name == expected


def test_a_replaced_scheduler_is_said(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        assert "PNDMScheduler" in engine.info("sd-15").why
        assert "stands in" not in engine.info("sd-plain").why


def test_a_folder_says_its_kind_itself(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "sd-15", tmp_path / "m")
    (tmp_path / "m" / "studio.json").write_text(json.dumps({"kind": "dmd2"}))
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        info = engine.info("m")
        assert (info.sampling, info.max_steps, info.guidance) == ("dmd2", 4, "none")
        failed = list(engine.run(Generate(model="m", steps=5)))[-1]
        assert isinstance(failed, Failed)
        assert "1 to 4" in failed.message


def test_a_folder_says_its_share_of_fresh_noise(tiny_models: Path, tmp_path: Path) -> None:
    """An LCM's is 1, as stock, where neither the request nor its folder says another."""
    shutil.copytree(tiny_models / "lcm", tmp_path / "m")
    shutil.copytree(tiny_models / "lcm", tmp_path / "stock")
    (tmp_path / "m" / "studio.json").write_text(json.dumps({"eta": 0.5}))
    studio = Studio(models_dirs=(tmp_path,), device="cpu")

    def made(model: str, **settings: Any) -> Any:
        found = studio.generate("a sea", model=model, steps=4, seed=3, **settings)[0].pixels
        return found.astype(int)

    assert np.array_equal(made("stock"), made("stock", eta=1.0))
    assert np.array_equal(made("m"), made("stock", eta=0.5))
    assert np.array_equal(made("m", eta=1.0), made("stock"))
    assert not np.array_equal(made("m"), made("stock"))
    assert np.array_equal(made("m", eta=1.0, kind="lcm"), made("stock"))
    # a picture says what it was made with
    assert studio.generate("a sea", model="m", steps=1)[0].settings["eta"] == 0.5
    assert "eta" not in studio.generate("a sea", model="stock", steps=1)[0].settings


def test_what_has_no_effect_is_said(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        warnings = engine.validate(
            Generate(model="sd-15", kind="lightning", guidance=5.0, negative="sea", eta=0.5)
        )
        assert len([w for w in warnings if "ignore" in w]) == 3
        assert engine.validate(Generate(model="sd-15", kind="tcd", eta=0.5)) == ()


def test_resolving_leaves_a_models_own_settings(tiny_models: Path) -> None:
    """`studio.json` of the bundled model names its guidance: naming its own kind must not lose that."""
    with Engine() as engine:
        info = engine.info("scenery-lcm")
        assert resolve(Generate(kind="lcm"), info) == info
        assert resolve(Generate(), info) == info


def test_memory_survives_nonsense(tmp_path: Path) -> None:
    file = tmp_path / "kinds.json"
    path = lora(tmp_path / "x.safetensors", time=True)
    for text in ("", "[]", '{"a": 1}', "\x00"):
        file.write_text(text)
        assert KindMemory(file).recall(path) is None
    KindMemory(file).remember(path, "tcd")
    assert KindMemory(file).recall(path) == "tcd"
    assert KindMemory(tmp_path / "x.safetensors" / "no").recall(path) is None


def test_facts_of_a_lora(tmp_path: Path) -> None:
    said = {"ss_tag_frequency": json.dumps({"10_a": {"my cat": 9, "sitting": 2}})}
    facts = lora_facts(lora(tmp_path / "x.safetensors", time=True, layout="kohya", metadata=said))
    assert facts.few_steps
    assert facts.method == "LoRA"
    assert facts.triggers == ("my cat",)
    assert kind_of("tcd").eta == 0.3


def test_our_own_lora_says_what_it_is(tmp_path: Path) -> None:
    from training.recipes.lora import say_kind

    path = lora(tmp_path / "pytorch_lora_weights.safetensors", time=True)
    before = load_file(path)
    say_kind(path, "lcm-lora")
    told = of_lora(path, "sd")
    assert told is not None
    assert (told.kind.name, told.by) == ("lcm-lora", "its own metadata")
    assert all(torch.equal(before[name], value) for name, value in load_file(path).items())
