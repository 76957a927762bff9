"""The one training loop: micro-steps, optimizer, EMA, events, checkpoints, stop and resume."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoint, ema, lr
from training.data.tolerant import Tolerant
from training.errors import TrainingFault
from training.events import Events
from training.optimizer import make_optimizer, pack_state, unpack_state
from training.recipes.base import Draw, Recipe
from training.rng import generator, order


class Trainer:
    """Runs one recipe to its last step, from nothing or from the newest valid checkpoint."""

    def __init__(self, recipe: Recipe, folder: Path, *, quiet: bool = False) -> None:
        self.recipe = recipe
        self.config = recipe.config
        self.folder = folder
        self.events = Events(folder, quiet=quiet)
        self.step = 0
        self._stop = False

    def prepare(self) -> None:
        """Networks, optimizer and averages; nothing is loaded yet."""
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.allow_tf32:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        torch.manual_seed(config.seed)
        self.networks = self.recipe.build()
        self._tell_of_bad_samples()
        for network in self.networks.values():
            network.train()
        self.parameters: dict[str, list[nn.Parameter]] = {
            name: [p for p in network.parameters() if p.requires_grad]
            for name, network in self.networks.items()
        }
        self.flat = [p for group in self.parameters.values() for p in group]
        self.average = [p.detach().clone() for p in self.flat] if config.ema_decay else []
        self.optimizer = make_optimizer(
            config, {n: (g, self.recipe.rate(n)) for n, g in self.parameters.items()}
        )
        self.factor = lr.factor(config)
        self.peak = [group["lr"] for group in self.optimizer.param_groups]

    def _tell_of_bad_samples(self) -> None:
        """An event for each example that was skipped, so far and from now on."""
        source = getattr(self.recipe, "source", None)
        if isinstance(source, Tolerant):
            for message in source.bad.values():
                self.events.write("bad_sample", message=message)
            source.on_bad = lambda message: self.events.write("bad_sample", message=message)

    def resume(self) -> bool:
        """Goes on from the newest valid checkpoint; False where there is none."""
        found = checkpoint.newest(self.folder / "checkpoints")
        if found is None:
            return False
        tensors, state = checkpoint.load(found)
        for name, network in self.networks.items():
            network.load_state_dict(tensors[f"net.{name}"])
        for name, network in self.recipe.extra_state().items():
            network.load_state_dict(tensors[f"extra.{name}"])
        if self.average:
            for i, value in enumerate(self.average):
                value.copy_(tensors["ema"][str(i)])
        unpack_state(self.optimizer, tensors.get("optimizer", {}))
        self.step = int(state["step"])
        self.events.write("resumed", step=self.step, checkpoint=found.name)
        return True

    def save(self) -> None:
        """A checkpoint of this step."""
        groups: dict[str, dict[str, Tensor]] = {
            f"net.{name}": network.state_dict() for name, network in self.networks.items()
        }
        for name, network in self.recipe.extra_state().items():
            groups[f"extra.{name}"] = network.state_dict()
        if self.average:
            groups["ema"] = {str(i): value for i, value in enumerate(self.average)}
        groups["optimizer"] = pack_state(self.optimizer)
        state = {"config": self.config.model_dump(), "recipe": self.recipe.name}
        checkpoint.save(
            self.folder / "checkpoints", self.step, groups, state, keep=self.config.keep_checkpoints
        )
        self.events.write("checkpoint", step=self.step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The EMA weights in place of the live ones, in evaluation mode."""
        live = [p.detach().clone() for p in self.flat] if self.average else []
        with torch.no_grad():
            for p, value in zip(self.flat, self.average, strict=False):
                p.copy_(value)
        for network in self.networks.values():
            network.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.flat, live, strict=False):
                    p.copy_(value)
            for network in self.networks.values():
                network.train()

    def run(self) -> bool:
        """Trains to the last step; False where SIGTERM stopped it (it has saved then)."""
        config, started, marked = self.config, time.perf_counter(), self.step
        length = self.recipe.data_length()
        self._listen()
        losses: list[Tensor] = []
        while self.step < config.steps:
            losses.append(self._step(length))
            self.step += 1
            self.recipe.after_step(self.step)
            if self.average:
                ema.update(self.average, self.flat, ema.warmed(config.ema_decay, self.step))
            if self.step % config.log_every == 0 or self.step == config.steps:
                mean = torch.stack(losses).mean().item()
                losses.clear()
                self._report(mean, (self.step - marked) / (time.perf_counter() - started))
                if mean != mean or abs(mean) == float("inf"):
                    raise TrainingFault(
                        "nan",
                        f"the loss is {mean} at step {self.step}; resume from the last checkpoint "
                        "with a lower learning_rate or a smaller max_grad_norm",
                    )
            last = self.step == config.steps
            if (
                self._stop
                or last
                or self.step % config.checkpoint_every == 0
                or self._asked("save")
            ):
                self.save()
            every = config.validate_every
            if (every and (last or self.step % every == 0)) or self._asked("sample"):
                self.sample()
            if self._stop:
                self.events.write("stopped", step=self.step)
                return last
        return True

    def sample(self) -> None:
        """Validation pictures and figures of the averaged weights."""
        samples = self.folder / "samples"
        samples.mkdir(exist_ok=True)
        with self.averaged():
            figures = self.recipe.validate(samples, self.step)
        self.events.write("validation", step=self.step, **figures)

    def export(self) -> None:
        """The finished model into `output/`."""
        with self.averaged():
            self.recipe.export(self.folder / "output")
        self.events.write("exported", step=self.step)

    def _step(self, length: int) -> Tensor:
        config = self.config
        scale = self.factor(self.step)
        for group, peak in zip(self.optimizer.param_groups, self.peak, strict=True):
            group["lr"] = peak * scale
        micro, total = config.gradient_accumulation_steps, None
        for part in range(micro):
            position = (self.step * micro + part) * config.batch_size
            draw = Draw(
                step=self.step,
                examples=tuple(order(position, config.batch_size, length, config.seed)),
                generator=generator(config.seed, "step", self.step, part, 0),
            )
            batch = self.recipe.batch(draw)
            with self._autocast():
                loss = self.recipe.loss(batch) / micro
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        if config.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.flat, config.max_grad_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        assert total is not None
        return total

    def _autocast(self) -> Any:
        if self.config.mixed_precision == "no":
            return nullcontext()
        dtype = torch.bfloat16 if self.config.mixed_precision == "bf16" else torch.float16
        return torch.autocast(self.recipe.device.type, dtype)

    def _report(self, loss: float, rate: float) -> None:
        config = self.config
        images = config.batch_size * config.gradient_accumulation_steps
        self.events.write(
            "step",
            step=self.step,
            loss=loss,
            lr=self.optimizer.param_groups[0]["lr"],
            steps_per_s=rate,
            images_per_s=rate * images,
            eta=round((config.steps - self.step) / rate),
        )

    def _asked(self, request: str) -> bool:
        flag = self.folder / "control" / request
        if not flag.exists():
            return False
        flag.unlink(missing_ok=True)
        return True

    def _listen(self) -> None:
        def stop(number: int, frame: object) -> None:
            del number, frame
            self._stop = True

        try:
            signal.signal(signal.SIGTERM, stop)
        except ValueError:  # not the main thread: a test or a notebook
            return
