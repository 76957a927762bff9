"""Further places for figures and pictures beside events.jsonl: TensorBoard, trackio, wandb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from training.errors import TrainingFault

Tracker = Callable[[int, Mapping[str, float], Path | None], None]


def open_tracker(name: str, folder: Path) -> Tracker | None:
    """tracker(step, figures, picture); None for "none". Raises TrainingFault where it is missing."""
    if name == "none":
        return None
    try:
        return _tensorboard(folder) if name == "tensorboard" else _board(name, folder)
    except ImportError as error:
        raise TrainingFault(
            "config", f"report_to={name} but {name} is not installed; install it or use none"
        ) from error


def _tensorboard(folder: Path) -> Tracker:
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def track(step: int, figures: Mapping[str, float], picture: Path | None) -> None:
        for key, value in figures.items():
            writer.add_scalar(key, value, step)
        if picture is not None:
            writer.add_image("samples", np.asarray(Image.open(picture)), step, dataformats="HWC")
        writer.flush()

    return track


def _board(name: str, folder: Path) -> Tracker:
    from importlib import import_module

    board = import_module(name)
    board.init(project="lcm-studio", name=folder.resolve().name)

    def track(step: int, figures: Mapping[str, float], picture: Path | None) -> None:
        row: dict[str, object] = dict(figures)
        if picture is not None:
            row["samples"] = board.Image(str(picture))
        board.log(row, step=step)

    return track
