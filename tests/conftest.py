"""Shared fixtures: offline, two threads, deterministic."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("studio", deadline=None)
settings.load_profile("studio")

settings.register_profile("repeatable", derandomize=True)  # one that fails here fails everywhere
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The folder of the models that ship with the project."""
    return ROOT / "assets" / "models"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny random models of every kind (see tests/tiny.py), each under its kind's name."""
    from tests import tiny

    root = tmp_path_factory.mktemp("models")
    for kind in ("lcm", "lcm-v", "sd", "sd-plain", "sdxl", "sdxl-lcm", "cm", "cm-class"):
        tiny.save(kind, root / kind, vocabulary=kind == "lcm")
    return root
