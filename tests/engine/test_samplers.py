"""Every sampler through the same request, on the real engine: latent VP models and a pixel-space EDM model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.events import Done, Failed, Step, Stopped
from lcm_studio.spec.requests import Generate, LoraSpec
from lcm_studio.spec.samplers import SAMPLERS, misfit
from lcm_studio.spec.settings import from_settings

SCORED = [name for name, row in SAMPLERS.items() if row.score]


@pytest.fixture(scope="module")
def engine(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With `edm`, a pixel-space diffusion model as the trainer writes it, beside the tiny ones."""
    folder = tmp_path_factory.mktemp("edm")
    shutil.copytree(tiny_models / "cm", folder / "edm")
    (folder / "edm" / "studio.json").write_text('{"consistency": false, "steps": 18}')
    config = EngineConfig(models_dirs=(tiny_models, folder), device="cpu", keep=4)
    with Engine(config) as engine:
        yield engine


def run(engine: Engine, **settings: Any) -> Any:
    return list(engine.run(Generate(**{"prompt": "sunset", "steps": 12, "seed": 3, **settings})))


@pytest.mark.parametrize("model", ["sd-plain", "edm"])
@pytest.mark.parametrize("sampler", SCORED)
def test_every_sampler_makes_pictures_that_repeat(engine: Engine, model: str, sampler: str) -> None:
    events = run(engine, model=model, sampler=sampler, count=2)
    done = events[-1]
    assert isinstance(done, Done), done
    assert done.timing["evaluations"] <= 2 * 12
    steps = [e for e in events if isinstance(e, Step)]
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    again = list(engine.run(from_settings(json.loads(json.dumps(done.settings)))))[-1]
    alone = run(engine, model=model, sampler=sampler, seed=4)[-1]
    for one, other in zip(done.images, again.images, strict=True):
        assert np.array_equal(one, other)
    assert np.abs(done.images[1].astype(int) - alone.images[0].astype(int)).max() <= 1


def test_euler_is_ddim_on_a_real_model(engine: Engine) -> None:
    for model, guidance in (("sd-plain", 5.0), ("sd-plain", 1.0), ("edm", None)):
        euler, ddim = (
            run(engine, model=model, sampler=name, guidance=guidance)[-1].images[0].astype(int)
            for name in ("ode-euler", "ddim")
        )
        assert np.abs(euler - ddim).max() <= 1


def test_samplers_of_different_people_share_calls_and_keep_their_pictures(engine: Engine) -> None:
    requests: list[dict[str, Any]] = [
        {"model": "sd-plain", "sampler": s} for s in ("rk45", "pc", "dpmpp", "ddim")
    ]
    alone = [run(engine, **r)[-1].images[0].astype(int) for r in requests]
    lane = engine.lane("sd-plain")
    before = lane.calls
    with ThreadPoolExecutor(4) as pool:
        together = [
            e[-1].images[0].astype(int) for e in pool.map(lambda r: run(engine, **r), requests)
        ]
    assert lane.calls - before < 4 * 13
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 2  # sums of other batches round otherwise


def test_settings_of_a_sampler_have_an_effect(engine: Engine) -> None:
    common: dict[str, Any] = {"model": "sd-plain", "sampler": "ode-heun"}
    karras, even = (
        run(engine, **common, sampler_settings={"spacing": s})[-1].images[0]
        for s in ("karras", "log-snr")
    )
    assert not np.array_equal(karras, even)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"model": "lcm", "sampler": "rk45"}, "consistency model"),
        ({"model": "cm", "sampler": "sde"}, "consistency model"),
        ({"model": "sd", "sampler": "langevin"}, "consistency model"),
        ({"model": "sd-plain", "sampler": "rk45", "steps": 5}, "at least 10 evaluations"),
        ({"model": "sd-plain", "sampler": "rk45", "steps": 2000}, "out of range"),
        (
            {"model": "sd-plain", "sampler": "rk45", "sampler_settings": {"tolerance": 0}},
            "tolerance",
        ),
        ({"model": "sd-plain", "sampler": "ddim", "sampler_settings": {"eta": 1}}, "eta"),
        ({"model": "sd-plain", "sampler_settings": {"tolerance": 0.1}}, "auto"),
        ({"model": "sd-plain", "sampler": "runge"}, "rk45"),
        ({"model": "sd-plain", "sampler": "rk45", "timesteps": (999, 1)}, "leave timesteps out"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    engine: Engine, wrong: dict[str, Any], word: str
) -> None:
    failed = run(engine, **wrong)[-1]
    assert isinstance(failed, Failed)
    assert word in failed.message
    assert "report this" not in failed.message


def test_an_lcm_lora_gives_no_score(engine: Engine) -> None:
    info = engine.info("sd-plain")
    assert misfit("pc", info) == ""
    assert misfit("pc", info, consistency=True)
    assert LoraSpec(path="x").weight == 1


def test_own_timesteps_decide_the_evaluations(engine: Engine) -> None:
    done = run(engine, model="sd-plain", sampler="ode-heun", timesteps=(900, 500, 100), steps=3)[-1]
    assert done.timing["evaluations"] == 5


def test_stop_ends_within_one_step(engine: Engine) -> None:
    seen = 0

    def cancelled() -> bool:
        return seen >= 2

    request = Generate(model="sd-plain", sampler="langevin", steps=500)
    for event in engine.run(request, cancelled):
        seen += isinstance(event, Step)
    assert isinstance(event, Stopped)
    assert seen < 10
