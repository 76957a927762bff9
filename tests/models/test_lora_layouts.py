"""LoRA files of every layout and method against weights merged by hand; what is not applied is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lcm_studio.device import choose
from lcm_studio.models.load import LoadedModel, load_folder
from lcm_studio.models.lora_state import original_names
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.requests import LoraSpec
from tests import tiny
from tests.models.test_parity import BOUND, PROMPT, ours

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def model(tiny_models: Path) -> LoadedModel:
    return load_folder(tiny_models / "sd-15", choose("cpu"))


def weight(path: str) -> Tensor:
    return tiny.pipeline("sd-15").unet.get_submodule(path).weight.detach().clone()


def flat(path: str) -> str:
    return f"lora_unet_{path.replace('.', '_')}"


def randn(*shape: int, seed: int = 0, scale: float = 0.4) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def lora(path: str, rank: int = 3, alpha: float | None = 2.0) -> tuple[State, Tensor]:
    w = weight(path)
    down, up = randn(rank, *w.shape[1:]), randn(w.shape[0], rank, seed=1)
    state = {f"{flat(path)}.lora_down.weight": down}
    state[f"{flat(path)}.lora_up.weight"] = up[:, :, None, None] if w.ndim == 4 else up
    if alpha is not None:
        state[f"{flat(path)}.alpha"] = torch.tensor(alpha)
    scale = 1.0 if alpha is None else alpha / rank
    return state, (scale * up @ down.flatten(1)).reshape(w.shape)


def tucker() -> tuple[State, Tensor]:
    w = weight(CONV)
    down, mid, up = (
        randn(2, w.shape[1], 1, 1),
        randn(2, 2, 3, 3, seed=2),
        randn(w.shape[0], 2, 1, 1),
    )
    key = flat(CONV)
    state = {f"{key}.lora_down.weight": down, f"{key}.lora_mid.weight": mid}
    state[f"{key}.lora_up.weight"] = up
    return state, torch.einsum("op,pqkl,qi->oikl", up.flatten(1), mid, down.flatten(1))


def dora(path: str) -> tuple[State, Tensor]:
    state, delta = lora(path)
    w = weight(path)
    whole = w + delta
    scale = w.flatten(1).norm(dim=1) * 1.3
    shape = (-1, *(1,) * (w.ndim - 1))
    state[f"{flat(path)}.dora_scale"] = scale.reshape(shape).contiguous()
    return state, whole / whole.flatten(1).norm(dim=1).reshape(shape) * scale.reshape(shape) - w


def loha(path: str, rank: int) -> tuple[State, Tensor]:
    w = weight(path)
    out, width = w.shape[0], w[0].numel()
    parts = {"w1_a": randn(out, rank), "w1_b": randn(rank, width, seed=1)}
    parts |= {"w2_a": randn(out, rank, seed=2), "w2_b": randn(rank, width, seed=3)}
    delta = (parts["w1_a"] @ parts["w1_b"]) * (parts["w2_a"] @ parts["w2_b"]) * 3.0 / rank
    state = {f"{flat(path)}.hada_{name}": value for name, value in parts.items()}
    state[f"{flat(path)}.alpha"] = torch.tensor(3.0)
    return state, delta.reshape(w.shape)


def lokr(path: str, *, low: bool) -> tuple[State, Tensor]:
    w = weight(path)
    one = randn(4, 2, scale=2.0)
    rows, columns = w.shape[0] // 4, w.shape[1] // 2
    key = flat(path)
    state = {f"{key}.lokr_w1": one, f"{key}.alpha": torch.tensor(1.0)}
    scale = 1.0
    if low:
        a, b = randn(rows, 2, seed=1), randn(2, columns * w[0, 0].numel(), seed=2)
        state |= {f"{key}.lokr_w2_a": a, f"{key}.lokr_w2_b": b}
        two, scale = (a @ b).reshape(rows, columns, *w.shape[2:]), 0.5
    else:
        two = randn(rows, columns, *w.shape[2:], seed=1)
        state[f"{key}.lokr_w2"] = two
    if w.ndim == 4:
        one = one[:, :, None, None]
    return state, torch.kron(one, two) * scale


def full(path: str) -> tuple[State, Tensor]:
    delta = randn(*weight(path).shape, scale=0.1)
    return {f"{flat(path)}.diff": delta}, delta


CASES: dict[str, tuple[str, Any]] = {
    "lora": (LINEAR, lambda: lora(LINEAR)),
    "lora without alpha": (LINEAR, lambda: lora(LINEAR, alpha=None)),
    "convolution": (CONV, lambda: lora(CONV)),
    "tucker": (CONV, tucker),
    "dora": (LINEAR, lambda: dora(LINEAR)),
    "dora of a convolution": (CONV, lambda: dora(CONV)),
    "loha": (LINEAR, lambda: loha(LINEAR, 2)),
    "loha of high rank": (LINEAR, lambda: loha(LINEAR, 7)),
    "loha of a convolution": (CONV, lambda: loha(CONV, 2)),
    "lokr": (LINEAR, lambda: lokr(LINEAR, low=False)),
    "lokr of low rank": (LINEAR, lambda: lokr(LINEAR, low=True)),
    "lokr of a convolution": (CONV, lambda: lokr(CONV, low=False)),
    "full": (LINEAR, lambda: full(LINEAR)),
}


def merged(path: str, delta: Tensor) -> np.ndarray:
    pipe = tiny.pipeline("sd-15")
    layer = pipe.unet.get_submodule(path)
    before = layer.weight.detach().clone()
    try:
        with torch.no_grad():
            layer.weight += delta
        return _stock(pipe)
    finally:
        with torch.no_grad():
            layer.weight.copy_(before)


def _stock(pipe: Any) -> np.ndarray:
    import diffusers

    pipe.set_progress_bar_config(disable=True)
    before = pipe.scheduler
    pipe.scheduler = diffusers.DDIMScheduler.from_config(before.config)
    try:
        return np.asarray(
            pipe(
                PROMPT,
                num_inference_steps=2,
                guidance_scale=1.0,
                output_type="np",
                generator=torch.Generator("cpu").manual_seed(4),
            ).images
        )
    finally:
        pipe.scheduler = before


def picture(model: LoadedModel, path: Path | None) -> np.ndarray:
    model.use(loras=() if path is None else (LoraSpec(path=str(path)),))
    made = ours(model, prompt=PROMPT, steps=2, seed=4, guidance=1.0)
    model.use()
    return made


@pytest.mark.parametrize("case", CASES)
def test_as_merged_by_hand(model: LoadedModel, tmp_path: Path, case: str) -> None:
    path, make = CASES[case]
    state, delta = make()
    file = tmp_path / "x.safetensors"
    save_file(state, file)
    mine = picture(model, file)
    assert np.abs(mine - merged(path, delta)).max() <= BOUND
    assert np.abs(mine - picture(model, None)).max() > BOUND


def test_names_of_the_original_code(model: LoadedModel, tmp_path: Path) -> None:
    unet = tiny.pipeline("sd-15").unet
    names = dict(original_names(unet))
    layers = {
        name
        for name, layer in unet.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    }
    assert set(names.values()) >= layers
    original = next(name for name, path in names.items() if path == LINEAR)
    state, delta = lora(LINEAR)
    state = {key.replace(flat(LINEAR), flat(original)): value for key, value in state.items()}
    file = tmp_path / "x.safetensors"
    save_file(state, file)
    assert np.abs(picture(model, file) - merged(LINEAR, delta)).max() <= BOUND


def test_what_is_left_out_is_said(model: LoadedModel, tmp_path: Path) -> None:
    state, delta = lora(LINEAR)
    state |= {
        key.replace("down_blocks_1", "down_blocks_7"): value
        for key, value in lora(LINEAR)[0].items()
    }
    state["bundle_emb.cat.string_to_param"] = torch.zeros(1, 4)
    file = tmp_path / "x.safetensors"
    save_file({key: value.clone() for key, value in state.items()}, file)
    assert np.abs(picture(model, file) - merged(LINEAR, delta)).max() <= BOUND
    (note,) = model.notes((LoraSpec(path=str(file)),))
    assert "1 of its 2 layers" in note
    assert "textual inversions" in note


REFUSED: dict[str, tuple[State, str]] = {
    "ia3": ({f"{flat(LINEAR)}.on_input": torch.ones(1)}, "IA"),
    "oft": ({f"{flat(LINEAR)}.oft_blocks": torch.ones(1)}, "OFT"),
    "norms": ({**lora(LINEAR)[0], "lora_unet_x.w_norm": torch.ones(1)}, "norms"),
    "inversion": ({"emb_params": torch.ones(1, 32)}, "textual inversion"),
    "decoder": ({"decoder.conv_in.weight": torch.ones(1)}, "autoencoder"),
    "network": ({"conv_in.weight": torch.ones(1)}, "whole network"),
    "controlnet": ({"control_model.x": torch.ones(1)}, "ControlNet"),
    "ip-adapter": ({"image_proj.x": torch.ones(1)}, "IP-Adapter"),
    "dora of inputs": (
        {**lora(LINEAR)[0], f"{flat(LINEAR)}.dora_scale": torch.ones(1, 32)},
        "scales inputs",
    ),
    "another width": (
        {
            f"{flat(LINEAR).replace('attn1_to_q', 'attn2_to_k')}.lora_down.weight": torch.ones(
                2, 2048
            ),
            f"{flat(LINEAR).replace('attn1_to_q', 'attn2_to_k')}.lora_up.weight": torch.ones(32, 2),
        },
        "SDXL",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_rest_is_refused_by_its_name(model: LoadedModel, tmp_path: Path, case: str) -> None:
    state, word = REFUSED[case]
    file = tmp_path / "x.safetensors"
    save_file(state, file)
    before = picture(model, None)
    with pytest.raises(ModelError, match=word):
        model.use(loras=(LoraSpec(path=str(file)),))
    assert np.array_equal(picture(model, None), before)
