"""Two gloo processes are one process with the double batch, and they stop and resume together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.training import toy
from training.loop import Trainer
from training.recipes import find

CPU = torch.device("cpu")


def _trainer(folder: Path, recipe: type[toy.Toy], **changes: object) -> Trainer:
    trainer = Trainer(recipe(toy.config(**changes), torch.device("cpu")), folder, quiet=True)
    trainer.prepare()
    return trainer


def test_gradients_are_those_of_one_process_with_the_double_batch(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        trainer = _trainer(tmp_path, toy.Quiet, gradient_accumulation_steps=1)
        toy.gradients(trainer)
        save_file(
            {str(i): p.grad for i, p in enumerate(trainer.state.parameters)},
            tmp_path / f"{rank}.st",
        )

    toy.both(work)
    alone = _trainer(tmp_path, toy.Quiet, batch_size=8)
    toy.gradients(alone)
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.st")
        for i, p in enumerate(alone.state.parameters):
            torch.testing.assert_close(found[str(i)], p.grad, rtol=1e-5, atol=1e-7)


def test_a_whole_run_is_that_of_one_process_with_the_double_batch(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        trainer = _trainer(tmp_path / "two", toy.Quiet)
        trainer.run()
        trainer.export()

    toy.both(work)
    toy.train(tmp_path / "one", recipe=toy.Quiet, batch_size=8)
    two, one = toy.weights(tmp_path / "two"), toy.weights(tmp_path / "one")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)


def test_ranks_draw_different_noise_and_resume_to_the_same_bits(tmp_path: Path) -> None:
    def draws(rank: int) -> None:
        trainer = _trainer(tmp_path / "x", toy.Toy)
        loss = trainer.recipe.loss(trainer.batch(0)).detach().reshape(1)
        save_file({"loss": loss}, tmp_path / f"loss-{rank}.st")

    toy.both(draws)
    losses = [load_file(tmp_path / f"loss-{rank}.st")["loss"].item() for rank in (0, 1)]
    assert losses[0] != losses[1]

    def whole(folder: Path, resume: bool) -> Callable[[int], None]:
        def work(rank: int) -> None:
            trainer = _trainer(folder, toy.Toy)
            if resume:
                assert trainer.resume()
            trainer.run()
            trainer.export()

        return work

    toy.both(whole(tmp_path / "a", False))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-00000024")
    toy.both(whole(tmp_path / "b", True))
    assert toy.same(toy.weights(tmp_path / "a"), toy.weights(tmp_path / "b"))


def test_adapters_that_are_switched_within_a_step_are_averaged(tmp_path: Path) -> None:
    """DDP sees an `lcm-lora` adapter go off and on within the forward pass."""
    tiny.save("sd-plain", tmp_path / "teacher")
    recipe = find("lcm-lora")

    def trainer(**more: object) -> Trainer:
        fields: dict[str, object] = {
            "teacher": str(tmp_path / "teacher"), "resolution": 64, "rank": 2, "steps": 2, "device": "cpu",
            "batch_size": 1, "loss_type": "l2",
            "data": {"kind": "scenes", "count": 2, "cache": str(tmp_path / "cache")},
        }  # fmt: skip
        made = Trainer(recipe(recipe.Config(**fields | more), CPU), tmp_path / "run", quiet=True)
        made.prepare()
        return made

    def work(rank: int) -> None:
        made = trainer()
        toy.gradients(made)
        grads = {str(i): p.grad for i, p in enumerate(made.state.parameters)}
        save_file({k: v for k, v in grads.items() if v is not None}, tmp_path / f"{rank}.st")

    trainer()  # fills the caches
    toy.both(work)
    first, second = (load_file(tmp_path / f"{rank}.st") for rank in (0, 1))
    assert toy.same(first, second)
    assert len(first) == len(trainer().state.parameters)
    assert any(value.abs().max() > 0 for value in first.values())
