"""Single checkpoints: original Stable Diffusion layout and a UNet in diffusers' own layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.events import Done, Event, Failed
from lcm_studio.spec.requests import Generate
from tests import tiny

UNET = [
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("time_embedding.cond_proj", "time_embedding.cond_proj"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("down_blocks.0.resnets.0", "input_blocks.1.0"),
    ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
    ("down_blocks.1.resnets.0", "input_blocks.3.0"),
    ("down_blocks.1.attentions.0", "input_blocks.3.1"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
    ("up_blocks.0.resnets.0", "output_blocks.0.0"),
    ("up_blocks.0.attentions.0", "output_blocks.0.1"),
    ("up_blocks.0.resnets.1", "output_blocks.1.0"),
    ("up_blocks.0.attentions.1", "output_blocks.1.1"),
    ("up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv"),
    ("up_blocks.1.resnets.0", "output_blocks.2.0"),
    ("up_blocks.1.resnets.1", "output_blocks.3.0"),
]
RESNET = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
]
ATTENTION = [
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
]


def original_unet(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' names turned back into those of the original code."""
    out = {}
    for name, value in state.items():
        prefix, target = max(
            ((a, b) for a, b in UNET if name.startswith(a + ".")), key=lambda pair: len(pair[0])
        )
        rest = name.removeprefix(prefix + ".")
        if ".resnets." in f".{prefix}":
            rest = next(b + rest.removeprefix(a) for a, b in RESNET if rest.startswith(a + "."))
        out[f"model.diffusion_model.{target}.{rest}"] = value
    return out


def original_vae(state: dict[str, torch.Tensor], levels: int = 4) -> dict[str, torch.Tensor]:
    """The same for the autoencoder."""
    out = {}
    for name, value in state.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        for i in range(levels):
            new = new.replace(f"encoder.down_blocks.{i}.resnets.", f"encoder.down.{i}.block.")
            new = new.replace(f"down_blocks.{i}.downsamplers.0.", f"down.{i}.downsample.")
            up = levels - 1 - i
            new = new.replace(f"decoder.up_blocks.{i}.resnets.", f"decoder.up.{up}.block.")
            new = new.replace(f"up_blocks.{i}.upsamplers.0.", f"up.{up}.upsample.")
        for i in range(2):
            new = new.replace(f"mid_block.resnets.{i}.", f"mid.block_{i + 1}.")
        if "mid_block.attentions.0." in new:
            head, rest = new.split("mid_block.attentions.0.")
            rest = next(b + rest.removeprefix(a) for a, b in ATTENTION if rest.startswith(a + "."))
            new = f"{head}mid.attn_1.{rest}"
            if rest.endswith("weight") and "norm" not in rest:
                value = value[:, :, None, None]
        out[f"first_stage_model.{new}"] = value
    return out


def checkpoint(kind: str, path: Path) -> Path:
    """All weights of a tiny pipeline in one file of the original layout."""
    pipe = tiny.pipeline(kind)
    text = {
        f"cond_stage_model.transformer.{name if name.startswith('text_model.') else 'text_model.' + name}": v
        for name, v in pipe.text_encoder.state_dict().items()
    }
    state = {
        **original_unet(pipe.unet.state_dict()),
        **original_vae(pipe.vae.state_dict()),
        **text,
    }
    save_file({k: v.clone().contiguous() for k, v in state.items()}, path)
    return path


def last(engine: Engine, **settings: Any) -> Event:
    return list(engine.run(Generate(prompt="sunset lake", seed=3, steps=2, **settings)))[-1]


def pixels(event: Event) -> np.ndarray:
    assert isinstance(event, Done), event
    return np.asarray(event.images[0]).astype(int)


@pytest.mark.parametrize("kind", ["sd", "lcm"])
def test_original_layout_gives_the_folders_picture(
    tiny_models: Path, tmp_path: Path, kind: str
) -> None:
    path = checkpoint(kind, tmp_path / f"{kind}-single.safetensors")
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        assert engine.info(str(path)).kind == kind
        alone = pixels(last(engine, model=kind))
        assert np.abs(pixels(last(engine, model=str(path))) - alone).max() <= 1


def test_a_unet_file_takes_the_rest_from_its_neighbour(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "lcm", tmp_path / "mine")
    weights = tmp_path / "mine" / "unet" / "diffusion_pytorch_model.safetensors"
    path = tmp_path / "mine.safetensors"
    shutil.copy(weights, path)
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        assert (
            np.abs(pixels(last(engine, model=str(path))) - pixels(last(engine, model="mine"))).max()
            <= 1
        )


def test_without_configs_the_remedy_is_named(tiny_models: Path, tmp_path: Path) -> None:
    path = checkpoint("sd", tmp_path / "single.safetensors")
    vae = tiny_models / "sd" / "vae" / "diffusion_pytorch_model.safetensors"
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        end = last(engine, model=str(path))
        assert isinstance(end, Failed)
        assert "single/" in end.message
        other = last(engine, model=str(vae))
        assert isinstance(other, Failed)
        assert "is an autoencoder; it goes into --decoder" in other.message


@pytest.mark.parametrize("kind", ["sd", "lcm"])
@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "", "unet."])
def test_a_unet_alone_under_every_prefix(
    tiny_models: Path, tmp_path: Path, kind: str, prefix: str
) -> None:
    shutil.copytree(tiny_models / kind, tmp_path / "mine")
    state = tiny.pipeline(kind).unet.state_dict()
    if prefix == "unet.":  # diffusers' own names
        state = {f"unet.{name}": value for name, value in state.items()}
    else:
        state = {
            name.replace("model.diffusion_model.", prefix): value
            for name, value in original_unet(state).items()
        }
    path = tmp_path / "mine.SAFETENSORS"
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        whole = pixels(last(engine, model="mine"))
        assert np.abs(pixels(last(engine, model=str(path))) - whole).max() <= 1


def test_names_propose_the_kind_of_a_checkpoint(tiny_models: Path, tmp_path: Path) -> None:
    weights = tiny_models / "sd-plain" / "unet" / "diffusion_pytorch_model.safetensors"
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        for name, kind in (("dreamshaper_8LCM", "lcm-lora"), ("sdxl_lightning_4step", "lightning")):
            shutil.copytree(tiny_models / "sd-plain", tmp_path / name)
            path = tmp_path / f"{name}.safetensors"
            shutil.copy(weights, path)
            info = engine.info(str(path))
            assert info.sampling == kind
            assert "its name" in info.why


OTHERS = {
    "inpainting": ({"conv_in.weight": torch.zeros(4, 9, 3, 3)}, "inpainting"),
    "refiner": (
        {
            "conv_in.weight": torch.zeros(4, 4, 3, 3),
            "x.attn2.to_k.weight": torch.zeros(4, 1280),
        },
        "refiner",
    ),
    "flux": ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, "FLUX"),
    "sd3": ({"joint_blocks.0.x_block.attn.qkv.weight": torch.zeros(2, 2)}, "Stable Diffusion 3"),
    "lora": ({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, "--lora"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused_by_their_name(tmp_path: Path, name: str) -> None:
    state, word = OTHERS[name]
    path = tmp_path / "x.safetensors"
    save_file(state, path)
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        end = last(engine, model=str(path))
        assert isinstance(end, Failed)
        assert word in end.message


def test_single_files_of_a_folder_of_models_are_in_the_list(tmp_path: Path) -> None:
    tiny.save("sd", tmp_path / "sd")
    checkpoint("sd", tmp_path / "mine.safetensors")
    save_file({"a.lora_up.weight": torch.ones(2, 2), "a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "b.safetensors")  # fmt: skip
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        assert [info.id for info in engine.catalog()] == ["sd", "mine.safetensors"]
        assert "holds a LoRA" in engine.registry.broken()["b.safetensors"]
        alone, single = (pixels(last(engine, model=name)) for name in ("sd", "mine.safetensors"))
        assert np.abs(alone - single).max() <= 1
        (tmp_path / "mine.safetensors").unlink()
        assert [info.id for info in engine.catalog()] == ["sd"]


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_a_controlnet_is_no_model(tmp_path: Path, prefix: str) -> None:
    """In diffusers' names its layers are those of half a UNet."""
    from tests.models.test_control import network, original

    tiny.save("sd", tmp_path / "sd")
    state = original("sd") if prefix else network("sd").state_dict()
    save_file({prefix + k: v.clone() for k, v in state.items()}, tmp_path / "c.safetensors")
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        assert [info.id for info in engine.catalog()] == ["sd"]
        assert "c.safetensors is a ControlNet" in engine.registry.broken()["c.safetensors"]
