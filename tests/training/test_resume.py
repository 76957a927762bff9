"""A run that is killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.training import toy
from training.errors import TrainingFault
from training.state import checkpoint
from training.state.muon import Muon, orthogonalize


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("unbroken")
    assert toy.child(lambda: toy.train(folder) and None) == 0
    return toy.weights(folder)


SHORT = {"steps": 8, "keep_checkpoints": 1}  # two saves, and the first one pruned


def _resume(folder: Path, **changes: object) -> None:
    toy.train(folder, resume=True, **changes)


def test_killed_at_twenty_random_moments(tmp_path: Path, unbroken: dict[str, torch.Tensor]) -> None:
    rng, kills, started = random.Random(7), 0, time.monotonic()
    assert toy.child(lambda: toy.train(tmp_path / "timed") and None) == 0
    whole = time.monotonic() - started
    rounds = 0
    while kills < 20 and rounds < 200:
        folder = tmp_path / f"run-{rounds}"
        rounds += 1
        for _ in range(30):
            patience = rng.uniform(0.02, 1.0) * whole
            if toy.child(partial(_resume, folder), kill_after=patience) == 0:
                break
            kills += 1
        else:
            assert toy.child(partial(_resume, folder)) == 0
        assert toy.same(toy.weights(folder), unbroken)
    assert kills >= 20


def _killer(at: int) -> Callable[[], None]:
    """Counts the sub-steps of saving and kills this process before the `at`-th."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return tick


def _train_killed_inside_a_save(folder: Path, at: int) -> None:
    tick = _killer(at)

    def before(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            tick()
            return call(*args, **kwargs)

        return wrapped

    save, write, rename = safetensors.torch.save_file, Path.write_text, Path.rename
    safetensors.torch.save_file = before(save)  # type: ignore[assignment]
    Path.write_text = before(write)  # type: ignore[method-assign,assignment]
    Path.rename = before(rename)  # type: ignore[method-assign,assignment]
    os.fsync = before(os.fsync)  # type: ignore[assignment]
    shutil.rmtree = before(shutil.rmtree)  # type: ignore[assignment]
    whole_save = checkpoint.save

    def noted(*args: Any, **kwargs: Any) -> Path:
        made = whole_save(*args, **kwargs)
        (folder / "a save is over").touch()
        return made

    checkpoint.save = noted
    toy.train(folder, resume=True, **SHORT)


def test_killed_inside_each_step_of_the_saves(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert toy.child(partial(_resume, whole, **SHORT)) == 0
    wanted, killed = toy.weights(whole), 0
    first_good: int | None = None
    for at in range(1, 100):
        folder = tmp_path / f"at-{at}"
        if toy.child(partial(_train_killed_inside_a_save, folder, at)) == 0:
            break
        killed += 1
        valid = checkpoint.newest(folder / "checkpoints")
        if (folder / "a save is over").exists():  # from then on there is always a good one
            assert valid is not None
        assert first_good is None or valid is not None
        first_good = first_good or (at if valid is not None else None)
        assert toy.child(partial(_resume, folder, **SHORT)) == 0
        assert toy.same(toy.weights(folder), wanted)
    assert killed > 28
    assert first_good is not None


def test_sigterm_saves_and_the_rest_is_the_same(
    tmp_path: Path, unbroken: dict[str, torch.Tensor]
) -> None:
    class Stopped(toy.Toy):
        def after_step(self, step: int) -> None:
            super().after_step(step)
            if step == 10:
                os.kill(os.getpid(), signal.SIGTERM)

    assert toy.child(lambda: toy.train(tmp_path, recipe=Stopped) and None) == 0
    assert checkpoint.newest(tmp_path / "checkpoints").name == "step-00000010"  # type: ignore[union-attr]
    assert not (tmp_path / "output").exists()
    assert toy.child(lambda: toy.train(tmp_path, resume=True) and None) == 0
    assert toy.same(toy.weights(tmp_path), unbroken)


def test_a_spoiled_checkpoint_is_passed_over(tmp_path: Path) -> None:
    toy.train(tmp_path)
    last, before = sorted((tmp_path / "checkpoints").glob("step-*"), reverse=True)[:2]
    victim = last / "net.net.safetensors"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert checkpoint.fault(last) and "content" in str(checkpoint.fault(last))
    assert checkpoint.newest(tmp_path / "checkpoints") == before
    (before / "manifest.json").write_text("{")
    assert checkpoint.newest(tmp_path / "checkpoints") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    toy.train(tmp_path, keep_checkpoints=2)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000020", "step-00000024"]


def test_a_loss_that_is_not_a_number_ends_the_run_and_spares_the_checkpoints(
    tmp_path: Path,
) -> None:
    class Poisoned(toy.Toy):
        poisoned_at = 9

    with pytest.raises(TrainingFault, match="learning_rate") as caught:
        toy.train(tmp_path, recipe=Poisoned, log_every=100)
    assert caught.value.reason == "nan"
    good = checkpoint.newest(tmp_path / "checkpoints")
    assert good is not None and good.name == "step-00000008"
    tensors, _ = checkpoint.load(good)
    assert all(t.isfinite().all() for group in tensors.values() for t in group.values())


def test_a_full_disk_ends_the_run_and_spares_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.train(tmp_path, steps=8)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(TrainingFault, match="--resume") as caught:
        toy.train(tmp_path, resume=True)
    assert caught.value.reason == "disk"
    assert checkpoint.newest(tmp_path / "checkpoints").name == "step-00000008"  # type: ignore[union-attr]


def test_a_write_that_fails_half_way_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.train(tmp_path, steps=8)
    save = safetensors.torch.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "optimizer" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        toy.train(tmp_path, resume=True)
    assert checkpoint.newest(tmp_path / "checkpoints").name == "step-00000008"  # type: ignore[union-attr]
    monkeypatch.undo()
    toy.train(tmp_path, resume=True)


def test_events_and_requests(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "save").touch()
    toy.train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["event"] == "step"]
    assert [row["step"] for row in steps] == list(range(3, 25, 3))
    assert {"loss", "lr", "steps_per_s", "images_per_s", "eta"} <= steps[0].keys()
    assert {"event": "checkpoint", "step": 1}.items() <= rows[0].items()
    assert not (tmp_path / "control" / "save").exists()


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 16, 16)])
def test_muon_is_the_newton_schulz_iteration(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x / x.norm(dim=(-2, -1), keepdim=True)
    for _ in range(5):  # as published, one multiplication of the matrix after the other
        gram = y @ y.mT
        y = 3.4445 * y + (-4.7750 * gram + 2.0315 * gram @ gram) @ y
    found = orthogonalize(x)
    assert torch.allclose(found.double(), y, atol=1e-4)
    assert 0.5 < torch.linalg.svdvals(found).min() <= torch.linalg.svdvals(found).max() < 1.3


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 160, 160)])
def test_muon_in_bf16_stays_beside_the_one_in_float32(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wide, half = orthogonalize(x), orthogonalize(x, half=True)
    assert half.dtype == torch.float32 and half.shape == x.shape
    assert (half - wide).norm() < 0.02 * wide.norm()


def test_muon_resumes_to_the_same_bits(tmp_path: Path) -> None:
    fields = {"optimizer": "muon", "steps": 12}
    a = toy.train(tmp_path / "a", **fields)
    assert isinstance(a.state.optimizer.optimizer, Muon)
    toy.train(tmp_path / "b", **fields | {"steps": 12})
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-00000012")
    toy.train(tmp_path / "b", resume=True, **fields)
    assert toy.same(toy.weights(tmp_path / "a"), toy.weights(tmp_path / "b"))


def test_channels_last_optimizer_state_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Fused kernels walk memory: a moment loaded in another layout would be scrambled."""

    class Conv(toy.Toy):
        def build(self) -> dict[str, torch.nn.Module]:
            networks = super().build()
            self.conv = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
            return networks | {"conv": self.conv}

        def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            x = batch["x"].repeat(1, 3 * 16)[:, : 3 * 64].reshape(-1, 3, 8, 8)
            return super().loss(batch) + self.conv(x).square().mean()

    for optimizer in ("adamw", "muon"):
        a, b = tmp_path / f"{optimizer}-a", tmp_path / f"{optimizer}-b"
        toy.train(a, recipe=Conv, optimizer=optimizer)
        toy.train(b, recipe=Conv, optimizer=optimizer)
        shutil.rmtree(b / "checkpoints" / "step-00000024")
        toy.train(b, recipe=Conv, optimizer=optimizer, resume=True)
        assert toy.same(toy.weights(a), toy.weights(b))
