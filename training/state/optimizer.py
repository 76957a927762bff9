"""AdamW of a config, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.errors import TrainingFault
from training.state import sharding


def make_optimizer(
    config: TrainConfig, groups: Mapping[str, tuple[list[nn.Parameter], float]], *, world: int = 1
) -> torch.optim.Optimizer:
    """AdamW over named groups of (parameters, multiplier of the learning rate)."""
    rate = config.learning_rate
    if config.scale_lr:
        rate *= config.gradient_accumulation_steps * config.batch_size * world
    listed: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate * scale} for parameters, scale in groups.values()
    ]
    options: dict[str, Any] = {
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
        "weight_decay": config.adam_weight_decay,
    }
    if config.use_8bit_adam:
        if config.optimizer != "adamw":
            raise TrainingFault(
                "config",
                f"use_8bit_adam is on and optimizer={config.optimizer}; there is no 8-bit form of "
                "it, set use_8bit_adam to false or optimizer to adamw",
            )
        try:
            import bitsandbytes
        except ImportError as error:
            raise TrainingFault(
                "config",
                "use_8bit_adam is on but bitsandbytes is not installed; "
                "install it or set use_8bit_adam to false",
            ) from error
        if any(p.device.type != "cuda" for parameters, _ in groups.values() for p in parameters):
            raise TrainingFault(
                "config",
                "use_8bit_adam is on but the network is not on a CUDA GPU; set use_8bit_adam to false",
            )
        return bitsandbytes.optim.AdamW8bit(listed, **options)
    if config.optimizer == "muon":
        from training.state.muon import Muon, is_matrix

        split: list[dict[str, Any]] = []
        for group in listed:
            matrices = [p for p in group["params"] if is_matrix(p)]
            others = [p for p in group["params"] if not is_matrix(p)]
            split += [
                {"params": others, "lr": group["lr"]},
                {"params": matrices, "lr": group["lr"] * config.muon_scale, "muon": True},
            ]
        half = config.mixed_precision == "bf16"
        return Muon([g for g in split if g["params"]], half=half, fused=True, **options)
    return torch.optim.AdamW(listed, fused=True, **options)


def pack_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the optimizer's state under "index.name"."""
    packed = {}
    for index, fields in optimizer.state_dict()["state"].items():
        for name, value in fields.items():
            packed[f"{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return packed


def unpack_state(optimizer: torch.optim.Optimizer, packed: Mapping[str, Tensor]) -> None:
    """Puts back what `pack_state` returned, gathered; the parameters must be the same, split or not."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in packed.items():
        index, _, name = key.partition(".")
        split = sharding.like(parameters[int(index)], value)
        state.setdefault(int(index), {})[name] = split
    for fields in state.values():  # torch's AdamW wants a step count of every parameter
        fields.setdefault("step", torch.zeros(()))
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    for p, fields in optimizer.state.items():  # fused kernels want the parameter's memory layout
        for name, value in fields.items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                fields[name] = torch.empty_like(p).copy_(value)
