"""The second thread beside a step: same numbers, faults come out, nothing is left running."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from training.ahead import Ahead, Beside, beside
from training.errors import TrainingFault
from training.recipes import find
from training.trainer import Trainer

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
def test_the_weights_are_those_of_one_thread_after_the_other(
    more: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    alone = trainer(tmp_path / "alone", fields, overlap=False, threads=1, **more)
    alone.run()
    both = trainer(tmp_path / "both", fields, threads=2, **more)
    seen: list[str] = []
    teacher: Any = both.recipe
    teacher.teacher.register_forward_hook(lambda *_: seen.append(threading.current_thread().name))
    teacher.target.register_forward_hook(lambda *_: seen.append(threading.current_thread().name))
    both.run()
    assert (
        sum(name.startswith("beside") for name in seen) >= len(seen) - 1
    )  # all but the first batch
    for one, two in zip(alone.flat, both.flat, strict=True):
        assert torch.equal(one, two)


def test_a_stopped_run_goes_on_to_the_same_bits(fields: dict[str, Any], tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", fields, threads=2)
    whole.run()
    halted = trainer(tmp_path / "halted", fields, threads=2)
    halted._stop = True
    assert not halted.run()
    resumed = trainer(tmp_path / "halted", fields, threads=2)
    assert resumed.resume()
    assert resumed.run()
    for one, two in zip(whole.flat, resumed.flat, strict=True):
        assert torch.equal(one, two)


def test_threads_are_given_back_and_none_is_left(fields: dict[str, Any], tmp_path: Path) -> None:
    made = trainer(tmp_path, fields, threads=2)
    with made.overlapped():
        assert torch.get_num_threads() == 1
        assert made.recipe.beside is not None
    assert torch.get_num_threads() == 2
    assert made.recipe.beside is None
    assert not [t for t in threading.enumerate() if t.name.startswith("beside")]


@pytest.mark.parametrize(
    "more", [{"own_share": 0.5}, {"adversarial_weight": 0.2}, {"overlap": False}]
)
def test_what_needs_the_weights_of_the_step_is_not_made_ahead(
    more: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    made = trainer(tmp_path, fields, threads=2, **more)
    with made.overlapped():
        assert made.recipe.beside is None


def test_items_are_made_once_in_order_and_faults_come_out() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        if number == 3:
            raise TrainingFault("data", "too many pictures cannot be read")
        return number * 10

    with beside(True, CPU) as second:
        ahead = Ahead(make, second, end=5)
        for number in range(3):
            assert ahead.take(number) == number * 10
            ahead.start(number + 1)
        with pytest.raises(TrainingFault, match="cannot be read"):
            ahead.take(3)
        ahead.start(5)  # behind the end: not begun
        assert ahead.take(4) == 40  # made here
    assert made == [0, 1, 2, 3, 4]


def test_there_is_none_on_one_core_or_a_gpu() -> None:
    torch.set_num_threads(1)
    with beside(True, CPU) as second:
        assert second is None
    torch.set_num_threads(2)
    with beside(True, torch.device("cuda")) as second:
        assert second is None
    with beside(True, CPU) as second:
        assert isinstance(second, Beside)
