"""Real guidance in the first steps only: as stock pipelines do it whose guidance is switched off after a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.kinds import kind_of
from lcm_studio.models.load import load_folder
from lcm_studio.sampling import plan
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Edit, Generate
from lcm_studio.spec.settings import from_settings, to_settings
from tests import tiny, tiny_flow
from tests.models.test_kinds import BASES, STOCK, load
from tests.models.test_parity import BOUND, PROMPT, ours

__all__ = ["load"]
NEGATIVE = "night sea"
CLOSE = BOUND / 10  # tiny random networks heed guidance little, the later the less


def off_after(guided: int) -> Any:
    """diffusers' callback that takes guidance away after so many steps."""

    def callback(pipe: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == guided:
            pipe._guidance_scale = 0.0
            return {name: value.chunk(2)[-1] for name, value in given.items()}
        return given

    return callback


def stock(kind: str, family: str, steps: int, guided: int) -> np.ndarray:
    pipe = tiny.pipeline(BASES[family])
    pipe.set_progress_bar_config(disable=True)
    before = pipe.scheduler
    pipe.scheduler = STOCK[kind][0](before.config)
    names = ["prompt_embeds", *(["add_text_embeds", "add_time_ids"] if family == "sdxl" else [])]
    try:
        out = pipe(
            PROMPT, num_inference_steps=steps, guidance_scale=20.0, negative_prompt=NEGATIVE,
            generator=torch.Generator("cpu").manual_seed(5), output_type="np",
            callback_on_step_end=off_after(guided), callback_on_step_end_tensor_inputs=names,
        )  # fmt: skip
    finally:
        pipe.scheduler = before
    return np.asarray(out.images)


@pytest.mark.parametrize(
    ("kind", "family", "guided"),
    [("lightning", "sdxl", 1), ("hyper-sd", "sd", 1), ("turbo", "sd", 2), ("lcm-lora", "sd", 1)],
)
def test_as_stock(load: Any, kind: str, family: str, guided: int) -> None:
    def mine(guided_steps: int | None, guidance: float | None = 20.0) -> np.ndarray:
        return ours(
            load(BASES[family]), prompt=PROMPT, negative=NEGATIVE, kind=kind, steps=4, seed=5,
            guidance=guidance, guided_steps=guided_steps,
        )  # fmt: skip

    assert np.abs(mine(guided) - stock(kind, family, 4, guided)).max() <= CLOSE
    assert np.abs(mine(guided) - mine(guided + 1)).max() > 4 * CLOSE
    plain = mine(None, None if kind_of(kind).guidance == "none" else 1.0)
    assert np.abs(mine(guided) - plain).max() > 4 * CLOSE


def test_steps_of_a_network_without_guidance_stay_single(load: Any) -> None:
    model = load("sd-15")
    request = Generate(
        prompt=PROMPT, kind="lightning", model="sd-15", steps=4, guided_steps=2, guidance=3.0
    )
    rows: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def predict(self, x_t: Any, t: Any, cond: Any) -> Any:
            rows.append(2 if cond.group[0] else 1)
            return model.predict(x_t, t, cond)

    from lcm_studio.engine.session import session
    from lcm_studio.sampling import drive

    with torch.inference_mode():
        drive(session(request, model, (3,), 1), Counting())
    assert rows == [2, 2, 1, 1]
    assert plan(request, model, 64, 64).prompt.guidance == 1.0


def test_a_transformer_without_guidance_takes_it(tmp_path: Path) -> None:
    model = load_folder(tiny_flow.save("z-image", tmp_path / "z-image"), choose("cpu"))
    request = {"prompt": PROMPT, "negative": "night", "steps": 2, "seed": 3}
    plain = ours(model, **request)
    first = ours(model, guided_steps=1, guidance=3.0, **request)
    both = ours(model, guided_steps=2, guidance=3.0, **request)
    assert np.abs(plain - first).max() > BOUND and np.abs(first - both).max() > BOUND


def test_edits_and_requests_beside_each_other(tiny_models: Path) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    common: dict[str, Any] = {
        "model": "sd-15", "kind": "hyper-sd", "prompt": PROMPT, "steps": 2, "seed": 3,
    }  # fmt: skip
    guided = {"guided_steps": 1, "guidance": 4.0, "negative": NEGATIVE}
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        requests = [
            request
            for more in ({}, guided)
            for request in (
                Generate(**common, **more),
                Edit(task="inpaint", image=image, mask=mask, options={"emphasis": 0.5}, **common, **more),
            )
        ]  # fmt: skip
        alone = [list(engine.run(request))[-1] for request in requests]
        for one in alone:
            assert isinstance(one, Done), one
        pictures = [one.images[0].astype(int) for one in alone if isinstance(one, Done)]
        assert np.abs(pictures[0] - pictures[2]).max() > 1
        assert np.abs(pictures[1] - pictures[3]).max() > 1
        edited = alone[3]
        assert isinstance(edited, Done) and edited.fidelity["max_error"] == 0
        assert edited.settings["guided_steps"] == 1 and edited.settings["guidance"] == 4.0
        assert not any("ignor" in warning for warning in edited.warnings)


def test_what_the_page_shows_of_it(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        plain = engine.info_as("sd-15", kind="lightning")
        assert plain.guidance == "none" and not plain.takes_negative and plain.takes_guided_steps
        guided = engine.info_as("sd-15", kind="lightning", guided_steps=1)
        assert guided.guidance == "cfg" and guided.takes_negative and guided.guidance_default == 2.0
        assert engine.info_as("lcm", guided_steps=1) == engine.info_as("lcm")
        request = Generate(model="lcm", guided_steps=1)
        with pytest.raises(BadRequest, match="input of its network"):
            engine.validate(request)
        with pytest.raises(BadRequest, match="takes no prompt"):
            engine.validate(Generate(model="cm", guided_steps=1))
        with pytest.raises(BadRequest, match="1 to 50"):
            engine.validate(Generate(model="sd-15", guided_steps=0))
        with pytest.raises(BadRequest, match="one guidance"):
            engine.validate(
                Generate(model="sd-15", guided_steps=1, sampler="sde", steps=5, kind="plain")
            )


def test_settings_bring_it_back() -> None:
    request = Generate(prompt="lake", kind="lightning", guided_steps=2, guidance=3.0)
    assert from_settings(to_settings(request)) == request
    assert "guided_steps" not in to_settings(Generate(prompt="lake"))
