"""What half precision on a CPU wants besides accelerate's autocast: attention in float32, and plain layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from training.config import TrainConfig


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


def attention(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Around calls of networks under autocast; nothing where attention is right as it is."""
    halved = config.mixed_precision != "no" and device.type == "cpu"
    # activations are computed again in the backward pass, which is outside: the types would differ
    again = config.compile or config.gradient_checkpointing
    return _WideAttention() if halved and not again else nullcontext()


def around(
    autocast: Callable[[], AbstractContextManager[Any]], config: TrainConfig, device: torch.device
) -> Callable[[], AbstractContextManager[Any]]:
    """`autocast` with `attention` in it."""

    @contextmanager
    def precision() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(autocast())
            stack.enter_context(attention(config, device))
            yield

    return precision


def layout(config: TrainConfig, device: torch.device) -> torch.memory_format:
    """The memory format that convolutions are fastest in: channels last but for bf16 on the CPU."""
    plain = device.type == "cpu" and config.mixed_precision != "no"
    return torch.contiguous_format if plain else torch.channels_last
