"""How long a run takes here, measured: its first steps, its validation and a checkpoint, in a scratch folder.

The recipe itself runs, with the config's own networks, on the first examples of the data.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import TrainConfig

if TYPE_CHECKING:
    from training.loop import Trainer

_PATIENT = 6.0  # seconds of steps that are timed
_MOST = 12  # steps that are timed
_EXAMPLES = 8  # of the data set that are read
_QUICK = (
    0.15  # seconds of a step of one picture, up to which validation and a checkpoint are timed too
)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds on `device`. `step`: one optimizer step, worked out from steps of `measured` pictures.

    `start`: what comes before the first step. `rendering`, `encoding`, `caption`: one picture or caption that the cache
    lacks. `teacher`, `validation`, `checkpoint`: one of each; None where a step is so slow that they were not tried.
    """

    device: str
    measured: int
    step: float
    start: float
    rendering: float = 0.0
    encoding: float = 0.0
    caption: float = 0.0
    teacher: float | None = None
    validation: float | None = None
    checkpoint: float | None = None


def measure(recipe: str, config: TrainConfig, *, age: float = 0.0) -> Times:
    """Runs the beginning of a run and times it; `age`: seconds that this process has taken so far.

    Raises TrainingFault for what would end the run, and RuntimeError, ValueError, TypeError or OSError where it cannot be
    tried.
    """
    from training.accelerator import open_accelerator
    from training.loop import Trainer
    from training.recipes import find

    quiet = io.StringIO()
    with (
        tempfile.TemporaryDirectory(prefix="lcm-plan-") as scratch,
        redirect_stdout(quiet),
        redirect_stderr(quiet),
    ):
        began = time.perf_counter()
        trial = _trial(config, Path(scratch) / "cache")
        accelerator = open_accelerator(trial)
        made = find(recipe)(trial, accelerator.device)
        trainer = Trainer(made, Path(scratch) / "run", quiet=True, accelerator=accelerator)
        trainer.prepare()
        start = age + time.perf_counter() - began
        one = _step(trainer, pictures=1, most=3)
        pictures = max(1, min(config.batch_size, int(_PATIENT / max(one, 1e-6))))
        step = one if pictures == 1 else _step(trainer, pictures=pictures, most=_MOST)
        share = config.batch_size * config.gradient_accumulation_steps / pictures
        return Times(
            device=accelerator.device.type,
            measured=pictures,
            step=step * share,
            start=start,
            rendering=_rendering(trial),
            **_encoding(trainer),
            **(_rest(trainer) if one <= _QUICK else {}),
        )


def _trial(config: TrainConfig, cache: Path) -> TrainConfig:
    """`config` on the first examples, with a cache of its own, alone in this process, and without solved paths."""
    data: dict[str, Any] = {
        "cache": str(cache),
        "limit": _EXAMPLES,
        "flip": False,
        "crop": "center",
    }
    if config.data.kind == "huggingface":  # nothing is fetched for a plan
        data |= {"kind": "scenes", "path": None}
    changes: dict[str, Any] = {
        "data": config.data.model_copy(update=data | {"stored": True}),
        "steps": _MOST + 8,  # more than are timed
        "gradient_accumulation_steps": 1,
        "batch_size": 1,
        "lr_scheduler": "constant",
        "report_to": "none",
        "sharding": "none",
    }
    if getattr(config, "path_share", 0):
        changes["path_share"] = 0.0
    return config.model_copy(update=changes)


def _step(trainer: Trainer, *, pictures: int, most: int) -> float:
    """Seconds of a step of so many pictures, batches made ahead as in a run; the first one chooses kernels."""
    config = trainer.config.model_copy(update={"batch_size": pictures})
    trainer.config = trainer.recipe.config = config
    seconds: list[float] = []
    with trainer.batches() as batches:
        last = time.perf_counter()
        for batch in batches:
            float(trainer.micro_step(batch))  # waits for a GPU
            trainer.state.advance()
            now = time.perf_counter()
            seconds.append(now - last)
            last = now
            if len(seconds) > most or (len(seconds) > 1 and sum(seconds) > _PATIENT):
                break
    return sum(seconds[1:]) / len(seconds[1:])


def _rest(trainer: Trainer) -> dict[str, float]:
    """The teacher's pictures, a validation and a checkpoint."""
    parts = [("checkpoint", trainer.save)]
    if trainer.config.validate_every:
        parts = [
            ("teacher", trainer.validation.draw_teacher), ("validation", trainer.sample), *parts,
        ]  # fmt: skip
    return {name: _seconds(part) for name, part in parts}


def _encoding(trainer: Trainer) -> dict[str, float]:
    """One picture through the autoencoder and one caption through the text encoders, where a cache keeps them."""
    from training.recipes.latents import LatentRecipe, posterior

    recipe: Any = trainer.recipe
    if not isinstance(recipe, LatentRecipe):
        return {}
    times, data = {}, recipe.config.data
    examples = [(index, 0) for index in range(min(_EXAMPLES, len(recipe.source)))]
    if data.latents == "cached":
        import torch

        def encode() -> None:
            with torch.no_grad():
                posterior(recipe.vae, recipe.pictures(examples)).float().cpu()

        times["encoding"] = _seconds(encode) / len(examples)
    if data.text == "cached" and hasattr(recipe, "prompts"):
        captions = [recipe.source.caption(*example) for example in examples]
        times["caption"] = _seconds(lambda: recipe.prompts(captions)) / len(captions)
    return times


def _rendering(config: TrainConfig) -> float:
    """Seconds of a picture of a kind that is rendered, by all cores."""
    import os

    from training.data.load import RENDERED, open_source

    if config.data.kind not in RENDERED:
        return 0.0
    passing = config.data.model_copy(update={"stored": False})
    source = open_source(config.model_copy(update={"data": passing}))
    count = min(4, len(source))
    return _seconds(lambda: [source.item(i) for i in range(count)]) / count / (os.cpu_count() or 1)


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def down(vae: Mapping[str, Any]) -> int:
    """Pixels of a side per latent, from the config of an AutoencoderTiny or AutoencoderKL."""
    widths = vae.get("encoder_block_out_channels") or vae.get("block_out_channels") or [0] * 4
    return int(2 ** (len(widths) - 1))
