"""The same seed gives the same picture as stock diffusers, for every family and step count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.engine.session import session as session_of
from lcm_studio.models.load import LoadedModel, load_folder
from lcm_studio.sampling import Decode, drive
from lcm_studio.spec.requests import Generate
from tests import tiny

STEPS = (1, 2, 4, 8)
PROMPT = "sunset, snowy mountains, lake"
BOUND = 1 / 255


@pytest.fixture(scope="module")
def load(tiny_models: Path) -> Any:
    loaded: dict[str, LoadedModel] = {}

    def get(kind: str) -> LoadedModel:
        if kind not in loaded:
            loaded[kind] = load_folder(tiny_models / kind, choose("cpu"))
        return loaded[kind]

    return get


def ours(model: LoadedModel, *, rows: int = 16, **settings: Any) -> np.ndarray:
    """Float pictures `(B, H, W, 3)` in [0, 1], before rounding."""
    request = Generate(**settings)
    seeds = tuple(request.seed + i for i in range(request.count))
    decoded: list[torch.Tensor] = []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            decoded.append(model.decode(latents))
            return decoded[-1]

    with torch.inference_mode():
        drive(session_of(request, model, seeds, rows), Recorder())
    unit = (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)
    return unit.permute(0, 2, 3, 1).numpy()


def stock(kind: str, steps: int, seed: int, **extra: Any) -> np.ndarray:
    pipe = tiny.pipeline(kind)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(seed)
    if not kind.startswith("cm"):
        extra.setdefault("prompt", PROMPT)
    out = pipe(num_inference_steps=steps, generator=generator, output_type="np", **extra)
    return np.asarray(out.images)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", ["lcm", "lcm-v"])
def test_w_embedded_lcm(load: Any, kind: str, steps: int) -> None:
    mine = ours(load(kind), prompt=PROMPT, steps=steps, seed=7, guidance=8.0)
    theirs = stock(kind, steps, 7, guidance_scale=8.0)
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("guidance", "negative"), [(1.0, ""), (1.5, ""), (2.0, "night sea")])
def test_cfg_stable_diffusion(load: Any, steps: int, guidance: float, negative: str) -> None:
    mine = ours(
        load("sd"), prompt=PROMPT, steps=steps, seed=3, guidance=guidance, negative=negative
    )
    theirs = stock("sd", steps, 3, guidance_scale=guidance, negative_prompt=negative or None)
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("guidance", "negative"), [(1.0, ""), (1.8, ""), (1.8, "night sea")])
def test_sdxl(load: Any, steps: int, guidance: float, negative: str) -> None:
    mine = ours(
        load("sdxl"), prompt=PROMPT, steps=steps, seed=3, guidance=guidance, negative=negative,
        width=72, height=56,
    )  # fmt: skip
    theirs = stock(
        "sdxl", steps, 3, guidance_scale=guidance, negative_prompt=negative or None,
        width=72, height=56,
    )  # fmt: skip
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("guidance", "size"), [(1.0, (64, 64)), (8.0, (72, 56)), (14.5, (64, 64))])
def test_w_embedded_sdxl(load: Any, steps: int, guidance: float, size: tuple[int, int]) -> None:
    model = load("sdxl-lcm")
    assert (model.info.kind, model.info.guidance, model.info.consistency) == (
        "sdxl",
        "embedded",
        True,
    )
    assert model.info.guidance_default == 8.0 and not model.info.takes_negative
    place = {"width": size[0], "height": size[1]}
    mine = ours(model, prompt=PROMPT, steps=steps, seed=3, guidance=guidance, **place)
    theirs = stock("sdxl-lcm", steps, 3, guidance_scale=guidance, **place)
    assert np.abs(mine - theirs).max() <= BOUND


def test_w_of_sdxl_is_seen(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights are not much moved by w: the bound of the test above must still tell."""
    model = load("sdxl-lcm")
    settings: dict[str, Any] = {"prompt": PROMPT, "steps": 4, "seed": 3}
    theirs = stock("sdxl-lcm", 4, 3, guidance_scale=8.0)
    assert np.abs(ours(model, guidance=2.0, **settings) - theirs).max() > BOUND
    monkeypatch.setattr(model, "_w_dim", None)
    assert np.abs(ours(model, guidance=8.0, **settings) - theirs).max() > BOUND


def test_a_negative_prompt_changes_nothing_of_a_w_embedded_model(load: Any) -> None:
    settings: dict[str, Any] = {"prompt": PROMPT, "steps": 2, "seed": 3, "guidance": 8.0}
    for kind in ("lcm", "sdxl-lcm"):
        plain = ours(load(kind), **settings)
        assert np.array_equal(plain, ours(load(kind), negative="night sea", **settings))


@pytest.mark.parametrize("steps", STEPS)
def test_pixel_consistency_model(load: Any, steps: int) -> None:
    assert np.abs(ours(load("cm"), steps=steps, seed=5) - stock("cm", steps, 5)).max() <= BOUND


@pytest.mark.parametrize("steps", STEPS)
def test_class_conditional(load: Any, steps: int) -> None:
    mine = ours(load("cm-class"), steps=steps, seed=5, class_label=4)
    theirs = stock("cm-class", steps, 5, class_labels=4)
    assert np.abs(mine - theirs).max() <= BOUND
    assert np.abs(mine - ours(load("cm-class"), steps=steps, seed=5, class_label=3)).max() > 0


def test_explicit_timesteps_of_both_families(load: Any) -> None:
    mine = ours(load("lcm"), prompt=PROMPT, timesteps=(999, 499, 259), seed=1, guidance=8.0)
    pipe = tiny.pipeline("lcm")
    generator = torch.Generator("cpu").manual_seed(1)
    theirs = pipe(
        PROMPT, timesteps=[999, 499, 259], num_inference_steps=None, generator=generator,
        guidance_scale=8.0, output_type="np",
    ).images  # fmt: skip
    assert np.abs(mine - theirs).max() <= BOUND
    mine = ours(load("cm"), timesteps=(22, 0), seed=1)
    generator = torch.Generator("cpu").manual_seed(1)
    theirs = tiny.pipeline("cm")(
        timesteps=[22, 0], num_inference_steps=None, generator=generator, output_type="np"
    ).images
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("steps", [5, 20])
def test_plain_diffusion_model_is_ddim(load: Any, steps: int) -> None:
    mine = ours(load("sd-plain"), prompt=PROMPT, steps=steps, seed=2, guidance=5.0)
    theirs = stock("sd-plain", steps, 2, guidance_scale=5.0)
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("kind", ["lcm", "lcm-v", "sd", "sdxl", "sdxl-lcm", "cm"])
@pytest.mark.parametrize("rows", [2, 16])
def test_image_i_of_a_batch_is_seed_plus_i_alone(load: Any, kind: str, rows: int) -> None:
    settings: dict[str, Any] = {"steps": 4, "guidance": None if kind == "cm" else 1.7}
    if kind != "cm":
        settings["prompt"] = PROMPT
    batch = ours(load(kind), rows=rows, seed=11, count=5, **settings)
    for i in range(5):
        alone = ours(load(kind), seed=11 + i, **settings)
        assert np.abs(batch[i] - alone[0]).max() <= BOUND


def test_a_broken_scaling_is_noticed(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("lcm")
    monkeypatch.setattr(model, "_w_dim", None)  # the guidance embedding left out
    mine = ours(model, prompt=PROMPT, steps=4, seed=7, guidance=8.0)
    assert np.abs(mine - stock("lcm", 4, 7, guidance_scale=8.0)).max() > BOUND


def test_decode_is_asked_once_per_group(load: Any) -> None:
    asks: list[Any] = []
    request = Generate(prompt=PROMPT, count=5, steps=1)
    session = session_of(request, load("lcm"), (0, 1, 2, 3, 4), 2)
    with torch.inference_mode():
        drive(session, load("lcm"), on_ask=asks.append)
    assert sum(isinstance(ask, Decode) for ask in asks) == 3
