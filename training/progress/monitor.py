"""The watch over a run: losses, events, trackers, faults, and what a user asks of it while it runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.accelerator import anyone
from training.errors import TrainingFault
from training.progress.events import Events
from training.progress.trackers import open_tracker
from training.state import sharding

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.recipes.base import Recipe
    from training.state.state import State


class Monitor:
    """One for a run, in every process; the main process writes."""

    def __init__(
        self, recipe: Recipe, folder: Path, accelerator: Accelerator, *, quiet: bool
    ) -> None:
        main = accelerator.is_main_process
        self.config, self.folder, self.accelerator = recipe.config, folder, accelerator
        self.recipe = recipe
        self.events = Events(folder, quiet=quiet or not main, silent=not main)
        self.tracker = open_tracker(self.config.report_to, folder) if main else None
        self.losses: list[Tensor] = []  # of micro-steps since the last report
        self.stop = False

    def listen(self, step: int) -> None:
        """Begins at `step`: SIGTERM stops the run after its step from now on."""
        self._started, self._first = time.perf_counter(), step

        def stop(number: int, frame: object) -> None:
            del number, frame
            self.stop = True

        try:
            signal.signal(signal.SIGTERM, stop)
        except ValueError:  # not the main thread: a test or a notebook
            return

    def stops(self) -> bool:
        """Whether any process was told to stop."""
        return anyone(self.accelerator, self.stop)

    def reports(self, step: int) -> bool:
        """Whether a report is due."""
        return step == self.config.steps or step % self.config.log_every == 0

    def due(self, request: str, step: int, every: int) -> bool:
        """Whether something is due after every `every` steps (0: never), at the last step, or asked for
        by a file `control/REQUEST`, which is taken away."""
        regular = bool(every) and (step == self.config.steps or step % every == 0)
        flag = self.folder / "control" / request
        asked = anyone(self.accelerator, self.accelerator.is_main_process and flag.exists())
        if asked and self.accelerator.is_main_process:
            flag.unlink(missing_ok=True)
        return regular or asked

    def check_finite(self, state: State) -> None:
        """Raises TrainingFault "nan" where a loss or a weight is not finite, in every process where it is
        in one; the only host sync."""
        norms = torch.stack(torch._foreach_norm(sharding.local(state.parameters)))
        losses = torch.stack(self.losses).sum() if self.losses else norms.new_zeros(())
        bad = not bool(torch.isfinite(norms.sum() + losses))
        if anyone(self.accelerator, bad):
            raise TrainingFault(
                "nan",
                f"the loss or a weight is not finite at step {state.step}; go on from the last "
                "checkpoint with --resume and a lower learning_rate or max_grad_norm",
            )

    def report(self, state: State) -> None:
        """One event with the mean loss of all processes since the last one."""
        self.check_finite(state)
        config = self.config
        loss = self.accelerator.reduce(torch.stack(self.losses).mean(), "mean")
        self.losses.clear()
        rate = (state.step - self._first) / (time.perf_counter() - self._started)
        pictures = config.batch_size * config.gradient_accumulation_steps
        figures = {
            "loss": loss.item(),
            "lr": state.learning_rate,
            "steps_per_s": rate,
            "images_per_s": rate * pictures * self.accelerator.num_processes,
            **{name: float(value) for name, value in self.recipe.figures.items()},
        }
        left = round((config.steps - state.step) / rate)
        self.events.write("step", step=state.step, steps=config.steps, **figures, eta=left)
        if self.tracker:
            self.tracker(state.step, figures, None)

    def validated(self, step: int, picture: Path, figures: Mapping[str, float]) -> None:
        """One event of a validation."""
        self.events.write("validation", step=step, picture=picture.name, **figures)
        if self.tracker:
            self.tracker(step, figures, picture if picture.exists() else None)
