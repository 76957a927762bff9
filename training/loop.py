"""The training loop. What surrounds it has rooms of its own: `state` (networks, optimizer, averages,
checkpoints), `progress` (events, pictures, faults, requests) and `prefetch` (batches made ahead)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.accelerator import open_accelerator
from training.prefetch import prefetched
from training.progress.monitor import Monitor
from training.progress.validation import Validation
from training.recipes.base import Draw, Recipe
from training.rng import generator, order
from training.state.state import State

if TYPE_CHECKING:
    from accelerate import Accelerator


class Trainer:
    """Runs one recipe to its last step, from nothing or from the newest valid checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        quiet: bool = False,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.recipe, self.config, self.folder = recipe, recipe.config, folder
        self.accelerator = accelerator or open_accelerator(recipe.config)
        self.monitor = Monitor(recipe, folder, self.accelerator, quiet=quiet)

    def prepare(self) -> None:
        """Opens networks, data and optimizer; nothing is loaded from a checkpoint yet."""
        self.state = State(self.recipe, self.accelerator)
        self.validation = Validation(self.recipe, self.state, self.folder)

    def resume(self) -> bool:
        """Goes on from the newest valid checkpoint; False where there is none at all."""
        resumed = self.state.resume(self.folder / "checkpoints")
        if resumed is not None:
            self.monitor.events.write("resumed", **resumed)
        return resumed is not None

    def run(self) -> bool:
        """Trains to the last step; False where SIGTERM stopped it (it has saved then)."""
        state, monitor, accelerator = self.state, self.monitor, self.accelerator
        monitor.listen(state.step)
        self.validation.draw_teacher()
        with self.batches() as batches:
            for batch in batches:
                monitor.losses.append(self.micro_step(batch))
                if not accelerator.sync_gradients:
                    continue
                state.advance()
                if monitor.reports(state.step):
                    monitor.report(state)
                stop = monitor.stops()
                if stop or monitor.due("save", state.step, self.config.checkpoint_every):
                    self.save()
                if monitor.due("sample", state.step, self.config.validate_every):
                    self.sample()
                if stop:
                    monitor.events.write("stopped", step=state.step)
                    break
        return state.step == self.config.steps

    def micro_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Forward and backward pass; at the last micro-step of a step the optimizer's, too. The loss."""
        state, accelerator, largest = self.state, self.accelerator, self.config.max_grad_norm
        with accelerator.accumulate(state.model):
            loss: Tensor = state.model(batch)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                state.set_learning_rate()
                if largest:
                    accelerator.clip_grad_norm_(state.parameters, largest)
            state.optimizer.step()
            state.optimizer.zero_grad()
        return loss.detach()

    @property
    def makes_ahead(self) -> bool:
        """Whether the next batch is made beside a step: on a CPU of two threads and more."""
        c, on_cpu = self.config, self.recipe.device.type == "cpu"
        # calls of split networks are collective: two threads would make them in any order
        return c.overlap and on_cpu and c.sharding == "none" and torch.get_num_threads() > 1

    def batches(self) -> AbstractContextManager[Iterator[dict[str, Tensor]]]:
        """The batches of all micro-steps from this step on."""
        micro = self.config.gradient_accumulation_steps
        numbers = range(self.state.step * micro, self.config.steps * micro)
        threads = torch.get_num_threads() if self.makes_ahead else 0
        return prefetched(self.batch, numbers, threads=threads)

    @torch.no_grad()
    def batch(self, number: int) -> dict[str, Tensor]:
        """The batch of micro-step `number`, counted from the start of the run, in this process."""
        c, rank = self.config, self.accelerator.process_index
        step, part = divmod(number, c.gradient_accumulation_steps)
        position = (number * self.accelerator.num_processes + rank) * c.batch_size
        draw = Draw(
            step=step,
            examples=tuple(order(position, c.batch_size, self.recipe.data_length(), c.seed)),
            generator=generator(c.seed, "step", step, part, rank),
        )
        return self.recipe.batch(draw)

    def save(self) -> None:
        """A checkpoint of this step; raises TrainingFault where a weight is not finite or the disk is full."""
        self.monitor.check_finite(self.state)
        self.state.save(self.folder / "checkpoints")
        self.monitor.events.write("checkpoint", step=self.state.step)

    def sample(self) -> None:
        """Validation pictures and figures of the averaged weights."""
        picture, figures = self.validation.sample()
        self.monitor.validated(self.state.step, picture, figures)

    def export(self) -> None:
        """The finished model into `output/`."""
        if self.state.takes_part:
            with self.state.averaged():
                self.recipe.export(self.folder / "output")
            self.monitor.events.write("exported", step=self.state.step)
        self.accelerator.wait_for_everyone()
