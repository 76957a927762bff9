"""Putting a finished run where the studio finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.scenery.bundle import average, bundle, main

NAME = "unet/diffusion_pytorch_model.safetensors"


def network(folder: Path, **weights: torch.Tensor) -> Path:
    (folder / "unet").mkdir(parents=True)
    save_file(weights, folder / NAME)
    return folder


def test_the_mean_of_two_networks(tmp_path: Path) -> None:
    a = network(tmp_path / "a", w=torch.tensor([1.0, 2.0]).half())
    b = network(tmp_path / "b", w=torch.tensor([3.0, 6.0]).half())
    average(a, b)
    assert torch.equal(load_file(a / NAME)["w"], torch.tensor([2.0, 4.0]).half())
    average(a, b, share=0.75)
    assert torch.equal(load_file(a / NAME)["w"], torch.tensor([2.25, 4.5]).half())
    with pytest.raises(ValueError, match="another network"):
        average(a, network(tmp_path / "c", w=torch.zeros(3)))


def finished(folder: Path, step: int, **weights: torch.Tensor) -> Path:
    network(folder / "output", **weights)
    checkpoint = folder / "checkpoints" / f"step-{step:08d}"
    checkpoint.mkdir(parents=True)
    data = {"count": 4, "first": 0}
    config = {"resolution": 32, "data": data, "teacher": "somewhere/of/mine"}
    state = {"recipe": "cd", "step": step, "config": config}
    (checkpoint / "state.json").write_text(json.dumps(state))
    (folder / "events.jsonl").write_text(json.dumps({"event": "step", "time": 1.0}) + "\n")
    return folder


def test_an_older_model_stays_until_the_new_one_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "models"
    first = finished(tmp_path / "first", 5, w=torch.ones(2))
    bundle(first, "x", into)
    other = finished(tmp_path / "other", 3, w=torch.zeros(3))
    assert main([str(first), "--name", "x", "--into", str(into), "--average", str(other)]) == 2
    assert "another network" in capsys.readouterr().err
    assert torch.equal(load_file(into / "x" / NAME)["w"], torch.ones(2))

    fits = finished(tmp_path / "fits", 9, w=torch.full((2,), 3.0))
    assert main([str(fits), "--name", "x", "--into", str(into), "--average", str(first)]) == 0
    assert torch.equal(load_file(into / "x" / NAME)["w"], torch.full((2,), 2.0))
    card = (into / "x" / "README.md").read_text()
    assert "0.5 of those after 5 steps and 0.5 of those after 9 steps" in card
    assert "vocabulary" not in card and "of/mine" not in card
    assert [path.name for path in into.iterdir()] == ["x"]


def test_what_was_set_for_the_older_model_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "models"
    run = finished(tmp_path / "run", 5, w=torch.ones(2))
    bundle(run, "x", into)
    assert not (into / "x" / "studio.json").exists()
    fields = {"steps": 8, "shift": 3, "eta": 0.5}
    (into / "x" / "studio.json").write_text(json.dumps(fields | {"own_error": 0.2}))
    (into / "x" / "edits.yaml").write_text("tasks: {}\n")
    bundle(finished(tmp_path / "other", 9, w=torch.zeros(2)), "x", into)
    assert torch.equal(load_file(into / "x" / NAME)["w"], torch.zeros(2))
    assert (
        json.loads((into / "x" / "studio.json").read_text()) == fields
    )  # the error was the old weights'
    assert (into / "x" / "edits.yaml").read_text() == "tasks: {}\n"
    assert "benchmarks tune" in capsys.readouterr().err


def test_a_model_is_averaged_with_what_it_started_from(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", 9, w=torch.full((2,), 3.0))
    start = network(tmp_path / "models" / "x", w=torch.ones(2))
    (start / "model_index.json").write_text("{}")
    options = ["--name", "x", "--into", str(tmp_path / "models"), "--average", str(start)]
    assert main([str(run), *options, "--share", "0.25"]) == 0
    assert torch.equal(load_file(start / NAME)["w"], torch.full((2,), 1.5))
    assert (
        "0.75 of those of the earlier x and 0.25 of those after 9 steps"
        in (start / "README.md").read_text()
    )


def test_a_share_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(tmp_path / "run", 9, w=torch.ones(2))
    options = ["--name", "x", "--into", str(tmp_path), "--average", str(run), "--share", "1"]
    assert main([str(run), *options]) == 2
    assert "no part of a mean" in capsys.readouterr().err


def test_a_run_without_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "run"), "--name", "x", "--into", str(tmp_path)]) == 2
    assert "has no output" in capsys.readouterr().err
