"""Options that change how networks run, not what they learn: TF32, checkpointing, xformers, compile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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


class _WideAttention(TorchFunctionMode):
    """Attention in float32 under autocast on the CPU, where its backward pass in bf16 is 7 times slower.

    Measured with torch 2.13, heads of width 28 and 40: a training step of the bundled UNet 1.3 times
    faster.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        given = kwargs or {}
        if func != functional.scaled_dot_product_attention:
            return func(*args, **given)
        dtype = args[0].dtype
        with torch.autocast("cpu", enabled=False):
            wide = {name: _wide(value) for name, value in given.items()}
            return func(*map(_wide, args), **wide).to(dtype)


def _wide(value: Any) -> Any:
    floats = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if floats else value


@contextmanager
def autocast(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """The `mixed_precision` of a config.

    With sharding nothing is cached: autocast keeps the cast weights of a whole pass, which would undo it.
    """
    if config.mixed_precision == "no":
        yield
        return
    dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float16
    # activations are computed again in the backward pass, which is outside: the types would differ
    wide = device.type == "cpu" and not (config.compile or config.gradient_checkpointing)
    cast = torch.autocast(device.type, dtype, cache_enabled=config.sharding == "none")
    with cast, _WideAttention() if wide else nullcontext():
        yield


def layout(config: TrainConfig, device: torch.device) -> torch.memory_format:
    """The memory format that convolutions are fastest in: channels last but for bf16 on the CPU."""
    plain = device.type == "cpu" and config.mixed_precision != "no"
    return torch.contiguous_format if plain else torch.channels_last
