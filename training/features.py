"""Options that change how networks run, not what they learn: TF32, checkpointing, xformers, compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from training.config import TrainConfig
from training.errors import TrainingFault


def apply_options(config: TrainConfig, networks: Mapping[str, Any]) -> None:
    """Switches on what the config asks for; raises TrainingFault "config" for what is not there.

    TF32 changes nothing without a GPU, which is said; xformers cannot run without one.
    """
    if config.allow_tf32 and not torch.cuda.is_available():
        print("allow_tf32 changes nothing: there is no CUDA GPU", flush=True)
    if config.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if config.enable_xformers:
        _need_xformers()
    for name, network in networks.items():
        if config.gradient_checkpointing:
            _call(network, name, "enable_gradient_checkpointing", "gradient_checkpointing_enable")
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


def _call(network: Any, name: str, *methods: str) -> None:
    for method in methods:
        if hasattr(network, method):
            getattr(network, method)()
            return
    raise TrainingFault(
        "config", f"gradient_checkpointing is on but the {name} has none; set it to false"
    )
