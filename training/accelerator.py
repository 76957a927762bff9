"""The Accelerator of a run: device, processes, precision, accumulation and clipping are its job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from training.config import TrainConfig
from training.errors import TrainingFault

if TYPE_CHECKING:
    from accelerate import Accelerator


def open_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator that a config asks for; raises TrainingFault "config" where it cannot be had.

    `torchrun --nproc_per_node N -m training ...` starts several processes: gloo on CPUs, NCCL on GPUs.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState
    from accelerate.utils import (
        AutocastKwargs,
        DistributedDataParallelKwargs,
        GradientAccumulationPlugin,
        InitProcessGroupKwargs,
    )

    device = check_device(config)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # accelerate keeps one state for a process; a second run in it (a test, a notebook) starts anew
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=config.mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        kwargs_handlers=[
            # autocast would keep the cast weights of a whole pass, which would undo the sharding
            AutocastKwargs(cache_enabled=config.sharding == "none"),
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=timedelta(minutes=30)),
        ],
    )
    if config.sharding == "full" and accelerator.num_processes == 1:
        raise TrainingFault(
            "config",
            "sharding=full splits the networks over processes and there is one; start several with "
            "torchrun --nproc_per_node N -m training ..., or set sharding to none",
        )
    return accelerator


def check_device(config: TrainConfig) -> torch.device:
    """The device of a config; raises TrainingFault "config" where this machine lacks it, or it lacks fp16."""
    device = device_of(config.device)
    if config.mixed_precision == "fp16" and device.type == "cpu":
        raise TrainingFault(
            "config", "mixed_precision=fp16 needs a GPU; set mixed_precision to bf16 or no"
        )
    return device


def device_of(name: str) -> torch.device:
    """The device of a config; cuda is the GPU of this process, auto too where there is one."""
    import os

    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingFault(
            "config", f"device={name} and there is no CUDA GPU; set device to auto or cpu"
        )
    if name in ("auto", "cuda"):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def anyone(accelerator: Accelerator, flag: bool) -> bool:
    """Whether any process says so; every process gets the same answer."""
    if accelerator.num_processes == 1:  # check_trigger would wait for the GPU
        return flag
    if flag:
        accelerator.set_trigger()
    return bool(accelerator.check_trigger())


def apply_options(config: TrainConfig, networks: Mapping[str, Any]) -> None:
    """Options that change how networks run, not what they learn: TF32, checkpointing, xformers, compile.

    Raises TrainingFault "config" for what is not there. TF32 changes nothing without a GPU, which is said.
    """
    if config.allow_tf32 and not torch.cuda.is_available():
        print("allow_tf32 changes nothing: there is no CUDA GPU", flush=True)
    if config.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if config.enable_xformers:
        _need_xformers()
    if config.gradient_checkpointing:
        _checkpoint(networks)
    for network in networks.values():
        if config.enable_xformers and hasattr(
            network, "enable_xformers_memory_efficient_attention"
        ):
            network.enable_xformers_memory_efficient_attention()
        if config.compile:
            network.compile()


def _need_xformers() -> None:
    try:
        import xformers  # noqa: F401
    except ImportError as error:
        raise TrainingFault(
            "config",
            "enable_xformers is on but xformers is not installed; install it, or leave it off: "
            "PyTorch's own attention is used then",
        ) from error
    if not torch.cuda.is_available():
        raise TrainingFault(
            "config", "enable_xformers is on but there is no CUDA GPU; set enable_xformers to false"
        )


def _checkpoint(networks: Mapping[str, Any]) -> None:
    """Activations are made again in the backward pass, where a network can: a critic or judge is small and cannot."""
    methods = ("enable_gradient_checkpointing", "gradient_checkpointing_enable")
    able = [
        getattr(network, method)
        for network in networks.values()
        for method in methods
        if hasattr(network, method)
    ]
    if not able:
        raise TrainingFault(
            "config",
            f"gradient_checkpointing is on but the {' and the '.join(networks)} has none; set it to false",
        )
    for enable in able:
        enable()
