"""Two processes that share one set of weights train as one process with the double batch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import tiny
from tests.training import toy
from training.errors import TrainingFault
from training.loop import Trainer
from training.recipes import distillation, find
from training.recipes.base import Draw
from training.recipes.consistency import Cd, Ict
from training.recipes.dmd import DistributionMatching
from training.recipes.lcd import LatentDistillation
from training.rng import generator
from training.state import checkpoint, sharding

ALONE, PAIR = 1, 2  # processes


class Apart:
    """Every example has a noise of its own, and not every batch: the same for any number of processes."""

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        rows = [
            super(Apart, self).batch(  # type: ignore[misc]
                replace(draw, examples=(example,), generator=generator("apart", *example))
            )
            for example in draw.examples
        ]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


class ApartLcd(Apart, LatentDistillation):
    pass


class ApartCd(Apart, Cd):
    pass


class ApartIct(Apart, Ict):
    pass


@pytest.fixture(scope="module")
def monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Teachers, and a cache that is filled: what the processes make of them is not what is tested."""
    monkeypatch.setattr(distillation, "TEACHER_STEPS", 2)
    folder = tmp_path_factory.mktemp("shards")
    for kind in ("sd-plain", "cm"):
        tiny.save(kind, folder / kind)
    made(ApartLcd, folder, ALONE, folder / "first")
    return folder


def made(
    recipe: Any, root: Path, processes: int, folder: Path, *, resume: bool = False, **changes: Any
) -> Trainer:
    """A trainer before its first step; sharded where it has company."""
    fields: dict[str, Any] = {
        "steps": 4,
        "batch_size": 4 // processes,
        "learning_rate": 1e-3,
        # Adam divides by the root of the second moment: where a gradient is zero but for rounding, the
        # sign of the rounding would become a whole step
        "adam_epsilon": 1e-3,
        "max_grad_norm": 0.05,  # less than the norms here: every step is clipped
        "ema_decay": 0.9,
        "checkpoint_every": 2,
        "log_every": 1,
        "device": "cpu",
        "sharding": "full" if processes > 1 else "none",
        "data": {"kind": "scenes", "count": 6, "cache": str(root / "cache")},
    }
    if recipe in (ApartLcd, LatentDistillation, DistributionMatching):
        fields |= {"teacher": str(root / "sd-plain"), "resolution": 64, "time_cond_proj_dim": 16}
        # pseudo-Huber is steep where student and target agree: rounding would be 2e-4 of its gradient
        fields |= {"loss_type": "l2"}
    else:
        fields |= {"resolution": 16}
        fields["teacher" if recipe is ApartCd else "start_from"] = str(root / "cm")
    config = recipe.Config(**fields | changes)
    trainer = Trainer(recipe(config, torch.device("cpu")), folder, quiet=True)
    trainer.prepare()
    if resume:
        assert trainer.resume()
    return trainer


def finished(*where: Any, **changes: Any) -> Trainer:
    trainer = made(*where, **changes)
    assert trainer.run()
    trainer.export()
    return trainer


def last(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint."""
    found = checkpoint.newest(folder / "checkpoints")
    assert found is not None
    tensors, _ = checkpoint.load(found)
    return {f"{name}/{key}": v for name, group in tensors.items() for key, v in group.items()}


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key].shape == value.shape
        torch.testing.assert_close(
            found[key], value, rtol=1e-4, atol=2e-6, msg=lambda text, key=key: f"{key}: {text}"
        )


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [row for row in rows if row["event"] == name]


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in events(folder, "step")]


@pytest.fixture
def plain_kernels() -> Iterator[None]:
    """oneDNN picks its kernels by processor and batch; where it picks two, they round unlike each other."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.mark.usefixtures("plain_kernels")
def test_dmd_learns_the_same_split_and_whole(root: Path, tmp_path: Path) -> None:
    """It calls its second network with and without gradients, and its student for the steps before."""

    def work(rank: int) -> None:
        for kind in ("none", "full"):
            folder = tmp_path / f"{kind}-{rank}"
            finished(
                DistributionMatching, root, PAIR, folder, sharding=kind, fake_warmup=1,
                batch_size=4, keep_share=0.5,
            )  # fmt: skip

    toy.both(work)
    found, wanted = (losses(tmp_path / f"{kind}-0") for kind in ("full", "none"))
    assert len(found) == 4 and found == pytest.approx(wanted, rel=1e-4)
    assert (tmp_path / "full-0" / "output" / "model_index.json").is_file()


@pytest.mark.parametrize("recipe", [ApartLcd, ApartCd, ApartIct])
def test_gradients_norm_and_memory(recipe: Any, root: Path, tmp_path: Path) -> None:
    """lcd has a teacher and a target, cd a UNet2DModel, ict calls its student twice before it goes back."""
    parts = {"gradient_accumulation_steps": 2, "batch_size": 1}

    def work(rank: int) -> None:
        trainer = made(recipe, root, PAIR, tmp_path, **parts)
        loss = trainer.accelerator.reduce(toy.gradients(trainer), "mean")
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in trainer.state.parameters if p.grad is not None]
        )
        found = {str(i): sharding.whole(p.grad) for i, p in enumerate(trainer.state.parameters)}  # type: ignore[arg-type]
        found |= {"loss": loss, "norm": sharding.whole(norm)}
        save_file(found, tmp_path / f"{rank}.safetensors")
        frozen = [p for network in trainer.recipe.frozen() for p in network.parameters()]
        target = [p for n in trainer.recipe.extra_state().values() for p in n.parameters()]
        trainer.state.optimizer.step()
        fields = trainer.state.optimizer.state.values()
        state = [one[name] for one in fields for name in ("exp_avg", "exp_avg_sq")]
        assert len(state) == 2 * len(trainer.state.parameters)
        gradients = [p.grad for p in trainer.state.parameters if p.grad is not None]
        for group in (
            trainer.state.parameters,
            trainer.state.average,
            gradients,
            state,
            frozen,
            target,
        ):
            here = sum(v.numel() for v in sharding.local(group))
            assert here <= 0.52 * sum(v.numel() for v in group)

    toy.both(work)
    alone = made(recipe, root, ALONE, tmp_path, batch_size=4)
    loss = toy.gradients(alone)
    wanted = {str(i): p.grad for i, p in enumerate(alone.state.parameters) if p.grad is not None}
    norm = torch.nn.utils.get_total_norm(list(wanted.values()))
    largest = max(value.abs().max().item() for value in wanted.values())
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(found.pop("loss"), loss)
        torch.testing.assert_close(found.pop("norm"), norm)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-5 * largest)


@pytest.fixture(scope="module")
def pair(root: Path) -> Path:
    """A whole sharded run of lcd with pictures."""
    toy.both(lambda rank: finished(ApartLcd, root, PAIR, root / "pair", validate_every=4) and None)
    return root / "pair"


@pytest.fixture(scope="module")
def alone(root: Path) -> Path:
    """The same run of one process with the double batch."""
    finished(ApartLcd, root, ALONE, root / "alone", validate_every=4)
    return root / "alone"


def test_a_run_is_that_of_one_process_with_the_double_batch(pair: Path, alone: Path) -> None:
    assert_near(last(pair), last(alone))
    np.testing.assert_allclose(losses(pair), losses(alone), rtol=1e-4)
    for name in ("teacher.png", "step-000004.png"):
        found, wanted = (_pixels(folder / "samples" / name) for folder in (pair, alone))
        assert np.abs(found - wanted).max() <= 2
    assert sorted(p.name for p in (pair / "samples").iterdir()) == sorted(
        p.name for p in (alone / "samples").iterdir()
    )


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened).astype(int)


def test_stock_diffusers_opens_the_export(pair: Path) -> None:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(pair / "output")
    average = [v for k, v in sorted(last(pair).items()) if k.startswith("ema/")]
    assert type(pipe.unet).__name__ == "UNet2DConditionModel"
    assert sum(p.numel() for p in pipe.unet.parameters()) == sum(v.numel() for v in average)
    parameters = list(pipe.unet.parameters())
    for i, p in enumerate(parameters):
        torch.testing.assert_close(p, last(pair)[f"ema/{i}"].half().float())
        if i > 4:  # the checkpoint's order is that of the parameters
            break
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 64, "width": 64, "num_inference_steps": 1, "output_type": "np"}
    assert np.isfinite(pipe(prompt="lake", **size).images).all()


def test_a_resumed_run_has_the_bits_of_one_that_was_not_broken(
    pair: Path, root: Path, tmp_path: Path
) -> None:
    _half(pair, tmp_path)
    toy.both(lambda rank: finished(ApartLcd, root, PAIR, tmp_path, resume=True) and None)
    assert toy.same(last(tmp_path), last(pair))
    name = "output/unet/diffusion_pytorch_model.safetensors"
    assert toy.same(load_file(tmp_path / name), load_file(pair / name))


def test_checkpoints_go_from_shards_to_whole_networks_and_back(
    pair: Path, alone: Path, root: Path, tmp_path: Path
) -> None:
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    _half(pair, whole)
    made(ApartLcd, root, ALONE, whole, resume=True).run()
    assert_near(last(whole), last(pair))
    _half(alone, sharded)
    toy.both(lambda rank: made(ApartLcd, root, PAIR, sharded, resume=True).run() and None)
    assert_near(last(sharded), last(alone))


def _half(run: Path, folder: Path) -> None:
    """The run as it was after half of its steps."""
    shutil.copytree(run / "checkpoints" / "step-00000002", folder / "checkpoints" / "step-00000002")


def test_half_precision_and_checkpointed_activations(root: Path, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        found = []
        for on in (False, True):
            trainer = made(LatentDistillation, root, PAIR, tmp_path, gradient_checkpointing=on)
            toy.gradients(trainer)
            found.append([p.grad for p in trainer.state.parameters if p.grad is not None])
        for plain, again in zip(*map(sharding.local, found), strict=True):
            torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-6)
        trainer = made(LatentDistillation, root, PAIR, tmp_path, mixed_precision="bf16")
        assert toy.step(trainer).isfinite()
        assert all(
            v.dtype == torch.float32 for v in (*trainer.state.parameters, *trainer.state.average)
        )

    toy.both(work)


def test_faults_of_one_process_end_all(root: Path, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        trainer = made(LatentDistillation, root, PAIR, tmp_path)
        if rank == 1:
            sharding.local(trainer.state.parameters)[0].fill_(float("nan"))
        with pytest.raises(TrainingFault, match="not finite") as caught:
            trainer.save()
        assert caught.value.reason == "nan"
        sharding.local(trainer.state.parameters)[0].fill_(0.0)
        usage = shutil.disk_usage(tmp_path)
        shutil.disk_usage = lambda path: usage._replace(free=100) if rank == 0 else usage  # type: ignore[assignment]
        with pytest.raises(TrainingFault, match="--resume") as caught:
            trainer.save()
        assert caught.value.reason == "disk"

    toy.both(work)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("lcd", {"optimizer": "muon"}, "set optimizer to adamw or sharding to none"),
        ("lcd", {"use_8bit_adam": True}, "set use_8bit_adam to false or sharding to none"),
        ("lcd", {"adversarial_weight": 0.1}, "set one of them to its default"),
        ("dmd", {"adversarial_weight": 0.1}, "set one of them to its default"),
        ("pixel-dmd", {"adversarial_weight": 0.1}, "set one of them to its default"),
        ("lcm-lora", {}, "set it to none"),
        ("autoencoder", {}, "set it to none"),
    ],
)
def test_what_cannot_be_split_is_refused(name: str, fields: dict[str, Any], said: str) -> None:
    find(name).Config(**fields)
    with pytest.raises(ValidationError, match=said):
        find(name).Config(sharding="full", **fields)


def test_one_process_has_nobody_to_share_with(root: Path, tmp_path: Path) -> None:
    class Unopened(LatentDistillation):
        def build(self) -> Any:
            pytest.fail("a network was opened")

    with pytest.raises(TrainingFault, match="torchrun --nproc_per_node N") as caught:
        made(Unopened, root, ALONE, tmp_path, sharding="full")
    assert caught.value.reason == "config"


def test_blocks_and_their_transformers_are_gathered_apart() -> None:
    unet = tiny.unet()
    groups = list(sharding._groups(unet))
    assert {id(b) for b in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)} < set(
        map(id, groups)
    )
    assert sum(type(group).__name__ == "Transformer2DModel" for group in groups) == 4
    assert list(sharding._groups(torch.nn.Linear(2, 2))) == []


def test_accelerate_starts_two_processes(root: Path, tmp_path: Path) -> None:
    """`--cpu --num_processes 2` would start one, which sharding=full refuses."""
    data = {"kind": "scenes", "count": 6, "cache": str(root / "cache")}
    fields = {"steps": 1, "batch_size": 2, "resolution": 64, "device": "cpu", "threads": 1}
    fields |= {"sharding": "full", "teacher": str(root / "sd-plain"), "data": data}
    (tmp_path / "job.yaml").write_text(json.dumps(fields | {"log_every": 1}))
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
    options = f"--mixed_precision no --dynamo_backend no --main_process_port {toy.port()}"
    run = f"--module training lcd --config {tmp_path}/job.yaml --output {tmp_path}"
    ended = subprocess.run(
        [sys.executable, "-m", *launch.split(), *options.split(), *run.split()],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads((tmp_path / "result.json").read_text())["state"] == "succeeded"
    (step,) = events(tmp_path, "step")
    assert step["images_per_s"] / step["steps_per_s"] == pytest.approx(2 * 2)
    assert (tmp_path / "output" / "model_index.json").exists()
