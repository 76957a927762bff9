"""Weights are checked before any library opens them; pickles and foreign code are never touched."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.device import choose
from lcm_studio.models.allowed import check_index
from lcm_studio.models.catalog import read_info, scan
from lcm_studio.models.files import called, choose_weights, read_header, weight_files
from lcm_studio.models.load import load_folder
from lcm_studio.spec.errors import ModelError


class Canary:
    """Leaves a mark when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def weights(entries: dict[str, Any], data: int, extra: bytes = b"") -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\0" * data + extra


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_sound_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights({"__metadata__": {"k": "v"}, "x": entry(0, 24, [2, 3])}, 24))
    header = read_header(path)
    assert (header.parameters, header.metadata) == (6, {"k": "v"})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 8,
        struct.pack("<Q", 2**60) + b"{}",
        weights({"x": entry(0, 24, [2, 3])}, 23),
        weights({"x": entry(0, 24, [2, 3])}, 25),
        weights({"x": entry(0, 20, [2, 3])}, 20),
        weights({"x": entry(0, 24, [2, 3], "O")}, 24),
        weights({"x": entry(-24, 0, [2, 3])}, 24),
        weights({"x": entry(0, 24, [2, 3]), "y": entry(12, 36, [2, 3])}, 36),
        weights({"x": entry(0, 24, [-2, -3])}, 24),
        weights({"x": {"shape": [1]}}, 4),
        weights({"x": 5}, 0),
        struct.pack("<Q", 5) + b"[1,2]",
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
        struct.pack("<Q", 60_000) + b"[" * 60_000,
        pickle.dumps([1, 2, 3]) * 50,
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ModelError, match="whole safetensors"):
        read_header(path)


def test_a_pointer_of_git_lfs_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match=r"pointer of git-lfs .* run git lfs pull there"):
        read_header(path)


@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt", "pth", "pkl", "safetensors"])
def test_canaries_never_fire(tiny_models: Path, tmp_path: Path, suffix: str) -> None:
    mark = tmp_path / "fired"
    canary = pickle.dumps(Canary(mark))
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "lcm", folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / f"diffusion_pytorch_model.{suffix}").write_bytes(canary)
    with pytest.raises(ModelError):
        load_folder(folder, choose("cpu"))
    lora = tmp_path / f"lora.{suffix}"
    lora.write_bytes(canary)
    with pytest.raises(ModelError):
        read_header(lora)
    assert not mark.exists()


def test_pickles_beside_safetensors_are_ignored(tiny_models: Path, tmp_path: Path) -> None:
    mark = tmp_path / "fired"
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "cm", folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Canary(mark)))
    load_folder(folder, choose("cpu"))
    assert not mark.exists()


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("model_index.json", lambda v: v.update(_class_name="EvilPipeline"), "does not load"),
        ("model_index.json", lambda v: v.update(_class_name=["my_code", "P"]), "does not load"),
        ("model_index.json", lambda v: v.update(unet=["evil", "UNet2DConditionModel"]), "safe"),
        ("model_index.json", lambda v: v.update(unet=["diffusers", "EvilModel"]), "safe"),
        ("model_index.json", lambda v: v.update(extra=["os", "system"]), "safe"),
        ("model_index.json", lambda v: v.update(scheduler=["diffusers", "os.system"]), "safe"),
        ("model_index.json", lambda v: v.pop("vae"), "lacks vae"),
        ("unet/config.json", lambda v: v.update(auto_map={"AutoModel": "x.y"}), "remote code"),
        ("unet/config.json", lambda v: v.update(in_channels=9), "inpaint"),
    ],
)
def test_foreign_folders_are_refused(
    tiny_models: Path, tmp_path: Path, file: str, change: Any, words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "lcm", folder)
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    edit_json(folder / file, change)
    with pytest.raises(ModelError, match=words):
        read_info(folder)


@pytest.mark.parametrize(
    ("kind", "file", "values"),
    [
        ("cm", "scheduler/scheduler_config.json", {"num_train_timesteps": "many"}),
        ("cm", "scheduler/scheduler_config.json", {"sigma_max": None}),
        ("cm", "unet/config.json", {"sample_size": "large"}),
        ("cm", "unet/config.json", {"sample_size": -1}),
        ("cm", "unet/config.json", {"block_out_channels": []}),
        ("cm", "unet/config.json", {"time_embedding_type": "none of them"}),
        ("cm", "studio.json", {"guidance": 8}),
        ("cm", "studio.json", {"guidance": {"range": [1, 2, 3]}}),
        ("cm", "studio.json", {"guidance": {"edit": "much"}}),
        ("cm", "studio.json", {"guidance": {"edit": {"deblur": "much"}}}),
        ("cm", "studio.json", {"steps": 0}),
        ("cm", "studio.json", {"shift": 0}),
        ("cm", "studio.json", {"shift": "towards noise"}),
        ("cm", "studio.json", {"eta": 1.5}),
        ("lcm", "studio.json", {"eta": "some"}),
        ("lcm", "scheduler/scheduler_config.json", {"beta_schedule": "steep"}),
        ("lcm", "scheduler/scheduler_config.json", {"beta_start": []}),
        ("lcm", "scheduler/scheduler_config.json", {"original_inference_steps": {}}),
        ("lcm", "vae/config.json", {"latent_channels": "four"}),
        ("lcm", "text_encoder/config.json", {"hidden_size": "wide"}),
        ("lcm", "tokenizer/tokenizer_config.json", {"model_max_length": "long"}),
        ("lcm", "unet/diffusion_pytorch_model.safetensors.index.json", {"weight_map": {"x": []}}),
    ],
)
def test_any_value_in_a_config_is_one_sentence(
    tiny_models: Path, tmp_path: Path, kind: str, file: str, values: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / kind, folder)
    if file.endswith("index.json"):
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    edit_json(folder / file, lambda said: said.update(values))
    with pytest.raises(ModelError) as raised:
        load_folder(folder, choose("cpu"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    scan((tmp_path,))  # a broken folder takes nothing else down


def test_a_snapshot_of_the_hub_is_called_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--ann--lcm" / "snapshots" / ("0" * 40)
    assert called(folder) == "ann/lcm"
    assert called(tmp_path / "snapshots" / "lcm") == "lcm"
    assert called(Path()) == ""


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_broken_json(tiny_models: Path, tmp_path: Path, raw: bytes) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "lcm", folder)
    (folder / "model_index.json").write_bytes(raw)
    with pytest.raises(ModelError):
        read_info(folder)


def test_shards_stay_in_their_folder(tmp_path: Path) -> None:
    index = {"weight_map": {"x": "../../etc/secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="outside"):
        weight_files(tmp_path)


def test_a_broken_folder_does_not_hide_the_others(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "cm", tmp_path / "good")
    shutil.copytree(tiny_models / "cm", tmp_path / "bad")
    (tmp_path / "bad" / "unet" / "config.json").write_text("{")
    models, broken = scan((tmp_path,))
    assert [m.id for m in models] == ["good"]
    assert "config.json" in broken["bad"]


@pytest.mark.parametrize(
    "said", [{"emphasis": 1}, {"emphasis": {"colorize": "much"}}, {"guidance": 3}, {"steps": None}]
)
def test_a_studio_file_that_says_nonsense_does_not_hide_the_others(
    tiny_models: Path, tmp_path: Path, said: dict[str, object]
) -> None:
    for name in ("good", "bad"):
        shutil.copytree(tiny_models / "cm", tmp_path / name)
    (tmp_path / "bad" / "studio.json").write_text(json.dumps(said))
    models, broken = scan((tmp_path,))
    assert [m.id for m in models] == ["good"]
    assert "studio.json" in broken["bad"]


def test_what_a_folder_says_of_itself(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "lcm", folder)
    said = {"guidance": {"default": 6, "edit": 7, "range": [2, 9]}, "steps": 2, "note": "small"}
    (folder / "studio.json").write_text(json.dumps(said))
    info = read_info(folder)
    assert (info.guidance_default, info.guidance_range, info.steps_default) == (6, (2, 9), 2)
    assert info.guidance_for("inpaint") == info.guidance_edit == 7
    assert info.guidance_for() == 6
    said["guidance"]["edit"] = {"deblur": 3}  # type: ignore[index]
    (folder / "studio.json").write_text(json.dumps(said))
    info = read_info(folder)
    assert [info.guidance_for(task) for task in ("deblur", "inpaint", "")] == [3, 6, 6]
    assert read_info(tiny_models / "lcm").guidance_for("inpaint") == 8
    assert info.vocabulary[0][0] == "all"
    assert info.kind == "lcm"
    assert info.guidance == "embedded"
    assert not info.takes_negative
    assert info.name == ""
    (folder / "studio.json").write_text(json.dumps({"name": " My \n model "}))
    assert read_info(folder).name == "My model"


def test_kinds(tiny_models: Path) -> None:
    found = {m.id: (m.kind, m.guidance, m.consistency) for m in scan((tiny_models,))[0]}
    assert found == {
        "cm": ("cm", "none", True),
        "cm-class": ("cm", "none", True),
        "lcm": ("lcm", "embedded", True),
        "lcm-v": ("lcm", "embedded", True),
        "sd": ("sd", "cfg", True),
        "sd-15": ("sd", "cfg", False),
        "sd-plain": ("sd", "cfg", False),
        "sdxl-base": ("sdxl", "cfg", False),
        "sdxl": ("sdxl", "cfg", True),
        "sdxl-lcm": ("sdxl", "embedded", True),
    }
    assert check_index(tiny_models / "sdxl")[0] == "sdxl"


@pytest.mark.parametrize("variant", ["fp16", "bf16", "fp32", "non_ema", "ema_only", "mine"])
def test_folders_with_one_variant_only(tiny_models: Path, tmp_path: Path, variant: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "lcm", folder)
    for path in list(folder.glob("*/*.safetensors")):
        path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))
    model = load_folder(folder, choose("cpu"))
    plain = load_folder(tiny_models / "lcm", choose("cpu"))
    for mine, own in zip(model.unet.parameters(), plain.unet.parameters(), strict=True):
        assert mine.equal(own)


def test_a_plain_file_beside_a_variant_is_taken() -> None:
    names = ["diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model.safetensors"]
    assert choose_weights(names) == ("diffusion_pytorch_model.safetensors", None)


@pytest.mark.parametrize(
    "file", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json", "model_index.json"]
)
def test_pointers_of_git_lfs_say_what_to_do(tiny_models: Path, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "lcm", folder)
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelError, match="git lfs pull"):
        load_folder(folder, choose("cpu"))


def test_a_download_that_broke_off_is_named(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "lcm", folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".safetensors.incomplete"))
    with pytest.raises(ModelError, match="broke off"):
        load_folder(folder, choose("cpu"))


def test_the_refiner_is_refused_by_its_name(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "sdxl", folder)
    edit_json(
        folder / "model_index.json",
        lambda v: v.update(text_encoder=[None, None], tokenizer=[None, None]),
    )
    with pytest.raises(ModelError, match="refiner"):
        read_info(folder)
