"""Class names that stock pipelines write into model_index.json, gathered from the installed libraries."""

from __future__ import annotations

import inspect
import json
import shutil
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.device import choose
from lcm_studio.models.allowed import COMPONENTS, PIPELINES, SCHEDULER, check_index
from lcm_studio.models.catalog import read_info
from lcm_studio.models.kinds import KINDS
from lcm_studio.models.kinds.document import table
from lcm_studio.models.load import load_folder
from lcm_studio.spec.errors import ModelError
from tests.models.test_parity import PROMPT, ours

ROOT = Path(__file__).resolve().parents[2]
# what pipelines name in place of a class that is saved
ABSTRACT = {"PreTrainedModel", "AutoTokenizer", "Gemma2PreTrainedModel", "SchedulerMixin"}
PARTS = ("tokenizer", "text_encoder", "scheduler", "vae", "unet", "transformer")


def named_classes(pipeline: str) -> dict[str, set[str]]:
    """{component: classes} of the annotations of a pipeline's constructor."""
    import diffusers

    kind = getattr(diffusers, pipeline)
    module = inspect.getmodule(kind)
    hints = typing.get_type_hints(kind.__init__, vars(module))
    found: dict[str, set[str]] = {}
    for name, hint in hints.items():
        if not name.startswith(PARTS):
            continue
        for one in typing.get_args(hint) or (hint,):
            label = getattr(one, "__name__", str(one))
            if label == "KarrasDiffusionSchedulers":
                found.setdefault(name, set()).update(member.name for member in one)
            elif label != "NoneType":
                found.setdefault(name, set()).add(label)
    return found


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_class_of_a_supported_pipeline_is_known(pipeline: str) -> None:
    classes = named_classes(pipeline)
    assert classes
    for component, names in classes.items():
        for name in names - ABSTRACT:
            if component == "scheduler":
                assert SCHEDULER.fullmatch(name), name
            else:
                assert name in COMPONENTS[component], (component, name)


@pytest.mark.parametrize(
    "name", ["CLIPTokenizer", "CLIPTokenizerFast", "TokenizersBackend", "PreTrainedTokenizerFast"]
)
def test_every_name_of_a_tokenizer_gives_the_same_picture(
    tiny_models: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "lcm", folder)
    _edit(folder / "model_index.json", tokenizer=["transformers", name])
    settings: dict[str, Any] = {"prompt": PROMPT, "steps": 1, "seed": 2}
    mine = ours(load_folder(folder, choose("cpu")), **settings)
    plain = ours(load_folder(tiny_models / "lcm", choose("cpu")), **settings)
    assert np.abs(mine - plain).max() < 1e-5


def test_schedulers_of_the_libraries_are_read(tiny_models: Path, tmp_path: Path) -> None:
    """Whichever scheduler a folder names, the model is known; what stands in for it is said."""
    from diffusers.schedulers import KarrasDiffusionSchedulers

    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "sd-plain", folder)
    for member in KarrasDiffusionSchedulers:
        _edit(folder / "scheduler" / "scheduler_config.json", _class_name=member.name)
        _edit(folder / "model_index.json", scheduler=["diffusers", member.name])
        info = read_info(folder)
        row = next(kind for kind in KINDS if kind.name == info.sampling)
        assert row.stock.startswith(member.name) or member.name in info.why, member.name


def test_remote_code_stays_refused(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_models / "lcm", folder)
    _edit(folder / "model_index.json", tokenizer=["my_code", "TokenizersBackend"])
    with pytest.raises(ModelError, match="safe"):
        check_index(folder)


def test_the_documents_table_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "guide" / "kinds.md").read_text(encoding="utf-8") == table()


def _edit(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps(value))
