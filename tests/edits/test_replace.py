"""Inpainting by replacement: any sampler, the same exact known part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import Predict, drive, grid_for, steps_of
from lcm_studio.sampling.replaced import replaced
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Edit
from tests.sampling.exact import Draws, Mixture


@pytest.mark.parametrize("sampler", ["langevin", "ancestral", "ode-euler"])
def test_the_network_sees_the_known_part_at_each_level_and_gives_it_back(sampler: str) -> None:
    schedule = KarrasSchedule(sigma_max=20.0)
    model, shape = Mixture(schedule), (2, 1, 32, 32)
    known = torch.full(shape, 0.8, dtype=torch.float64)
    keep = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    keep[..., :16] = 1
    levels = grid_for(sampler, schedule, evaluations=40)
    noise, start = Draws(shape, seed=1), schedule.prior(Draws(shape, seed=2).draw())
    steps = steps_of(
        sampler, start, levels, Cond(batch=2), schedule=schedule, noise=noise, evaluations=40
    )
    asks: list[Any] = []
    fresh = Draws(shape, seed=3)
    out = drive(
        replaced(steps, known, keep, schedule=schedule, noise=fresh), model, on_ask=asks.append
    )
    seen = [a for a in asks if isinstance(a, Predict)]
    for ask in seen:
        spread = (ask.x_t - 0.8)[..., :16].std().item()
        assert spread == pytest.approx(float(ask.t[0]), rel=0.1)
    assert torch.equal(out[..., :16], known[..., :16])
    again = drive(
        steps_of(
            sampler, start, levels, Cond(batch=2), schedule=schedule, noise=Draws(shape, seed=1), evaluations=40
        ),
        model,
    )  # fmt: skip
    # the data's numbers are independent of each other, so the unknown half is that of no inpainting at all
    assert torch.allclose(out[..., 16:], again[..., 16:])


def test_edits_by_replacement_keep_the_known_part_exactly(tiny_models: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 20:44] = 255
    common: dict[str, Any] = {
        "task": "inpaint",
        "image": image,
        "mask": mask,
        "prompt": "sunset",
        "seed": 2,
    }
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu", keep=2)) as engine:
        for model, sampler in (
            ("sd-plain", "pc"),
            ("sd-plain", "ddim"),
            ("lcm", "consistency"),
            ("lcm", "auto"),
        ):
            request = Edit(
                **common, model=model, sampler=sampler, steps=5, options={"method": "replace"}
            )  # type: ignore[arg-type]
            done = list(engine.run(request))[-1]
            assert isinstance(done, Done), done
            assert np.array_equal(done.images[0][mask == 0], image[mask == 0])
            assert not np.array_equal(done.images[0], image)
        grey = {**common, "task": "colorize", "mask": None}
        wrong = [
            Edit(**common, model="sd-plain", sampler="pc", steps=5),
            Edit(**grey, model="lcm", steps=4, options={"method": "replace"}),
        ]
        for request in wrong:
            failed = list(engine.run(request))[-1]
            assert isinstance(failed, Failed)
            assert "mask" in failed.message
