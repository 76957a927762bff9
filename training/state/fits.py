"""Whether a checkpoint is of the run that wants to go on from it: every difference by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from training.errors import TrainingFault
from training.state import contents

if TYPE_CHECKING:
    from torch import nn

    from training.recipes.base import Recipe

# The optimizer's state is of another form with another of these.
_OPTIMIZER = ("optimizer", "use_8bit_adam")
# Where and how a run computes, and how often it writes: no change that a user would want to hear of.
_SILENT = (
    "device", "threads", "overlap", "log_every", "checkpoint_every", "keep_checkpoints", "report_to",
    "validate_every", "compile", "sharding", "gradient_checkpointing", "allow_tf32", "enable_xformers",
)  # fmt: skip


def check(
    recipe: Recipe,
    networks: Mapping[str, nn.Module],
    about: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    folder: Path,
) -> dict[str, str]:
    """{"changed": fields that differ from those of the checkpoint}, or {} where none does.

    `networks`: by the names of their files. Raises TrainingFault "config" where the checkpoint cannot be gone on from: another recipe, optimizer
    or network.
    """
    if about.get("recipe", recipe.name) != recipe.name:
        raise TrainingFault(
            "config",
            f"{folder} is of recipe {about['recipe']} and this run is {recipe.name}; "
            "give another --output, or the recipe it was written with",
        )
    changes = changed(about.get("config") or {}, recipe.config.model_dump(mode="json"))
    for name in _OPTIMIZER:
        if name in changes:
            raise TrainingFault(
                "config",
                f"{folder} was written with {name}={_shown(changes[name][0])} and this run has "
                f"{name}={_shown(changes[name][1])}; set it back, or begin a new run from the "
                "output of this one (start_from)",
            )
    for name, network in networks.items():
        fault = _apart(network, tensors.get(name, {}))
        if fault:
            raise TrainingFault("config", _other_network(folder, fault, changes))
    told = [
        f"{name} {_shown(was)} -> {_shown(now)}"
        for name, (was, now) in changes.items()
        if name.split(".")[0] not in _SILENT
    ]
    return {"changed": "; ".join(told)} if told else {}


def changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{field: (then, now)} of fields that both have and that differ; sections by dotted names."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in was.keys() & now.keys():
        if isinstance(was[name], Mapping) and isinstance(now[name], Mapping):
            inner = changed(was[name], now[name])
            found |= {f"{name}.{key}": pair for key, pair in inner.items()}
        elif was[name] != now[name]:
            found[name] = was[name], now[name]
    return dict(sorted(found.items()))


def _apart(network: nn.Module, saved: Mapping[str, Tensor]) -> str:
    """The first tensor that is another one in the checkpoint, in words; empty where all fit."""
    here = contents.kept(network)
    for name in sorted(here.keys() | saved.keys()):
        then, now = (tuple(side[name].shape) if name in side else None for side in (saved, here))
        if then != now:
            return f"{name} is {then or 'nothing'} there and {now or 'nothing'} here"
    return ""


def _other_network(folder: Path, fault: str, changes: Mapping[str, tuple[Any, Any]]) -> str:
    fields = [
        f"{name} was {_shown(was)} and is {_shown(now)}"
        for name, (was, now) in changes.items()
        if name.split(".")[0] not in (*_SILENT, "steps", "learning_rate")
    ]
    why = f" ({'; '.join(fields)})" if fields else ""
    return (
        f"{folder} is of another network: {fault}{why}; resume with the config it was written with, or "
        "give another --output"
    )


def _shown(value: Any) -> str:
    return str(value)[:60]
