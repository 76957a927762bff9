"""LoRA files: applied as stock diffusers does, several with weights, switched without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.engine.lane import Lane
from lcm_studio.engine.run import Order, run_request
from lcm_studio.models.load import load_folder
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Generate, LoraSpec
from tests import tiny

PROMPT = "sunset lake"


def make_lora(kind: str, path: Path, seed: int) -> Path:
    """A random LoRA of the UNet's attention, written by diffusers itself."""
    from diffusers import LatentConsistencyModelPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = tiny.build(kind).unet
    torch.manual_seed(seed)
    unet.add_adapter(
        LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q"], init_lora_weights="gaussian")
    )
    for name, value in unet.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.5)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    LatentConsistencyModelPipeline.save_lora_weights(
        str(path.parent), unet_lora_layers=state, weight_name=path.name
    )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("loras")
    return {
        "a": make_lora("sd", root / "a.safetensors", 1),
        "b": make_lora("sd", root / "b.safetensors", 2),
    }


@pytest.fixture(scope="module")
def lane(tiny_models: Path) -> Any:
    lane = Lane(load_folder(tiny_models / "sd", choose("cpu")))
    yield lane
    lane.close()


def picture(lane: Lane, *loras: LoraSpec) -> np.ndarray:
    request = Generate(prompt=PROMPT, seed=4, steps=2, model="sd", loras=loras)
    done = list(run_request(Order(request=request, lane=lane)))[-1]
    assert isinstance(done, Done), done
    return np.asarray(done.images[0]).astype(int)


def stock(files: dict[str, Path], weights: dict[str, float]) -> np.ndarray:
    pipe = tiny.build("sd")
    pipe.set_progress_bar_config(disable=True)
    for name in weights:
        pipe.load_lora_weights(
            str(files[name].parent), weight_name=files[name].name, adapter_name=name
        )
    if weights:
        pipe.set_adapters(list(weights), list(weights.values()))
    generator = torch.Generator("cpu").manual_seed(4)
    out = pipe(
        PROMPT, num_inference_steps=2, guidance_scale=1.5, generator=generator, output_type="np"
    )
    return (out.images[0] * 255).round().astype(int)


def test_as_stock_diffusers_and_back_again(lane: Lane, files: dict[str, Path]) -> None:
    a, b = str(files["a"]), str(files["b"])
    plain = picture(lane)
    assert np.abs(plain - stock(files, {})).max() <= 1
    both = picture(lane, LoraSpec(path=a, weight=0.8), LoraSpec(path=b, weight=0.5))
    assert np.abs(both - stock(files, {"a": 0.8, "b": 0.5})).max() <= 1
    one = picture(lane, LoraSpec(path=a))
    assert np.abs(one - stock(files, {"a": 1.0})).max() <= 1
    assert np.abs(one - plain).max() > 1
    assert np.array_equal(picture(lane), plain)


def test_files_that_do_not_fit(
    lane: Lane, files: dict[str, Path], tiny_models: Path, tmp_path: Path
) -> None:
    plain = picture(lane)
    wrong = make_lora("sdxl", tmp_path / "wrong.safetensors", 3)
    weights = tiny_models / "cm" / "unet" / "diffusion_pytorch_model.safetensors"
    for path in (wrong, weights, tmp_path / "missing.safetensors"):
        request = Generate(prompt=PROMPT, model="sd", loras=(LoraSpec(path=str(path)),))
        end = list(run_request(Order(request=request, lane=lane)))[-1]
        assert isinstance(end, Failed), path
        assert "Traceback" not in end.message
        assert "report this" not in end.message
    assert np.array_equal(picture(lane), plain)


def test_pixel_models_take_none(tiny_models: Path, files: dict[str, Path]) -> None:
    model = load_folder(tiny_models / "cm", choose("cpu"))
    with pytest.raises(ModelError):
        model.use(loras=(LoraSpec(path=str(files["a"])),))
