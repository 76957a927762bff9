"""The benchmark of training: both sides have one loss, with each saving, and it writes its table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import training as benchmark
from benchmarks.published_step import Savings
from tests import tiny
from training.scenery.dataset import write_folder

EVERY = dict.fromkeys(Savings.names(), True)


def _teacher(root: Path, prediction: str, small_vae: bool) -> Path:
    folder = tiny.save("sd-plain", root / f"{prediction}-{small_vae}")
    about = folder / "scheduler" / "scheduler_config.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"prediction_type": prediction}))
    if small_vae:
        shutil.rmtree(folder / "vae")
        tiny.vae(tiny=True).save_pretrained(folder / "vae")
    return folder


def _fields(root: Path, teacher: Path, **changes: Any) -> dict[str, Any]:
    if not (root / "pictures").exists():
        write_folder(root / "pictures", count=4, size=64)
    args = benchmark._arguments(["--teacher", str(teacher), "--batch", "2"])
    return benchmark.fields_of(args, root) | {"time_cond_proj_dim": 16} | changes


@pytest.mark.parametrize(
    ("prediction", "small_vae", "loss_type"),
    [("epsilon", False, "huber"), ("v_prediction", True, "huber"), ("v_prediction", False, "l2")],
)
def test_the_losses_are_equal(
    prediction: str, small_vae: bool, loss_type: str, tmp_path: Path
) -> None:
    teacher = _teacher(tmp_path, prediction, small_vae)
    fields = _fields(tmp_path, teacher, loss_type=loss_type)
    bench = benchmark.Bench(tmp_path / "run", fields, torch.device("cpu"))
    for savings in (Savings(), *(Savings(**{n: True}) for n in EVERY), Savings(**EVERY)):
        step = bench.published(savings)
        assert bench.apart(step, draws=2) < benchmark.RTOL
    with bench.stepping() as ours:
        ours()
    assert bench.apart(step) < benchmark.RTOL  # also with trained weights, and w heard


def test_both_sides_train_alike(tmp_path: Path) -> None:
    teacher = _teacher(tmp_path, "epsilon", True)
    bench = benchmark.Bench(tmp_path / "run", _fields(tmp_path, teacher), torch.device("cpu"))
    before = [p.detach().clone() for p in bench.trainer.state.parameters]
    plain, saving = bench.published(Savings()), bench.published(Savings(**EVERY))
    with bench.stepping() as ours:
        ours()
    for step in (plain, saving):
        bench.take(step, bench.last)
    moved = torch.stack(
        [(a - b).abs().max() for a, b in zip(bench.trainer.state.parameters, before, strict=True)]
    )
    assert moved.max() > 1e-5
    for step in (plain, saving):
        for ours, theirs in (
            (bench.recipe.student, step.student),
            (bench.recipe.target, step.target),
        ):
            for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                # a gradient that is nothing but rounding moves a weight by up to a learning rate a step
                torch.testing.assert_close(p, q, rtol=1e-4, atol=7e-4)
                assert (p - q).abs().mean() < 2e-5


def test_it_prints_and_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = _teacher(tmp_path, "epsilon", True)
    out = tmp_path / "out" / "training"
    argv = ["--teacher", str(teacher), "--batch", "2", "--rounds", "1", "--pictures", "3"]
    argv += ["--skip", "memory", "--skip", "savings", "--out", str(out)]
    assert benchmark.main(argv) == 0
    assert "published / ours" in capsys.readouterr().out
    said = json.loads(out.with_suffix(".json").read_text())
    assert said["step"][0]["ours s/step"] > 0


def test_savings_are_measured_one_by_one_and_together(tmp_path: Path) -> None:
    teacher = _teacher(tmp_path, "epsilon", True)
    bench = benchmark.Bench(tmp_path / "run", _fields(tmp_path, teacher), torch.device("cpu"))
    rows = benchmark.savings(bench, 1, ("one_teacher_call", "cached_text"))
    names = ["one_teacher_call", "cached_text", "all of them", "next batch made ahead (our step)"]
    assert [row["saving"] for row in rows] == names
    assert all(row["gain"] > 0 for row in rows)
