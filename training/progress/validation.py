"""Validation while a run goes on: teacher, averaged weights and live ones on one sheet, and figures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from training.accelerator import anyone
from training.progress.sheets import stack

if TYPE_CHECKING:
    from training.recipes.base import Recipe
    from training.state.state import State


class Validation:
    """Pictures go to `folder/samples`, by the main process; where networks are split all draw with it."""

    def __init__(self, recipe: Recipe, state: State, folder: Path) -> None:
        self.recipe, self.state, self.accelerator = recipe, state, state.accelerator
        self.folder = folder / "samples"

    def draw_teacher(self) -> None:
        """teacher.png, once, where there is a teacher and the run draws pictures."""
        if not self.recipe.config.validate_every:
            return
        main = self.accelerator.is_main_process
        lacking = anyone(self.accelerator, main and not (self.folder / "teacher.png").exists())
        if lacking and self.state.takes_part:
            with self._place() as samples, torch.no_grad():
                self.recipe.draw_teacher(samples / "teacher.png")
        self.accelerator.wait_for_everyone()

    def sample(self) -> tuple[Path, dict[str, float]]:
        """The sheet of this step, and the figures of the averaged weights."""
        name, figures = f"step-{self.state.step:06d}.png", {}
        if self.state.takes_part:
            with self._place() as samples:
                figures = self._draw(samples, samples / name)
        self.accelerator.wait_for_everyone()
        return self.folder / name, figures

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """`samples/` of the main process; for others, who draw the same, a folder that is thrown away."""
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield self.folder
        else:
            with tempfile.TemporaryDirectory(prefix="samples-") as part:
                yield Path(part)

    def _draw(self, samples: Path, picture: Path) -> dict[str, float]:
        teacher, step = samples / "teacher.png", self.state.step
        averages = bool(self.state.average)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=samples) as part:
            if averages:
                with self.state.averaged(average=False):
                    self.recipe.validate(Path(part), step)
            live = Path(part) / picture.name
            with self.state.averaged():
                figures = self.recipe.validate(samples, step)
            if picture.exists() and (teacher.exists() or live.exists()):
                shown = "averaged weights (EMA)" if averages else "live weights"
                rows = [("teacher", teacher), (shown, picture), ("live weights", live)]
                stack(rows, picture)
        return figures
