"""Every row of the table of kinds against stock diffusers, with the scheduler that its card names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as d
import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.models.kinds import KINDS, Kind, kind_of
from lcm_studio.models.load import LoadedModel, load_folder
from tests import tiny
from tests.models.test_parity import BOUND, PROMPT, ours

Make = Callable[[Any], Any]
# kind: (the scheduler from the base model's config, what the pipeline is called with)
STOCK: dict[str, tuple[Make, dict[str, Any]]] = {
    "plain": (d.DDIMScheduler.from_config, {"guidance_scale": 5.0}),
    "plain-euler": (
        lambda c: d.EulerDiscreteScheduler.from_config(c, timestep_spacing="leading"),
        {"guidance_scale": 5.0},
    ),
    "lcm-lora": (d.LCMScheduler.from_config, {"guidance_scale": 1.5}),
    "tcd": (d.TCDScheduler.from_config, {"guidance_scale": 0.0, "eta": 0.3}),
    "hyper-sd-unified": (d.TCDScheduler.from_config, {"guidance_scale": 0.0, "eta": 1.0}),
    "hyper-sd-1": (d.LCMScheduler.from_config, {"guidance_scale": 0.0, "timesteps": [800]}),
    "hyper-sd-cfg": (
        lambda c: d.DDIMScheduler.from_config(c, timestep_spacing="trailing"),
        {"guidance_scale": 5.0, "negative_prompt": "night sea"},
    ),
    "hyper-sd": (
        lambda c: d.DDIMScheduler.from_config(c, timestep_spacing="trailing"),
        {"guidance_scale": 0.0},
    ),
    "pcm": (
        lambda c: d.DDIMScheduler.from_config(c, timestep_spacing="trailing"),
        {"guidance_scale": 2.0, "negative_prompt": "night sea"},
    ),
    "lightning-1": (
        lambda c: d.EulerDiscreteScheduler.from_config(
            c, timestep_spacing="trailing", prediction_type="sample"
        ),
        {"guidance_scale": 0.0},
    ),
    "lightning": (
        lambda c: d.EulerDiscreteScheduler.from_config(c, timestep_spacing="trailing"),
        {"guidance_scale": 0.0},
    ),
    "turbo": (
        lambda c: d.EulerAncestralDiscreteScheduler.from_config(c, timestep_spacing="trailing"),
        {"guidance_scale": 0.0},
    ),
    "dmd2-1": (d.LCMScheduler.from_config, {"guidance_scale": 0.0, "timesteps": [399]}),
    "dmd2": (
        d.LCMScheduler.from_config,
        {"guidance_scale": 0.0, "timesteps": [999, 749, 499, 249]},
    ),
}
BASES = {"sd": "sd-15", "sdxl": "sdxl-base"}
ROWS = [kind for kind in KINDS if set(kind.families) & set(BASES) and kind.name != "lcm"]


@pytest.fixture(scope="module")
def load(tiny_models: Path) -> Any:
    loaded: dict[str, LoadedModel] = {}

    def get(name: str) -> LoadedModel:
        if name not in loaded:
            loaded[name] = load_folder(tiny_models / name, choose("cpu"))
        return loaded[name]

    return get


def steps_of(kind: Kind) -> list[int]:
    if kind.levels:
        return [max(kind.levels)]
    return [n for n in (1, 2, 3, 4, 8) if n <= kind.most]


def stock(kind: Kind, family: str, steps: int, seed: int) -> np.ndarray:
    make, settings = STOCK[kind.name]
    pipe = tiny.pipeline(BASES[family])
    pipe.set_progress_bar_config(disable=True)
    before = pipe.scheduler
    pipe.scheduler = make(before.config)
    call = dict(settings) if "timesteps" in settings else {**settings, "num_inference_steps": steps}
    try:
        out = pipe(
            PROMPT,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            **call,
        )
    finally:
        pipe.scheduler = before
    return np.asarray(out.images)


def test_every_row_of_stable_diffusion_is_compared() -> None:
    assert {kind.name for kind in ROWS} == set(STOCK)


CASES = [(kind, family) for kind in ROWS for family in BASES if family in kind.families]


@pytest.mark.parametrize(("kind", "family"), CASES, ids=lambda x: getattr(x, "name", x))
def test_as_stock(load: Any, kind: Kind, family: str) -> None:
    settings = STOCK[kind.name][1]
    for steps in steps_of(kind):
        mine = ours(
            load(BASES[family]),
            prompt=PROMPT,
            kind=kind.name,
            steps=steps,
            seed=5,
            negative=settings.get("negative_prompt", ""),
            guidance=settings["guidance_scale"] or None,
        )
        theirs = stock(kind, family, steps, 5)
        assert theirs.std() > 0.02
        assert np.abs(mine - theirs).max() <= BOUND, (kind.name, steps)


def test_kinds_differ(load: Any) -> None:
    """The comparison would notice a kind that is sampled like another."""
    names = ("plain", "lcm-lora", "tcd", "hyper-sd", "turbo", "dmd2")
    pictures = [
        ours(load("sd-15"), prompt=PROMPT, kind=name, steps=4, seed=5, guidance=1.0)
        for name in names
    ]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).max() > BOUND


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_eta_of_tcd(load: Any, eta: float) -> None:
    pipe = tiny.pipeline("sd-15")
    before = pipe.scheduler
    pipe.scheduler = d.TCDScheduler.from_config(before.config)
    generator = torch.Generator("cpu").manual_seed(5)
    try:
        theirs = pipe(
            PROMPT, num_inference_steps=4, guidance_scale=0.0, eta=eta, generator=generator,
            output_type="np",
        ).images  # fmt: skip
    finally:
        pipe.scheduler = before
    mine = ours(load("sd-15"), prompt=PROMPT, kind="tcd", steps=4, seed=5, eta=eta)
    assert np.abs(mine - theirs).max() <= BOUND


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [3, 4, 7])
def test_ddim_with_every_spacing(load: Any, spacing: str, steps: int) -> None:
    """diffusers goes down by T // steps, whatever the next timestep is."""
    model = load("sd-plain")
    config = {**model.scheduler, "timestep_spacing": spacing}
    pipe = tiny.pipeline("sd-plain")
    before, kept = pipe.scheduler, model.scheduler
    pipe.scheduler = d.DDIMScheduler.from_config(config)
    model.scheduler = config
    generator = torch.Generator("cpu").manual_seed(2)
    try:
        theirs = pipe(
            PROMPT, num_inference_steps=steps, guidance_scale=5.0, generator=generator,
            output_type="np",
        ).images  # fmt: skip
        mine = ours(model, prompt=PROMPT, steps=steps, seed=2, guidance=5.0)
    finally:
        pipe.scheduler, model.scheduler = before, kept
    assert np.abs(mine - theirs).max() <= BOUND


def test_rows_name_what_a_user_must_know() -> None:
    for kind in KINDS:
        assert kind.title and kind.why and kind.stock and kind.families and kind.carriers
        assert kind_of(kind.name) is kind
        assert 1 <= kind.steps <= kind.most
        low, high = kind.guidance_range
        assert low <= kind.guidance_default <= high
        assert (kind.eta is not None) == (kind.way in ("tcd", "renoise") and kind.most > 1)


def test_without_a_class_each_seed_draws_its_own(load: Any) -> None:
    """Picture i of a batch stays that of seed + i, and not all are of class 0."""
    model = load("cm-class")
    batch = ours(model, steps=1, seed=3, count=4)
    for i in range(4):
        label = (3 + i) % 7
        alone = ours(model, steps=1, seed=3 + i, class_label=label)
        assert np.abs(batch[i] - alone[0]).max() < 1e-5
        assert np.abs(batch[i] - ours(model, steps=1, seed=3 + i, class_label=label - 1)).max() > 0
