"""What a run says when it cannot go on as asked: spoiled checkpoints, another optimizer, another network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training import toy
from training.__main__ import main
from training.errors import TrainingFault
from training.state.fits import changed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fits") / "run"
    toy.train(folder, steps=4)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


class Wide(toy.Toy):
    """Toy with another layer."""

    def build(self) -> dict[str, nn.Module]:
        networks = super().build()
        self.net[2] = nn.Linear(16, 3)
        return networks


class Other(toy.Toy):
    name = "other"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": "muon"}, "optimizer=adamw and this run has optimizer=muon"),
        ({"recipe": Wide}, r"2\.bias is \(2,\) there and \(3,\) here"),
        ({"recipe": Other}, "of recipe toy and this run is other"),
    ],
)
def test_another_run_is_named(fields: dict[str, Any], words: str, copy: Path) -> None:
    with pytest.raises(TrainingFault, match=words) as caught:
        toy.train(copy, resume=True, **fields)
    assert caught.value.reason == "config"


def test_spoiled_checkpoints_do_not_begin_anew(copy: Path) -> None:
    for folder in (copy / "checkpoints").glob("step-*"):
        (folder / "manifest.json").write_text("{")
    with pytest.raises(TrainingFault, match=r"1 checkpoint.*none can be used.*manifest") as caught:
        toy.train(copy, resume=True)
    assert caught.value.reason == "missing_weights"


def test_a_folder_without_a_checkpoint_begins_at_nothing(tmp_path: Path) -> None:
    assert toy.train(tmp_path, resume=True, steps=2).state.step == 2


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_averages_may_come_and_go(decay: float, tmp_path: Path) -> None:
    toy.train(tmp_path, steps=4, ema_decay=0.5 - decay)
    trainer = toy.train(tmp_path, resume=True, steps=6, ema_decay=decay)
    assert bool(trainer.state.average) == bool(decay)
    assert all(value.isfinite().all() for value in trainer.state.average)


def test_what_changed_is_told(copy: Path) -> None:
    toy.train(copy, resume=True, steps=6, learning_rate=0.02, log_every=1)
    rows = [json.loads(line) for line in (copy / "events.jsonl").read_text().splitlines()]
    (resumed,) = [row for row in rows if row["event"] == "resumed"]
    assert resumed["changed"] == "learning_rate 0.01 -> 0.02; steps 4 -> 6"


def test_changes_reach_into_sections() -> None:
    was = {"a": 1, "b": {"c": 2, "d": 3}, "gone": 1}
    assert changed(was, {"a": 1, "b": {"c": 4, "d": 3}, "new": 1}) == {"b.c": (2, 4)}


def test_a_second_run_does_not_go_over_the_first(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ct", "--output", str(copy)]) == 2
    assert "step-00000004; go on with --resume" in capsys.readouterr().err


def test_resumed_averages_begin_with_the_weights(tmp_path: Path) -> None:
    toy.train(tmp_path, steps=4, ema_decay=0.0)
    trainer = toy.train(tmp_path, resume=True, steps=4, ema_decay=0.9)
    for value, p in zip(trainer.state.average, trainer.state.parameters, strict=True):
        assert torch.equal(value, p)
