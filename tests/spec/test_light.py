"""What every door speaks is light, frozen, and turns into JSON and back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from lcm_studio.spec.requests import Generate, LoraSpec
from lcm_studio.spec.settings import from_settings, to_settings

LIGHT = (
    "lcm_studio.spec.requests, lcm_studio.spec.events, lcm_studio.spec.models, "
    "lcm_studio.spec.settings, lcm_studio.spec.limits, lcm_studio.images, lcm_studio.engine, "
    "lcm_studio.models.catalog, lcm_studio.api, lcm_studio.device, lcm_studio.spec.samplers, "
    "lcm_studio.spec.lab, lcm_studio.lab"
)


def test_nothing_light_imports_torch() -> None:
    code = f"import sys, {LIGHT}; assert not {{'torch', 'diffusers', 'gradio'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_requests_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Generate().steps = 9  # type: ignore[misc]


def test_settings_survive_json() -> None:
    request = Generate(
        prompt="a\n“b”", negative="c", steps=2, guidance=None, seed=9, count=3, class_label=1,
        loras=(LoraSpec(path="x.safetensors", weight=-0.5),), timesteps=(9, 1), sampler="ddim",
        width=64,
    )  # fmt: skip
    assert from_settings(json.loads(json.dumps(to_settings(request)))) == request
