"""A recipe of a few numbers, so that tests of the trainer take milliseconds; processes to kill, and pairs of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.config import TrainConfig
from training.loop import Trainer
from training.recipes.base import Draw, Recipe
from training.state import ema


class Toy(Recipe):
    """A regression with noise, a trained network and an EMA target that has a say in the loss."""

    name: ClassVar[str] = "toy"
    Config: ClassVar[type[TrainConfig]] = TrainConfig
    noisy = True
    poisoned_at = -1

    def build(self) -> dict[str, nn.Module]:
        self.net = nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 2))
        self.target = nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 2))
        self.target.load_state_dict(self.net.state_dict())
        self.target.requires_grad_(False)
        return {"net": self.net}

    def data_length(self) -> int:
        return 37

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        rows = [torch.tensor([i, e, i * e, i % 3, e % 2, 1.0]) / 10 for i, e in draw.examples]
        x = torch.stack(rows)
        if self.noisy:
            x = x + torch.randn(x.shape, generator=draw.generator)
        if draw.step == self.poisoned_at:
            x = x * float("nan")
        return {"x": x}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        wanted = torch.stack([batch["x"].sum(1), batch["x"].square().sum(1)], 1)
        pull = self.target(batch["x"]).detach()
        out = self.net(batch["x"])
        return (out - wanted).square().mean() + 0.1 * (out - pull).square().mean()

    def extra_state(self) -> dict[str, nn.Module]:
        return {"target": self.target}

    def after_step(self, step: int) -> None:
        ema.update(list(self.target.parameters()), list(self.net.parameters()), 0.9)

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.net.state_dict()), folder / "net.safetensors")


class Quiet(Toy):
    """Toy whose batch depends on its examples alone: the same for any number of processes."""

    noisy = False


def config(**changes: object) -> TrainConfig:
    """A short run with frequent checkpoints."""
    fields: dict[str, object] = {
        "steps": 24,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 3,
        "checkpoint_every": 4,
        "log_every": 3,
        "ema_decay": 0.9,
        "device": "cpu",
    }
    return TrainConfig(**(fields | changes))  # type: ignore[arg-type]


def train(
    folder: Path, *, resume: bool = False, recipe: type[Toy] = Toy, **changes: object
) -> Trainer:
    """A whole run in this process, exported."""
    trainer = Trainer(recipe(config(**changes), torch.device("cpu")), folder, quiet=True)
    trainer.prepare()
    if resume:
        trainer.resume()
    if trainer.run():
        trainer.export()
    return trainer


def weights(folder: Path) -> dict[str, Tensor]:
    """What a finished run exported, and every tensor of its last checkpoint."""
    found = dict(load_file(folder / "output" / "net.safetensors"))
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    for path in sorted(last.glob("*.safetensors")):
        found |= {f"{path.stem}/{key}": value for key, value in load_file(path).items()}
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@cache
def assert_same_networks(one: Trainer, other: Trainer) -> None:
    """All trained networks of two runs are equal to the bit."""
    assert set(one.state.networks) == set(other.state.networks)
    for name, network in one.state.networks.items():
        theirs = other.state.networks[name].state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(value, theirs[key]), (name, key)


def _warm() -> None:
    """Imports what a run imports, once: forked processes inherit it instead of doing it each."""
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), steps=1)


def child(work: Callable[[], None], *, kill_after: float | None = None) -> int:
    """Runs `work` in a forked process, kills it after some seconds; its exit code."""

    _warm()

    def alone() -> None:
        torch.set_num_threads(1)
        work()

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    process.join(kill_after)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def both(work: Callable[[int], None]) -> None:
    """Runs `work(rank)` in two forked processes that form a group; an assertion may fail in either."""
    meeting = port()

    def alone(rank: int) -> None:
        os.environ |= {
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(meeting),
            "OMP_NUM_THREADS": "1",
        }
        try:
            work(rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    first = os.fork()
    if first == 0:
        torch.set_num_threads(1)
        try:
            alone(1)
            os._exit(0)
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
            os._exit(1)
    ended = child(lambda: alone(0))
    if ended:
        os.kill(first, signal.SIGKILL)  # it may wait for the other one
    assert (ended, os.waitpid(first, 0)[1]) == (0, 0)


def gradients(trainer: Trainer) -> Tensor:
    """The gradients of the trainer's step, left in its parameters; the mean loss of its micro-steps."""
    state, accelerator = trainer.state, trainer.accelerator
    micro = trainer.config.gradient_accumulation_steps
    losses = []
    for number in range(state.step * micro, (state.step + 1) * micro):
        with accelerator.accumulate(state.model):
            losses.append(state.model(trainer.batch(number)))
            accelerator.backward(losses[-1])
    return torch.stack(losses).mean().detach()


def step(trainer: Trainer) -> Tensor:
    """One whole step without its averages; the mean loss of its micro-steps."""
    micro = trainer.config.gradient_accumulation_steps
    numbers = range(trainer.state.step * micro, (trainer.state.step + 1) * micro)
    return torch.stack([trainer.micro_step(trainer.batch(n)) for n in numbers]).mean()
