"""ControlNets: the picture of the stock pipeline at the same seed, beside other requests, and clear refusals."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lcm_studio.device import choose
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.images.control import control_image
from lcm_studio.models.controlnet import kind_by_name
from lcm_studio.models.controlnet_load import ADDED
from lcm_studio.models.load import load_folder
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import ControlSpec, Edit, Generate
from lcm_studio.spec.settings import from_settings, to_settings
from tests import tiny
from tests.models.test_parity import BOUND, PROMPT, ours
from tests.models.test_single import original_unet

KINDS = {"sd": "sd-control", "lcm": "sd-control", "sdxl": "xl-control"}


def network(kind: str) -> Any:
    """A random ControlNet of the tiny UNet, whose zero convolutions are not zero."""
    from diffusers import ControlNetModel

    torch.manual_seed(11)
    net = ControlNetModel.from_unet(
        tiny.pipeline(kind).unet, conditioning_embedding_out_channels=(8, 8, 16, 16)
    )
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("sd", "lcm", "sdxl", "cm"):
        tiny.save(kind, root / kind)
    network("sd").save_pretrained(root / "controlnets" / "sd-control")
    network("sdxl").save_pretrained(root / "controlnets" / "xl-control")
    return root


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    with Engine(EngineConfig(models_dirs=(folder,), device="cpu", keep=4)) as engine:
        yield engine


def picture(size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    rings = np.hypot(y - size / 2, x - size / 3) % 16 < 8
    return np.stack([255 * rings, 2 * x, 255 - 2 * y], -1).astype(np.uint8)


def spec(model: str, **more: Any) -> ControlSpec:
    return ControlSpec(**{"path": KINDS[model], "image": picture(), **more})


def mine(folder: Path, kind: str, control: ControlSpec, **settings: Any) -> np.ndarray:
    model: Any = load_folder(folder / kind, choose("cpu"))
    model.use(control=str(folder / "controlnets" / control.path))
    return ours(model, prompt=PROMPT, seed=3, control=control, **settings)


def stock(folder: Path, kind: str, shown: np.ndarray, **call: Any) -> np.ndarray:
    import diffusers as d

    classes = {"sd": d.StableDiffusionControlNetPipeline, "sdxl": d.StableDiffusionXLControlNetPipeline}  # fmt: skip
    pipe = classes[kind](**tiny.pipeline(kind).components, controlnet=network(kind), **({"requires_safety_checker": False} if kind == "sd" else {"add_watermarker": False}))  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    out = pipe(
        PROMPT, image=Image.fromarray(shown), generator=torch.Generator("cpu").manual_seed(3),
        output_type="np", **call,
    )  # fmt: skip
    return np.asarray(out.images)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize(("guidance", "strength", "start", "end"), [(1.0, 1.0, 0.0, 1.0), (3.0, 0.6, 0.25, 0.75)])  # fmt: skip
def test_as_stock(
    folder: Path, kind: str, guidance: float, strength: float, start: float, end: float
) -> None:
    control = spec(kind, kind="canny", strength=strength, start=start, end=end)
    negative = "night" if guidance > 1 else ""
    got = mine(folder, kind, control, steps=4, guidance=guidance, negative=negative)
    theirs = stock(
        folder, kind, control_image(control, 64, 64), num_inference_steps=4, guidance_scale=guidance,
        negative_prompt=negative or None, controlnet_conditioning_scale=strength,
        control_guidance_start=start, control_guidance_end=end,
    )  # fmt: skip
    assert np.abs(got - theirs).max() <= BOUND
    without = mine(folder, kind, replace(control, strength=0.0), steps=4, guidance=guidance, negative=negative)  # fmt: skip
    assert np.abs(got - without).max() > BOUND


def test_requests_with_other_controls_run_beside_each_other(engine: Engine) -> None:
    base = Generate(prompt=PROMPT, model="sd", steps=3, guidance=2.0)
    given = (
        None,
        spec("sd"),
        spec("sd", kind="canny", strength=0.5),
        spec("sd", image=255 - picture(), end=0.4),
    )
    requests = [replace(base, control=control, seed=i // 2) for i, control in enumerate(given)]
    requests.append(replace(requests[1], guided_steps=1, count=2))
    alone = [list(engine.run(request))[-1] for request in requests]
    with ThreadPoolExecutor(5) as pool:
        beside = list(pool.map(lambda request: list(engine.run(request))[-1], requests))
    for one, other in zip(alone, beside, strict=True):
        assert isinstance(one, Done) and isinstance(other, Done), (one, other)
        for a, b in zip(one.images, other.images, strict=True):
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
    assert np.abs(alone[0].images[0].astype(int) - alone[1].images[0].astype(int)).max() > 1


def test_a_consistency_model_that_takes_guidance_as_an_input_is_held_too(engine: Engine) -> None:
    base = Generate(prompt=PROMPT, model="lcm", steps=2, seed=1)
    ends = [list(engine.run(replace(base, control=c)))[-1] for c in (None, spec("lcm"))]
    assert all(isinstance(end, Done) for end in ends), ends
    assert np.abs(ends[0].images[0].astype(int) - ends[1].images[0].astype(int)).max() > 1


def test_what_the_picture_is_made_into() -> None:
    edges = control_image(spec("sd", kind="canny"), 64, 48)
    assert edges.shape == (48, 64, 3) and set(np.unique(edges)) == {0, 255}
    drawing = np.full((64, 64), 255, np.uint8)
    drawing[30:34] = 20
    strokes = control_image(spec("sd", kind="scribble", image=drawing), 64, 64)
    assert strokes[31].min() == 255 and strokes[:28].max() == 0
    inverse = control_image(spec("sd", kind="scribble", image=255 - drawing), 64, 64)
    assert np.array_equal(strokes, inverse)
    depth = control_image(spec("sd", kind="depth"), 64, 64)
    assert np.ptp(depth, axis=2).max() == 0 and depth.std() > 1
    assert np.array_equal(control_image(spec("sd"), 64, 64), picture())
    clear = np.dstack([picture(), np.zeros((64, 64), np.uint8)])
    assert control_image(spec("sd", image=clear), 64, 64).min() == 255  # over white
    assert [kind_by_name(n) for n in ("control_v11p_sd15_canny", "sdxl-depth", "x")] == ["canny", "depth", "none"]  # fmt: skip


def original(kind: str) -> dict[str, torch.Tensor]:
    """The tiny ControlNet in the original code's names, without a prefix."""
    state = network(kind).state_dict()
    hint = "controlnet_cond_embedding"
    out, rest = {}, {}
    for name, value in state.items():
        stem, _, part = name.rpartition(".")
        end = stem.rpartition(".")[2]
        if stem.startswith("controlnet_down_blocks."):
            out[f"zero_convs.{end}.0.{part}"] = value
        elif stem == "controlnet_mid_block":
            out[f"middle_block_out.0.{part}"] = value
        elif stem.startswith(hint):
            at = {"conv_in": 0, "conv_out": 14}.get(end) if not end.isdigit() else 2 * int(end) + 2
            out[f"input_hint_block.{at}.{part}"] = value
        elif name in ADDED:
            out[ADDED[name]] = value
        else:
            rest[name] = value
    return out | {k.removeprefix("model.diffusion_model."): v for k, v in original_unet(rest).items()}  # fmt: skip


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("layout", ["diffusers", "original", "control_model"])
def test_a_single_file_gives_the_folders_picture(
    engine: Engine, folder: Path, tmp_path: Path, kind: str, layout: str
) -> None:
    path = tmp_path / f"{layout}.safetensors"
    state = network(kind).state_dict() if layout == "diffusers" else original(kind)
    prefix = "control_model." if layout == "control_model" else ""
    save_file({prefix + k: v.clone().contiguous() for k, v in state.items()}, path)
    base = Generate(prompt=PROMPT, model=kind, steps=1, control=spec(kind))
    ends = [list(engine.run(replace(base, control=spec(kind, path=p))))[-1] for p in (KINDS[kind], str(path))]  # fmt: skip
    assert all(isinstance(end, Done) for end in ends), ends
    assert np.abs(ends[0].images[0].astype(int) - ends[1].images[0].astype(int)).max() <= 1


def test_a_single_file_is_offered_by_its_name_and_one_of_another_shape_is_refused(
    engine: Engine, folder: Path
) -> None:
    path = folder / "controlnets" / "alone.safetensors"
    state = network("sd").state_dict()
    save_file(state, path)
    names = engine.controls("sd")
    request = Generate(prompt="lake", model="sd", steps=1, control=spec("sd", path="alone"))
    end = list(engine.run(request))[-1]
    path.unlink()
    assert isinstance(end, Done) and names == ("alone", "sd-control")
    odd = folder / "odd.safetensors"
    save_file({k: v for k, v in state.items() if "controlnet_mid_block" not in k}, odd)
    end = list(engine.run(replace(request, control=spec("sd", path=str(odd)))))[-1]
    assert isinstance(end, Failed) and "of this model's shape" in end.message


def test_names_that_fit(engine: Engine) -> None:
    assert engine.controls("sd") == engine.controls("lcm") == ("sd-control",)
    assert engine.controls("sdxl") == ("xl-control",)
    assert engine.controls("cm") == ()
    assert "sd-control" not in engine.decoders()


@pytest.mark.parametrize(
    ("change", "model", "said"),
    [
        ({"path": "nothing"}, "sd", "'nothing' is unknown.*for this model: sd-control"),
        ({"path": "xl-control"}, "sd", "made for SDXL with text features of width 64, and sd has 32"),
        ({"path": "sd-control"}, "sdxl", "made for Stable Diffusion.*sdxl has 64"),
        ({"path": "ROOT/sd"}, "sd", "config.json is missing"),
        ({"path": "ROOT/sd/unet"}, "sd", "is a UNet2DConditionModel, no ControlNetModel"),
        ({"path": "ROOT/pickled"}, "sd", "pickled weights"),
        ({"path": "ROOT/one.safetensors"}, "sd", "not a whole safetensors"),
        ({"path": "ROOT/control-lora.safetensors"}, "sd", "is a Control-LoRA"),
        ({"path": "ROOT/union.safetensors"}, "sd", "is a ControlNet-Union"),
        ({"path": "ROOT/t2i.safetensors"}, "sd", "is a T2I-Adapter"),
        ({"path": "ROOT/other.safetensors"}, "sd", "is no ControlNet"),
        ({"path": "ROOT/xl-file.safetensors"}, "sd", "made for SDXL with text features of width 64"),
        ({}, "cm", "cm takes no ControlNet"),
        ({"path": ""}, "sd", "no ControlNet is named"),
        ({"kind": "pose"}, "sd", "canny, scribble, depth, none"),
        ({"strength": 3.0}, "sd", "0 to 2"),
        ({"start": 0.5, "end": 0.5}, "sd", "not before its end"),
        ({"end": float("nan")}, "sd", "finite"),
        ({"image": np.zeros((4, 4), np.float32)}, "sd", "8-bit pixels"),
        ({"image": None}, "sd", "8-bit pixels"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(
    engine: Engine, folder: Path, change: dict[str, Any], model: str, said: str
) -> None:
    pickled = folder / "pickled"
    pickled.mkdir(exist_ok=True)
    shutil.copy(folder / "controlnets/sd-control/config.json", pickled)
    (pickled / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    (folder / "one.safetensors").write_bytes(b"x")
    for name, mark in (("control-lora", "lora_controlnet"), ("union", "task_embedding"), ("t2i", "adapter.body.0.x"), ("other", "a")):  # fmt: skip
        save_file({mark: torch.zeros(1)}, folder / f"{name}.safetensors")
    save_file(network("sdxl").state_dict(), folder / "xl-file.safetensors")
    change = {k: v.replace("ROOT", str(folder)) if k == "path" else v for k, v in change.items()}
    request = Generate(prompt="lake", model=model, steps=1, control=replace(spec("sd"), **change))
    with pytest.raises(StudioError, match=said) as caught:
        engine.validate(request)
    assert "\n" not in str(caught.value)
    assert isinstance(list(engine.run(request))[-1], Failed)


def test_samplers_of_the_score_take_none_and_other_proportions_are_said(engine: Engine) -> None:
    request = Generate(prompt="lake", model="sd", steps=5, sampler="sde", kind="plain", control=spec("sd"))  # fmt: skip
    with pytest.raises(StudioError, match="takes no ControlNet"):
        engine.validate(request)
    wide = spec("sd", image=np.zeros((32, 64, 3), np.uint8))
    warnings = engine.validate(Generate(prompt="lake", model="sd", steps=1, control=wide))
    assert any("stretched" in warning for warning in warnings)


def test_a_config_that_lies_is_refused_when_it_is_loaded(engine: Engine, folder: Path) -> None:
    liar = folder / "controlnets" / "liar"
    shutil.copytree(folder / "controlnets" / "xl-control", liar)
    config = json.loads((liar / "config.json").read_text())
    config |= {"addition_embed_type": None, "cross_attention_dim": 32}
    (liar / "config.json").write_text(json.dumps(config))
    request = Generate(prompt="lake", model="sd", steps=1, control=replace(spec("sd"), path="liar"))
    end = list(engine.run(request))[-1]
    shutil.rmtree(liar)
    assert isinstance(end, Failed) and "\n" not in end.message


def test_settings_tell_of_it_but_hold_no_picture(engine: Engine) -> None:
    control = spec("sd", kind="canny", strength=0.5)
    request = Generate(prompt="lake", model="sd", steps=1, seed=3, control=control)
    done = list(engine.run(request))[-1]
    assert isinstance(done, Done)
    said = done.settings["control"]
    assert said["path"] == "sd-control" and said["kind"] == "canny" and len(said["picture"]) == 16
    assert said == to_settings(request)["control"]
    json.dumps(done.settings)
    assert from_settings(done.settings).control is None
    assert "control" not in to_settings(Generate(prompt="lake"))
    assert "control" not in to_settings(Edit(task="inpaint", image=picture()))


def test_it_travels_to_engines_elsewhere() -> None:
    from lcm_studio.engine.remote import wire

    request = wire.unpack(wire.pack(Generate(prompt="lake", control=spec("sd", strength=0.5))))
    assert request.control.strength == 0.5
    assert np.array_equal(request.control.image, picture())
