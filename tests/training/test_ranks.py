"""Two gloo processes are one process with the double batch, and they stop and resume together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.training import toy
from training import ranks
from training.trainer import Trainer


def _trainer(folder: Path, group: ranks.Ranks, recipe: type[toy.Toy], **changes: object) -> Trainer:
    made = recipe(toy.config(**changes), torch.device("cpu"))
    trainer = Trainer(made, folder, quiet=True, ranks=group)
    trainer.prepare()
    return trainer


def test_gradients_are_those_of_one_process_with_the_double_batch(tmp_path: Path) -> None:
    def work(group: ranks.Ranks) -> None:
        trainer = _trainer(tmp_path, group, toy.Quiet, gradient_accumulation_steps=1)
        trainer.gradients()
        save_file(
            {str(i): p.grad for i, p in enumerate(trainer.flat)}, tmp_path / f"{group.rank}.st"
        )

    toy.both(work)
    alone = _trainer(tmp_path, ranks.Ranks(), toy.Quiet, batch_size=8)
    alone.gradients()
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.st")
        for i, p in enumerate(alone.flat):
            torch.testing.assert_close(found[str(i)], p.grad, rtol=1e-5, atol=1e-7)


def test_a_whole_run_is_that_of_one_process_with_the_double_batch(tmp_path: Path) -> None:
    def work(group: ranks.Ranks) -> None:
        trainer = _trainer(tmp_path / "two", group, toy.Quiet)
        trainer.run()
        trainer.export()

    toy.both(work)
    toy.train(tmp_path / "one", recipe=toy.Quiet, batch_size=8)
    two, one = toy.weights(tmp_path / "two"), toy.weights(tmp_path / "one")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)


def test_ranks_draw_different_noise_and_resume_to_the_same_bits(tmp_path: Path) -> None:
    def draws(group: ranks.Ranks) -> None:
        trainer = _trainer(tmp_path / "x", group, toy.Toy)
        loss = trainer.recipe.loss(trainer.made(0)).detach().reshape(1)
        save_file({"loss": loss}, tmp_path / f"loss-{group.rank}.st")

    toy.both(draws)
    losses = [load_file(tmp_path / f"loss-{rank}.st")["loss"].item() for rank in (0, 1)]
    assert losses[0] != losses[1]

    def whole(folder: Path, resume: bool) -> Callable[[ranks.Ranks], None]:
        def work(group: ranks.Ranks) -> None:
            trainer = _trainer(folder, group, toy.Toy)
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
