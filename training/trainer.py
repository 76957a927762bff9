"""The one training loop: micro-steps, optimizer, EMA, events, checkpoints, stop and resume."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from training import checkpoint, contents, ema, lr, shards
from training.ahead import Ahead, Beside, beside
from training.errors import TrainingFault
from training.events import Events
from training.features import apply_options, autocast
from training.layers import Later, leave
from training.optimizer import Halves, clip, make_optimizer, unpack_state
from training.pictures import stack
from training.ranks import Ranks
from training.recipes.base import Draw, Recipe
from training.rng import generator, order
from training.trackers import open_tracker

_ALONE = Ranks()


class Trainer:
    """Runs one recipe to its last step, from nothing or from the newest valid checkpoint."""

    def __init__(
        self, recipe: Recipe, folder: Path, *, quiet: bool = False, ranks: Ranks = _ALONE
    ) -> None:
        self.recipe = recipe
        self.config = recipe.config
        self.folder = folder
        self.ranks = ranks
        self.sharded = self.config.sharding == "full"
        self.takes_part = ranks.main or self.sharded  # in what rank 0 writes
        self.events = Events(folder, quiet=quiet or not ranks.main, silent=not ranks.main)
        self.step = 0
        self._stop = False
        self._losses: list[Tensor] = []
        self.ahead = Ahead(self.made, None, 0)
        self.later: Later | None = None
        self.halves: Halves | None = None
        self._averaged: Callable[[], None] | None = None

    def prepare(self) -> None:
        """Networks, optimizer and averages; nothing is loaded yet."""
        config = self.config
        shards.check(config, self.ranks.world)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        for turn in (True, False):  # rank 0 first: it fills the caches that the others read
            if self.ranks.main is turn:
                self.networks = self.recipe.build()
            self.ranks.wait()
        if self.sharded:
            changing = (*self.networks.values(), *self.recipe.extra_state().values())
            shards.split((*changing, *self.recipe.frozen()), self.recipe.device)
        apply_options(config, self.networks)
        self._train()
        self.parameters: dict[str, list[nn.Parameter]] = {
            name: [p for p in network.parameters() if p.requires_grad]
            for name, network in self.networks.items()
        }
        self.flat = [p for group in self.parameters.values() for p in group]
        self.average = [p.detach().clone() for p in self.flat] if config.ema_decay else []
        self.optimizer = make_optimizer(
            config,
            {n: (g, self.recipe.rate(n)) for n, g in self.parameters.items()},
            world=self.ranks.world,
        )
        self.scaler = torch.amp.GradScaler(
            self.recipe.device.type, enabled=config.mixed_precision == "fp16"
        )
        self.factor = lr.factor(config)
        self.peak = [group["lr"] for group in self.optimizer.param_groups]
        self.tracker = open_tracker(config.report_to, self.folder) if self.ranks.main else None

    def resume(self) -> bool:
        """Goes on from the newest valid checkpoint; False where there is none."""
        found = checkpoint.newest(self.folder / "checkpoints")
        if found is None:
            return False
        tensors, state = checkpoint.load(found)
        for name, network in self.networks.items():
            contents.put(network, tensors[f"net.{name}"])
        for name, network in self.recipe.extra_state().items():
            contents.put(network, tensors[f"extra.{name}"])
        for i, value in enumerate(self.average):
            shards.fill(value, tensors["ema"][str(i)])
        unpack_state(self.optimizer, tensors.get("optimizer", {}))
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self.events.write("resumed", step=self.step, checkpoint=found.name)
        return True

    def save(self) -> None:
        """A checkpoint of this step, by rank 0; the others wait. Refused where a weight is not finite."""
        self.settle()
        self._check_finite()
        groups = contents.collect(
            self.networks, self.recipe.extra_state(), self.average, self.optimizer
        )
        self._check_disk(contents.size(groups))
        if self.ranks.main:
            state = {
                "config": self.config.model_dump(mode="json"),
                "recipe": self.recipe.name,
                "scaler": self.scaler.state_dict(),
            }
            where, keep = self.folder / "checkpoints", self.config.keep_checkpoints
            checkpoint.save(where, self.step, groups, state, keep=keep)
            self.events.write("checkpoint", step=self.step)
        elif self.sharded:
            contents.gather(groups)
        self.ranks.wait()

    def _check_disk(self, size: int) -> None:
        """Raises TrainingFault "disk" in every process where rank 0 has no room."""
        free = shutil.disk_usage(self.folder).free
        if self.ranks.any(self.ranks.main and free < 2 * size, self.recipe.device):
            raise TrainingFault(
                "disk",
                f"{free / 1e6:.0f} MB are free and a checkpoint takes {size / 1e6:.0f} MB; "
                "free twice that and start again with --resume",
            )

    @contextmanager
    def averaged(self, *, average: bool = True) -> Iterator[None]:
        """The EMA weights in place of the live ones, in evaluation mode; `average` False: the live ones."""
        self.settle()
        swap = self.average if average else []
        live = [p.detach().clone() for p in self.flat] if swap else []
        with torch.no_grad():
            for p, value in zip(self.flat, swap, strict=False):
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
            self._train()

    def run(self) -> bool:
        """Trains to the last step; False where SIGTERM stopped it (it has saved then)."""
        self._listen()
        self._draw_teacher()
        with self.overlapped():
            return self._run()

    def _run(self) -> bool:
        config = self.config
        started, marked = time.perf_counter(), self.step
        while self.step < config.steps:
            self._losses.append(self.advance())
            last = self.step == config.steps
            if last or self.step % config.log_every == 0:
                self._report((self.step - marked) / (time.perf_counter() - started))
            stop = self.ranks.any(self._stop, self.recipe.device)
            if stop or last or self.step % config.checkpoint_every == 0 or self._asked("save"):
                self.save()
            every = config.validate_every
            if (every and (last or self.step % every == 0)) or self._asked("sample"):
                self.sample()
            if stop:
                self.events.write("stopped", step=self.step)
                return last
        return True

    def sample(self) -> None:
        """Validation pictures and figures of the averaged weights, by rank 0."""
        if self.takes_part:
            with self._samples() as samples:
                picture = samples / f"step-{self.step:06d}.png"
                figures = self._draw(samples, picture)
                self.events.write("validation", step=self.step, picture=picture.name, **figures)
                if self.tracker:
                    self.tracker(self.step, figures, picture if picture.exists() else None)
        self.ranks.wait()

    @contextmanager
    def _samples(self) -> Iterator[Path]:
        """`samples/` of rank 0; for others, who draw the same with it, a folder that is thrown away."""
        if self.ranks.main:
            samples = self.folder / "samples"
            samples.mkdir(parents=True, exist_ok=True)
            yield samples
        else:
            with tempfile.TemporaryDirectory(prefix="samples-") as part:
                yield Path(part)

    def _draw(self, samples: Path, picture: Path) -> dict[str, float]:
        """Teacher, averaged weights and live ones on one sheet; the figures of the averaged ones."""
        teacher = samples / "teacher.png"
        with tempfile.TemporaryDirectory(prefix=".part-", dir=samples) as part:
            if self.average:
                with self.averaged(average=False):
                    self.recipe.validate(Path(part), self.step)
            live = Path(part) / picture.name
            with self.averaged():
                figures = self.recipe.validate(samples, self.step)
            if picture.exists() and (teacher.exists() or live.exists()):
                own = ("averaged weights (EMA)" if self.average else "live weights", picture)
                stack([("teacher", teacher), own, ("live weights", live)], picture)
        return figures

    def _draw_teacher(self) -> None:
        """samples/teacher.png, once, where there is a teacher."""
        if not self.config.validate_every:
            return
        lacking = self.ranks.main and not (self.folder / "samples" / "teacher.png").exists()
        if self.ranks.any(lacking, self.recipe.device) and self.takes_part:
            with self._samples() as samples, torch.no_grad():
                self.recipe.draw_teacher(samples / "teacher.png")
        self.ranks.wait()

    def export(self) -> None:
        """The finished model into `output/`, by rank 0."""
        if self.takes_part:
            with self.averaged():
                self.recipe.export(self.folder / "output")
            self.events.write("exported", step=self.step)
        self.ranks.wait()

    @contextmanager
    def overlapped(self) -> Iterator[None]:
        """Within it a second thread works beside the steps, where config, recipe and machine allow it."""
        # calls of split networks are collective: two threads would make them in any order
        wanted = self.config.overlap and self.recipe.overlaps and not self.sharded
        with beside(wanted, self.recipe.device) as second:
            steps = self.config.steps * self.config.gradient_accumulation_steps
            self.ahead = Ahead(self.made, second, steps)
            self.recipe.beside = second
            self._share_with(second)
            try:
                yield
                self.settle()
            finally:
                self.ahead, self.recipe.beside = Ahead(self.made, None, 0), None
                self._share_with(None)

    def _share_with(self, second: Beside | None) -> None:
        """From now on `second` makes gradients of weights too, and half of AdamW's steps."""
        self.later = None if second is None else Later(second, torch.get_num_threads())
        for network in self.networks.values():
            leave(network, self.later)
        self.halves = None
        if second is not None and not self.scaler.is_enabled():
            self.halves = Halves.of(self.optimizer, second)

    def gradients(self) -> Tensor:
        """Accumulates the gradients of this step, averaged over micro-steps and ranks; the loss."""
        config, total = self.config, None
        micro = config.gradient_accumulation_steps
        for part in range(micro):
            number = self.step * micro + part
            batch = self.ahead.take(number)
            begin_next = partial(self.ahead.start, number + 1)
            if self.recipe.beside is not None:
                self.recipe.beside.then(begin_next)
            with autocast(config, self.recipe.device):
                loss = self.recipe.loss(batch) / micro
            begin_next()
            with self.later.gathering() if self.later else nullcontext():
                self.scaler.scale(loss).backward()
            total = loss.detach() if total is None else total + loss.detach()
        if not self.sharded:  # else each backward pass has averaged and split them
            self.ranks.average([p.grad for p in self.flat if p.grad is not None])
        assert total is not None
        return total

    def made(self, number: int) -> dict[str, Tensor]:
        """The batch of micro-step `number`, counted from the start of the run, on this rank."""
        config, ranks = self.config, self.ranks
        step, part = divmod(number, config.gradient_accumulation_steps)
        position = (number * ranks.world + ranks.rank) * config.batch_size
        length = self.recipe.data_length()
        draw = Draw(
            step=step,
            examples=tuple(order(position, config.batch_size, length, config.seed)),
            generator=generator(config.seed, "step", step, part, ranks.rank),
        )
        with torch.no_grad():
            batch = self.recipe.batch(draw)
            with autocast(config, self.recipe.device):
                return self.recipe.prepared(batch)

    def advance(self) -> Tensor:
        """One step and its averages of weights; the loss as a tensor, so that nothing waits for the device.

        With a second thread the averages are made beside the next step, before its target: see `settle`.
        """
        loss = self.optimizer_step()
        self.step += 1
        self.settle()
        if self.recipe.beside is None:
            self._average(self.step)
        else:
            self._averaged = self.recipe.beside.start(partial(self._average, self.step))
        return loss

    def settle(self) -> None:
        """Waits for the averages of the last step."""
        averaged, self._averaged = self._averaged, None
        if averaged is not None:
            averaged()

    def _average(self, step: int) -> None:
        self.recipe.after_step(step)
        if self.average:
            ema.update(self.average, self.flat, ema.warmed(self.config.ema_decay, step))

    def optimizer_step(self) -> Tensor:
        """One step of the optimizer; the loss."""
        scale = self.factor(self.step)
        for group, peak in zip(self.optimizer.param_groups, self.peak, strict=True):
            group["lr"] = peak * scale
        loss = self.gradients()
        if self.config.max_grad_norm:
            self.scaler.unscale_(self.optimizer)
            clip(self.flat, self.config.max_grad_norm, sharded=self.sharded)
        if self.halves is not None:
            self.halves.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _train(self) -> None:
        for network in self.networks.values():
            network.train()

    def _check_finite(self) -> None:
        """Raises TrainingFault "nan" where a loss or a weight is not finite, in every process where it is
        in one; the only host sync."""
        norms = torch.stack(torch._foreach_norm(shards.local(self.flat)))
        losses = torch.stack(self._losses).sum() if self._losses else norms.new_zeros(())
        bad = not bool(torch.isfinite(norms.sum() + losses))
        if self.ranks.any(bad, self.recipe.device):
            raise TrainingFault(
                "nan",
                f"the loss or a weight is not finite at step {self.step}; go on from the last "
                "checkpoint with --resume and a lower learning_rate or max_grad_norm",
            )

    def _report(self, rate: float) -> None:
        config = self.config
        self._check_finite()
        mean = torch.stack(self._losses).mean()
        self.ranks.average([mean])
        self._losses.clear()
        images = config.batch_size * config.gradient_accumulation_steps * self.ranks.world
        figures = {
            "loss": mean.item(),
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "steps_per_s": rate,
            "images_per_s": rate * images,
            **{name: float(value) for name, value in self.recipe.figures.items()},
        }
        left = round((config.steps - self.step) / rate)
        self.events.write("step", step=self.step, steps=config.steps, **figures, eta=left)
        if self.tracker:
            self.tracker(self.step, figures, None)

    def _asked(self, request: str) -> bool:
        flag = self.folder / "control" / request
        asked = self.ranks.any(self.ranks.main and flag.exists(), self.recipe.device)
        if asked and self.ranks.main:
            flag.unlink(missing_ok=True)
        return asked

    def _listen(self) -> None:
        def stop(number: int, frame: object) -> None:
            del number, frame
            self._stop = True

        try:
            signal.signal(signal.SIGTERM, stop)
        except ValueError:  # not the main thread: a test or a notebook
            return
