"""IP-Adapters: the picture of the stock pipeline at the same seed, beside other requests, and clear refusals."""

from __future__ import annotations

import json
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
from lcm_studio.models.load import load_folder
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import ControlSpec, Generate, IPAdapterSpec, LoraSpec
from lcm_studio.spec.settings import from_settings, to_settings
from tests import tiny
from tests.models.test_control import network, picture
from tests.models.test_parity import BOUND, PROMPT, ours

HIDDEN, PROJECTED = 40, 24  # of the tiny image encoder


def image_encoder(hidden: int = HIDDEN) -> Any:
    """A random CLIP image encoder with a projection."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(21)
    config = CLIPVisionConfig(
        hidden_size=hidden, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, image_size=24,
        patch_size=8, projection_dim=PROJECTED,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def weights(model: str, kind: str = "standard") -> dict[str, torch.Tensor]:
    """A random adapter of the tiny UNet in the layout of the published files."""
    torch.manual_seed(22)
    unet = tiny.pipeline(model).unet
    width = unet.config.cross_attention_dim
    image = dict(_projections(width)[kind])
    layers = {}
    names = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    for i, name in enumerate(names):
        rows = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for part, gain in (("k", 1.0), ("v", 24.0)):  # so that it shows in every picture
            layers[f"{2 * i + 1}.to_{part}_ip.weight"] = (
                gain * torch.randn(rows, width) / width**0.5
            )
    return {f"image_proj.{k}": v for k, v in image.items()} | {
        f"ip_adapter.{k}": v for k, v in layers.items()
    }


def _projections(width: int) -> dict[str, dict[str, torch.Tensor]]:
    inner = 64  # one head
    plus = {
        "latents": torch.randn(1, 5, inner), "proj_in.weight": torch.randn(inner, HIDDEN) / 6, "proj_in.bias": torch.randn(inner),
        "proj_out.weight": torch.randn(width, inner) / 8, "proj_out.bias": torch.randn(width),
        "norm_out.weight": torch.ones(width), "norm_out.bias": torch.zeros(width),
    }  # fmt: skip
    for i in range(4):
        at, ff = f"layers.{i}.0", f"layers.{i}.1"
        plus |= {f"{at}.{n}.weight": torch.ones(inner) for n in ("norm1", "norm2")}
        plus |= {f"{at}.{n}.bias": torch.zeros(inner) for n in ("norm1", "norm2")}
        plus |= {
            f"{at}.to_q.weight": torch.randn(inner, inner) / 8, f"{at}.to_kv.weight": torch.randn(2 * inner, inner) / 8,
            f"{at}.to_out.weight": torch.randn(inner, inner) / 8, f"{ff}.0.weight": torch.ones(inner),
            f"{ff}.0.bias": torch.zeros(inner), f"{ff}.1.weight": torch.randn(4 * inner, inner) / 8,
            f"{ff}.3.weight": torch.randn(inner, 4 * inner) / 16,
        }  # fmt: skip
    full = {
        "proj.0.weight": torch.randn(HIDDEN, HIDDEN) / 6, "proj.0.bias": torch.randn(HIDDEN),
        "proj.2.weight": torch.randn(width, HIDDEN) / 6, "proj.2.bias": torch.randn(width),
        "proj.3.weight": torch.ones(width), "proj.3.bias": torch.zeros(width),
    }  # fmt: skip
    standard = {
        "proj.weight": torch.randn(4 * width, PROJECTED) / 5, "proj.bias": torch.randn(4 * width),
        "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width),
    }  # fmt: skip
    return {"standard": standard, "plus": plus, "full": full}


FILES = {"sd": "ip-sd", "lcm": "ip-sd", "sdxl": "ip-sdxl"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("sd", "lcm", "sdxl", "cm"):
        tiny.save(kind, root / kind)
    # as the published repository has it: one encoder beside the adapters, found from the other folder too
    base = root / "ip_adapters" / "IP-Adapter"
    image_encoder().save_pretrained(base / "models" / "image_encoder")
    for name, model, kind in (
        ("models/ip-sd", "sd", "standard"),
        ("models/ip-sd-plus", "sd", "plus"),
        ("models/ip-sd-full", "sd", "full"),
        ("sdxl_models/ip-sdxl", "sdxl", "standard"),
        ("sdxl_models/ip-sdxl-plus", "sdxl", "plus"),
    ):
        (base / name).parent.mkdir(exist_ok=True)
        save_file(weights(model, kind), base / f"{name}.safetensors")
    network("sd").save_pretrained(root / "controlnets" / "sd-control")
    return root


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    with Engine(EngineConfig(models_dirs=(folder,), device="cpu", keep=4)) as engine:
        yield engine


def spec(model: str, kind: str = "", **more: Any) -> IPAdapterSpec:
    return IPAdapterSpec(path=FILES[model] + kind, **{"image": picture(), **more})


def mine(engine: Engine, folder: Path, kind: str, adapter: IPAdapterSpec, **settings: Any) -> Any:
    model: Any = load_folder(folder / kind, choose("cpu"))
    request = Generate(model=kind, ip_adapter=adapter, prompt=PROMPT, **settings)
    resolved = engine.resolved(request)[0]
    model.use(
        ip_adapter=resolved.ip_adapter.found,
        control="" if resolved.control is None else resolved.control.found,
    )
    return ours(model, prompt=PROMPT, seed=3, ip_adapter=adapter, **settings)


def stock(
    folder: Path, model: str, name: str, strength: float, start: float, end: float, steps: int, **call: Any
) -> np.ndarray:  # fmt: skip
    import diffusers as d

    base = folder / "ip_adapters" / "IP-Adapter"
    sub = "sdxl_models" if model == "sdxl" else "models"
    pipe = {"sd": d.StableDiffusionPipeline, "sdxl": d.StableDiffusionXLPipeline}[model].from_pretrained(folder / model)  # fmt: skip
    pipe.load_ip_adapter(
        str(base), subfolder=sub, weight_name=f"{name}.safetensors", image_encoder_folder="models/image_encoder"
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)

    def hold(k: int) -> None:
        inside = k / steps >= start and (k + 1) / steps <= end
        pipe.set_ip_adapter_scale(strength if inside else 0.0)

    def after(pipe: Any, k: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        hold(k + 1)
        return values

    hold(0)
    out = pipe(
        PROMPT, ip_adapter_image=Image.fromarray(picture()), generator=torch.Generator("cpu").manual_seed(3),
        output_type="np", num_inference_steps=steps, callback_on_step_end=after, **call,
    )  # fmt: skip
    return np.asarray(out.images)


@pytest.mark.parametrize(
    ("model", "kind", "guidance", "strength", "start", "end"),
    [
        ("sd", "", 1.0, 1.0, 0.0, 1.0),
        ("sd", "", 3.0, 0.6, 0.25, 0.75),
        ("sd", "-plus", 3.0, 0.8, 0.0, 0.5),
        ("sd", "-full", 3.0, 1.0, 0.0, 1.0),
        ("sdxl", "", 3.0, 0.7, 0.0, 1.0),
        ("sdxl", "-plus", 1.0, 1.0, 0.0, 0.5),
    ],
)
def test_as_stock(
    engine: Engine, folder: Path, model: str, kind: str, guidance: float, strength: float, start: float, end: float
) -> None:  # fmt: skip
    adapter = spec(model, kind, strength=strength, start=start, end=end)
    negative = "night" if guidance > 1 else ""
    common = {"steps": 4, "guidance": guidance, "negative": negative}
    got = mine(engine, folder, model, adapter, **common)
    theirs = stock(
        folder, model, adapter.path, strength, start, end, 4, guidance_scale=guidance,
        negative_prompt=negative or None,
    )  # fmt: skip
    assert np.abs(got - theirs).max() <= BOUND
    without = mine(engine, folder, model, replace(adapter, strength=0.0), **common)
    assert np.abs(got - without).max() > BOUND


def test_requests_with_other_pictures_run_beside_each_other(engine: Engine, tmp_path: Path) -> None:
    """Beside a ControlNet and a LoRA too, and the network is afterwards as it was."""
    target = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    save_file(
        {f"unet.{target}.lora_A.weight": torch.ones(2, 32), f"unet.{target}.lora_B.weight": torch.ones(32, 2)},
        tmp_path / "lora.safetensors",
    )  # fmt: skip
    base = Generate(prompt=PROMPT, model="sd", steps=3, guidance=2.0)
    control = ControlSpec(path="sd-control", image=picture())
    requests = [
        base,
        replace(base, ip_adapter=spec("sd")),
        replace(base, ip_adapter=spec("sd", strength=0.4), seed=1),
        replace(base, ip_adapter=spec("sd", image=255 - picture(), end=0.4), count=2),
        replace(base, ip_adapter=spec("sd"), guided_steps=1),
        replace(base, ip_adapter=spec("sd", "-plus"), control=control),
        replace(base, ip_adapter=spec("sd"), loras=(LoraSpec(path=str(tmp_path / "lora.safetensors")),)),
    ]  # fmt: skip
    alone = [list(engine.run(request))[-1] for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        beside = list(pool.map(lambda request: list(engine.run(request))[-1], requests))
    shown = []
    for one, other in zip(alone, beside, strict=True):
        assert isinstance(one, Done) and isinstance(other, Done), (one, other)
        for a, b in zip(one.images, other.images, strict=True):
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
        shown.append(one.images[0].astype(int))
    assert all(np.abs(a - shown[0]).max() > 1 for a in shown[1:])


def test_a_consistency_model_that_takes_guidance_as_an_input_follows_it_too(
    engine: Engine,
) -> None:
    base = Generate(prompt=PROMPT, model="lcm", steps=2, seed=1)
    ends = [list(engine.run(replace(base, ip_adapter=a)))[-1] for a in (None, spec("lcm"))]
    assert all(isinstance(end, Done) for end in ends), ends
    assert np.abs(ends[0].images[0].astype(int) - ends[1].images[0].astype(int)).max() > 1


def test_names_that_fit(engine: Engine) -> None:
    assert engine.ip_adapters("sd") == engine.ip_adapters("lcm") == ("ip-sd", "ip-sd-full", "ip-sd-plus")  # fmt: skip
    assert engine.ip_adapters("sdxl") == ("ip-sdxl", "ip-sdxl-plus")
    assert engine.ip_adapters("cm") == ()


def face_id(kind: str) -> dict[str, torch.Tensor]:
    state = weights("sd")
    if kind == "lora":
        return state | {"ip_adapter.0.to_k_lora.down.weight": torch.zeros(2, 2)}
    layers = {k: v for k, v in state.items() if k.startswith("ip_adapter.")}
    if kind == "plus":
        return layers | {"image_proj.perceiver_resampler.proj_in.weight": torch.zeros(2, 2)}
    return layers | {
        "image_proj.proj.0.weight": torch.zeros(8, 4),
        "image_proj.proj.2.weight": torch.zeros(8, 8),
        "image_proj.norm.weight": torch.ones(32),
    }


def fewer_layers() -> dict[str, torch.Tensor]:
    return {k: v for k, v in weights("sd").items() if not k.startswith("ip_adapter.1.")}


def wider_layers() -> dict[str, torch.Tensor]:
    return {
        k: v.repeat(2, 1) if k.startswith("ip_adapter.1.") else v for k, v in weights("sd").items()
    }


@pytest.fixture(scope="module")
def wrong(folder: Path) -> Path:
    """Files that are none, or none for `sd`."""
    out = folder / "wrong"
    out.mkdir()
    for kind in ("lora", "plus", "plain"):
        save_file(face_id(kind), out / f"faceid-{kind}.safetensors")
    save_file(fewer_layers(), out / "fewer.safetensors")
    save_file(wider_layers(), out / "wider.safetensors")
    save_file({"a": torch.zeros(1)}, out / "other.safetensors")
    save_file({k: v for k, v in weights("sd").items() if "image_proj.proj." not in k and "norm" not in k} | {"image_proj.x": torch.zeros(1)}, out / "odd.safetensors")  # fmt: skip
    (out / "pickle.bin").write_bytes(b"\x80\x04")
    (out / "cut.safetensors").write_bytes(b"x" * 40)
    image_encoder(48).save_pretrained(out / "bigger")
    return out


@pytest.mark.parametrize(
    ("change", "model", "said"),
    [
        ({"path": "nothing"}, "sd", "'nothing' is unknown.*for this model: ip-sd, ip-sd-full"),
        ({"path": "ip-sdxl"}, "sd", "text features of width 64 .*and sd has 32"),
        ({"path": "ip-sd"}, "sdxl", "text features of width 32 .*and sdxl has 64"),
        ({"path": "ROOT/faceid-lora.safetensors"}, "sd", "FaceID adapter"),
        ({"path": "ROOT/faceid-plus.safetensors"}, "sd", "FaceID adapter"),
        ({"path": "ROOT/faceid-plain.safetensors"}, "sd", "FaceID adapter"),
        ({"path": "ROOT/other.safetensors"}, "sd", "is no IP-Adapter"),
        ({"path": "ROOT/odd.safetensors"}, "sd", "of a known kind"),
        ({"path": "ROOT/pickle.bin"}, "sd", "pickled weights"),
        ({"path": "ROOT/cut.safetensors"}, "sd", "not a whole safetensors"),
        ({"path": "ROOT"}, "sd", "is a folder"),
        ({"encoder": "ROOT/bigger"}, "sd", "", ),
        ({"path": "ip-sd-plus", "encoder": "ROOT/bigger"}, "sd", "reads an image encoder of width 40"),
        ({"encoder": "ROOT/nowhere"}, "sd", "is no folder"),
        ({"encoder": "ROOT/../sd/unet"}, "sd", "no CLIP image encoder"),
        ({}, "cm", "cm takes no IP-Adapter"),
        ({"path": ""}, "sd", "no IP-Adapter is named"),
        ({"strength": 3.0}, "sd", "0 to 2"),
        ({"start": 0.5, "end": 0.5}, "sd", "not before its end"),
        ({"image": np.zeros((4, 4), np.float32)}, "sd", "8-bit pixels"),
        ({"encoder": 3}, "sd", "image encoder must be"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(
    engine: Engine, wrong: Path, change: dict[str, Any], model: str, said: str
) -> None:
    change = {k: v.replace("ROOT", str(wrong)) if isinstance(v, str) else v for k, v in change.items()}  # fmt: skip
    adapter = replace(spec("sd"), **change)
    request = Generate(prompt="lake", model=model, steps=1, ip_adapter=adapter)
    if not said:  # another encoder of the width that this kind reads
        engine.validate(request)
        return
    with pytest.raises(StudioError, match=said) as caught:
        engine.validate(request)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fewer", "wider"])
def test_what_only_its_network_shows_is_refused_when_it_is_loaded(
    engine: Engine, wrong: Path, folder: Path, name: str
) -> None:
    encoder = folder / "ip_adapters/IP-Adapter/models/image_encoder"
    adapter = spec("sd", encoder=str(encoder))
    request = Generate(
        prompt="lake", model="sd", steps=1, ip_adapter=replace(adapter, path=str(wrong / f"{name}.safetensors"))
    )  # fmt: skip
    end = list(engine.run(request))[-1]
    assert isinstance(end, Failed) and "cross-attention layers" in end.message
    assert isinstance(list(engine.run(replace(request, ip_adapter=None)))[-1], Done)


def test_an_adapter_whose_encoder_is_missing_says_which_it_wants(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "alone").mkdir()
    save_file(weights("sd"), tmp_path / "alone" / "a.safetensors")
    own = replace(spec("sd"), path=str(tmp_path / "alone" / "a.safetensors"))
    # the folder ip_adapters of the models has one that fits
    engine.validate(Generate(prompt="lake", model="sd", ip_adapter=own))
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as bare:
        tiny.save("sd", tmp_path / "sd")
        with pytest.raises(StudioError, match="reads a CLIP image encoder of width 24, and none"):
            bare.validate(Generate(prompt="lake", model="sd", ip_adapter=own))
        image_encoder().save_pretrained(tmp_path / "sd" / "image_encoder")  # the model's own
        bare.validate(Generate(prompt="lake", model="sd", ip_adapter=own))


def test_settings_tell_of_it_but_hold_no_picture(engine: Engine) -> None:
    request = Generate(prompt="lake", model="sd", steps=1, seed=3, ip_adapter=spec("sd", end=0.5))
    done = list(engine.run(request))[-1]
    assert isinstance(done, Done)
    told = done.settings["ip_adapter"]
    assert (told["path"], told["end"], len(told["picture"])) == ("ip-sd", 0.5, 16)
    assert told == to_settings(request)["ip_adapter"]
    json.dumps(done.settings)
    assert from_settings(done.settings).ip_adapter is None
    assert "ip_adapter" not in to_settings(Generate(prompt="lake"))


def test_samplers_of_the_score_hold_it_in_all_their_steps(engine: Engine) -> None:
    request = Generate(
        prompt="lake", model="sd", steps=5, sampler="sde", kind="plain", ip_adapter=spec("sd")
    )
    ends = [list(engine.run(replace(request, ip_adapter=a)))[-1] for a in (None, spec("sd"))]
    assert all(isinstance(end, Done) for end in ends), ends
    assert np.abs(ends[0].images[0].astype(int) - ends[1].images[0].astype(int)).max() > 1
    with pytest.raises(StudioError, match="holds all its steps"):
        engine.validate(replace(request, ip_adapter=spec("sd", end=0.5)))


def test_it_travels_to_engines_elsewhere() -> None:
    from lcm_studio.engine.remote import wire

    adapter = spec("sd", strength=0.5, found=("a", "b"))
    request = wire.unpack(wire.pack(Generate(prompt="lake", ip_adapter=adapter)))
    assert (request.ip_adapter.strength, request.ip_adapter.found) == (0.5, ("a", "b"))
    assert np.array_equal(request.ip_adapter.image, picture())
