"""The state of a run: trained networks, their averages, the optimizer, the step; saved and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.accelerator import anyone, apply_options
from training.errors import TrainingFault
from training.precision import around, attention
from training.state import checkpoint, contents, ema, fits, lr, sharding
from training.state.optimizer import make_optimizer, unpack_state

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.recipes.base import Recipe


class Objective(nn.Module):
    """A recipe's loss as a module of its trained networks, for accelerate: autocast, and DDP's averages."""

    def __init__(self, recipe: Recipe, networks: dict[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.recipe = recipe

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch, a scalar."""
        with attention(self.recipe.config, self.recipe.device):
            return self.recipe.loss(batch)


class State:
    """What a recipe builds, ready to train at step 0."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        config = recipe.config
        self.recipe, self.config, self.accelerator, self.step = recipe, config, accelerator, 0
        self.sharded = config.sharding == "full"
        self.takes_part = accelerator.is_main_process or self.sharded  # in what rank 0 writes
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        recipe.autocast = around(accelerator.autocast, config, recipe.device)
        with accelerator.main_process_first():  # it fills the caches that the others read
            self.networks = recipe.build()
        if self.sharded:
            changing = (*self.networks.values(), *recipe.extra_state().values())
            sharding.split((*changing, *recipe.frozen()), recipe.device)
        apply_options(config, self.networks)
        groups = {
            name: [p for p in network.parameters() if p.requires_grad]
            for name, network in self.networks.items()
        }
        self.parameters: list[nn.Parameter] = [p for group in groups.values() for p in group]
        self.average = [p.detach().clone() for p in self.parameters] if config.ema_decay else []
        self.optimizer: Any = accelerator.prepare_optimizer(
            make_optimizer(
                config,
                {name: (group, recipe.rate(name)) for name, group in groups.items()},
                world=accelerator.num_processes,
            ),
            device_placement=False,
        )
        # split networks average their own gradients: no DDP around them
        self.model = accelerator.prepare_model(
            Objective(recipe, self.networks), device_placement=False, evaluation_mode=self.sharded
        ).train()
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._factor = lr.factor(config)

    @property
    def learning_rate(self) -> float:
        """Of the first group, at the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self) -> None:
        """That of this step, for every group."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self._factor(self.step)

    def advance(self) -> None:
        """The next step, and its averages of weights."""
        self.step += 1
        self.recipe.after_step(self.step)
        if self.average:
            decay = ema.warmed(self.config.ema_decay, self.step)
            ema.update(self.average, self.parameters, decay)

    @contextmanager
    def averaged(self, *, average: bool = True) -> Iterator[None]:
        """The EMA weights in place of the live ones, in evaluation mode; `average` False: the live ones."""
        swap = self.average if average else []
        live = [p.detach().clone() for p in self.parameters] if swap else []
        self._put(swap)
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self._put(live)
            self.model.train()

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for p, value in zip(self.parameters, values, strict=False):
            p.copy_(value)

    def save(self, root: Path) -> None:
        """A checkpoint below `root` by the main process; the others wait.

        Raises TrainingFault "disk" in every process where there is no room.
        """
        groups = contents.collect(
            self.networks, self.recipe.extra_state(), self.average, self.optimizer
        )
        self._check_disk(root, contents.size(groups))
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            about = {
                "config": self.config.model_dump(mode="json"),
                "recipe": self.recipe.name,
                "scaler": scaler.state_dict() if scaler is not None else {},
            }
            checkpoint.save(root, self.step, groups, about, keep=self.config.keep_checkpoints)
        elif self.sharded:
            contents.gather(groups)
        self.accelerator.wait_for_everyone()

    def _check_disk(self, root: Path, size: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
        if anyone(self.accelerator, self.accelerator.is_main_process and free < 2 * size):
            raise TrainingFault(
                "disk",
                f"{free / 1e6:.0f} MB are free and a checkpoint takes {size / 1e6:.0f} MB; "
                "free twice that and start again with --resume",
            )

    def resume(self, root: Path) -> dict[str, Any] | None:
        """Goes on from the newest valid checkpoint below `root`, and says where; None where there is none.

        Raises TrainingFault: "missing_weights" where there are checkpoints and all are spoiled, "config"
        where the newest one is of another run.
        """
        folder = checkpoint.newest(root)
        if folder is None:
            checkpoint.refuse_spoiled(root)
            return None
        tensors, about = checkpoint.load(folder)
        networks = contents.files(self.networks, self.recipe.extra_state())
        changes = fits.check(self.recipe, networks, about, tensors, folder)
        for name, network in networks.items():
            contents.put(network, tensors[name])
        kept = tensors.get("ema", {})
        for i, value in enumerate(self.average):  # without: averages begin with these weights
            sharding.fill(
                value, kept[str(i)] if kept else sharding.whole(self.parameters[i].detach())
            )
        unpack_state(self.optimizer, tensors.get("optimizer", {}))
        if about.get("scaler") and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(about["scaler"])
        self.step = int(about["step"])
        return {"step": self.step, "checkpoint": folder.name, **changes}
