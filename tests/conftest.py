"""Shared fixtures: offline, deterministic; side by side each process with one thread, slow files first."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "LCM_STUDIO_HOME" not in os.environ:  # what the studio remembers is not the user's here
    os.environ["LCM_STUDIO_HOME"] = tempfile.mkdtemp(prefix="lcm-studio-home-")
    atexit.register(shutil.rmtree, os.environ["LCM_STUDIO_HOME"], ignore_errors=True)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
# networks that are converted beside a test would take its cores; tests of backends name theirs
os.environ.setdefault("LCM_STUDIO_BACKEND", "torch")
if "PYTEST_XDIST_WORKER" in os.environ:
    # threads of processes that share the cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("studio", deadline=None)
settings.load_profile("studio")

settings.register_profile("repeatable", derandomize=True)  # one that fails here fails everywhere
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


# Folders whose tests need no network of any model, no page and no process: seconds each.
UNIT = ("maths", "spec", "operators", "sampling", "images", "docs")


def tier(item: pytest.Item) -> str:
    """The marker of a test that names none itself: by its folder, one of unit, model, browser and jobs."""
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    return "unit" if folder in UNIT else "jobs" if folder == "jobs" else "model"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every test gets its tier. Side by side, files with the browser go first and those that train next: no process
    is left with them alone."""
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("unit", "browser", "jobs", "model")):
            item.add_marker(tier(item))
    if hasattr(config, "workerinput"):
        browser = {item.path for item in items if item.get_closest_marker("browser")}
        items.sort(key=lambda i: (i.path not in browser, "training" not in i.path.parts))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files to each process, in the order above: the pages and models of a file are opened once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is converted stays with the tests: nothing comes from the user's folder, and nothing goes there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LCM_STUDIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The folder of the models that ship with the project."""
    return ROOT / "assets" / "models"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny random models of every kind (see tests/tiny.py), each under its kind's name."""
    from tests import tiny

    root = tmp_path_factory.mktemp("models")
    for kind in (
        "lcm",
        "lcm-v",
        "sd",
        "sd-plain",
        "sd-15",
        "sdxl",
        "sdxl-base",
        "sdxl-lcm",
        "cm",
        "cm-class",
    ):
        tiny.save(kind, root / kind, vocabulary=kind == "lcm")
    return root
