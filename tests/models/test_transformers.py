"""SANA-Sprint and the flow models against their stock pipelines, and zero-shot edits on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.load import LoadedModel, load_folder
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Edit, Generate, LoraSpec
from tests import tiny_flow
from tests.models.test_parity import BOUND, PROMPT, ours

# kind: (its folder's name, what stock is called with beside prompt, steps, size)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "flux": ("FLUX.1-schnell", {"guidance_scale": 0.0, "max_sequence_length": 256}),
    "flux-dev": ("some-flux", {"guidance_scale": 3.5, "max_sequence_length": 256}),
    "sd3": ("stable-diffusion-3.5-large-turbo", {"guidance_scale": 0.0}),
    "z-image": ("renamed", {"guidance_scale": 0.0}),
    "sana": ("no-name-at-all", {"guidance_scale": 4.5, "use_resolution_binning": False}),
}
NAMES = {
    "flux": "flux-schnell",
    "flux-dev": "flux-dev",
    "sd3": "sd3-turbo",
    "z-image": "z-image-turbo",
    "sana": "sana-sprint",
}
SIZE = {"width": 96, "height": 64}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flows")
    for kind, (name, _) in KINDS.items():
        tiny_flow.save(kind, root / name)
    return root


@pytest.fixture(scope="module")
def load(folders: Path) -> Any:
    loaded: dict[str, LoadedModel] = {}

    def get(kind: str) -> LoadedModel:
        if kind not in loaded:
            loaded[kind] = load_folder(folders / KINDS[kind][0], choose("cpu"))
        return loaded[kind]

    return get


def stock(kind: str, steps: int, seed: int, **more: Any) -> np.ndarray:
    settings = {**KINDS[kind][1], **more}
    if kind == "sana":
        settings["intermediate_timesteps"] = 1.3 if steps == 2 else None
    out = tiny_flow.pipeline(kind)(
        PROMPT.replace(",", " "),
        num_inference_steps=steps,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="np",
        **SIZE,
        **settings,
    )
    return np.asarray(out.images)


@pytest.mark.parametrize("kind", KINDS)
def test_as_stock(load: Any, kind: str) -> None:
    model = load(kind)
    assert model.info.sampling == NAMES[kind]
    for steps in (1, 2, 4, 8):
        mine = ours(model, prompt=PROMPT.replace(",", " "), steps=steps, seed=9, **SIZE)
        theirs = stock(kind, steps, 9)
        assert theirs.std() > 0.01
        assert np.abs(mine - theirs).max() <= BOUND, steps


@pytest.mark.parametrize("kind", ["sana", "flux-dev"])
def test_embedded_guidance_is_seen(load: Any, kind: str) -> None:
    one, other = (
        ours(load(kind), prompt="lake", steps=2, seed=9, guidance=g, **SIZE) for g in (1.0, 9.0)
    )
    assert np.abs(one - other).max() > 1e-5


def test_real_guidance_of_sd3(load: Any) -> None:
    mine = ours(
        load("sd3"), prompt=PROMPT.replace(",", " "), kind="sd3", steps=4, seed=9, guidance=4.5,
        negative="night sea", **SIZE,
    )  # fmt: skip
    theirs = stock("sd3", 4, 9, guidance_scale=4.5, negative_prompt="night sea")
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("kind", KINDS)
def test_edits_keep_the_known_part(folders: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:44] = 255
    name = KINDS[kind][0]
    with Engine(EngineConfig(models_dirs=(folders,), device="cpu")) as engine:
        painted = _done(engine, Edit(task="inpaint", image=image, mask=mask, model=name, steps=2))
        assert np.array_equal(painted[mask == 0], image[mask == 0])
        assert not np.array_equal(painted[mask > 0], image[mask > 0])
        small = image[:16, :16]
        large = _done(
            engine, Edit(task="superres", image=small, model=name, steps=2, options={"scale": 2})
        )
        means = large.reshape(16, 2, 16, 2, 3).mean((1, 3))
        assert np.abs(means - small).max() <= 1
        both = Edit(
            task="interpolate", image=image, image_b=image[::-1].copy(), model=name, steps=2,
            options={"frames": 3},
        )  # fmt: skip
        assert np.array_equal(_done(engine, both), image)


def _done(engine: Engine, request: Any) -> np.ndarray:
    end = list(engine.run(request))[-1]
    assert isinstance(end, Done), end
    return np.asarray(end.images[0])


def test_pictures_of_two_prompts_share_a_batch(load: Any) -> None:
    """Prompts of different lengths lie in one conditioning."""
    from lcm_studio.models.protocol import Cond, Prompt

    for kind in KINDS:
        model = load(kind)
        with torch.inference_mode():
            both = model.embed([Prompt(text="lake"), Prompt(text="the red house of the sea")])
            alone = model.embed([Prompt(text="lake")])
            x = torch.randn(2, *model.sample_shape(64, 48))
            level = model.schedule.level_tensor(model.levels()[300], 2)
            together = model.predict(x, level, both)[:1]
            single = model.predict(x[:1], level[:1], alone)
        assert isinstance(both, Cond)
        assert torch.allclose(together, single, atol=1e-4), kind


def test_a_lora_of_a_transformer(folders: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network = tiny_flow.pipeline("flux").transformer
    path = "transformer_blocks.0.attn.to_q"
    layer = network.get_submodule(path)
    torch.manual_seed(3)
    down, up = torch.randn(2, layer.in_features), torch.randn(layer.out_features, 2)
    save_file(
        {f"transformer.{path}.lora_A.weight": down, f"transformer.{path}.lora_B.weight": up},
        tmp_path / "style.safetensors",
    )
    request = Generate(
        prompt=PROMPT.replace(",", " "), model=KINDS["flux"][0], steps=2, seed=9, **SIZE,
        loras=(LoraSpec(path=str(tmp_path / "style.safetensors"), weight=0.5),),
    )  # fmt: skip
    with Engine(EngineConfig(models_dirs=(folders,), device="cpu")) as engine:
        mine = _done(engine, request) / 255
    before = layer.weight.detach().clone()
    try:
        with torch.no_grad():
            layer.weight += 0.5 * up @ down
        theirs = stock("flux", 2, 9)[0]
    finally:
        with torch.no_grad():
            layer.weight.copy_(before)
    assert np.abs(mine - theirs).max() <= BOUND
