"""Batches made ahead: same numbers, faults come out, no thread is left."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from training.errors import TrainingFault
from training.loop import Trainer
from training.prefetch import prefetched
from training.recipes import find

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("ahead")
    tiny.save("sd-plain", root / "teacher")
    return {
        "teacher": str(root / "teacher"), "time_cond_proj_dim": 16, "steps": 4, "batch_size": 4, "log_every": 1,
        "device": "cpu", "ema_decay": 0.5, "resolution": 64, "checkpoint_every": 2, "ddim_steps": 10,
        "gradient_accumulation_steps": 2, "proportion_empty_prompts": 0.3,
        "data": {"kind": "scenes", "count": 8, "cache": str(root / "cache")},
    }  # fmt: skip


def trainer(folder: Path, fields: dict[str, Any], **more: Any) -> Trainer:
    recipe = find("lcd")
    made = Trainer(recipe(recipe.Config(**fields | more), CPU), folder, quiet=True)
    made.prepare()
    return made


@pytest.mark.parametrize(
    "more", [{}, {"path_share": 0.5, "paths": 32}, {"mixed_precision": "bf16"}]
)
def test_the_weights_are_those_without_a_second_thread(
    more: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    alone = trainer(tmp_path / "alone", fields, overlap=False, threads=2, **more)
    alone.run()
    both = trainer(tmp_path / "both", fields, threads=2, **more)
    seen: list[str] = []
    teacher: Any = both.recipe
    teacher.teacher.register_forward_hook(lambda *_: seen.append(threading.current_thread().name))
    both.run()
    assert len(seen) == 8
    assert all(name.startswith("prefetch") for name in seen)
    for one, two in zip(alone.state.parameters, both.state.parameters, strict=True):
        assert torch.equal(one, two)


def test_a_stopped_run_goes_on_to_the_same_bits(fields: dict[str, Any], tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", fields, threads=2)
    whole.run()
    halted = trainer(tmp_path / "halted", fields, threads=2)
    halted.monitor.stop = True
    assert not halted.run()
    resumed = trainer(tmp_path / "halted", fields, threads=2)
    assert resumed.resume()
    assert resumed.run()
    for one, two in zip(whole.state.parameters, resumed.state.parameters, strict=True):
        assert torch.equal(one, two)


def test_no_thread_is_left(fields: dict[str, Any], tmp_path: Path) -> None:
    made = trainer(tmp_path, fields, threads=2)
    with made.batches() as batches:
        next(batches)
        assert [t for t in threading.enumerate() if t.name.startswith("prefetch")]

    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_nothing_is_made_ahead_where_it_is_not_wanted(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    made = trainer(tmp_path, fields, threads=2, overlap=False)
    with made.batches() as batches:
        next(batches)
        assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


@pytest.mark.parametrize("threads", [0, 1])
def test_items_are_made_once_in_order_and_faults_come_out(threads: int) -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        if number == 3:
            raise TrainingFault("data", "too many pictures cannot be read")
        return number * 10

    with prefetched(make, range(1, 5), threads=threads) as items:
        assert [next(items), next(items)] == [10, 20]
        with pytest.raises(TrainingFault, match="cannot be read"):
            next(items)
    assert made == [1, 2, 3]
    with prefetched(make, range(5, 7), threads=threads) as items:
        assert list(items) == [50, 60]
    with prefetched(make, range(5, 5), threads=threads) as items:
        assert list(items) == []
