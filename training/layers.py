"""Linear layers and convolutions as a CPU trains them fastest: the same sums, on other kernels and in another order.

* Products of matrices are oneDNN's, which is up to twice as quick (`lcm_studio.dense`).
* The backward pass waits for the gradient of every layer's input before it can go on; nobody waits for those of the
  weights until the optimizer does. `Later` gives them to whichever thread is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lcm_studio import dense
from lcm_studio.dense import times
from training.ahead import Beside

Gradients = tuple[Tensor | None, ...]


class _Pending:
    """Gradients of some parameters of one layer, once they are made."""

    def __init__(self, parameters: tuple[nn.Parameter, ...], make: Callable[[], Gradients]) -> None:
        self.parameters = parameters
        self._make: Callable[[], Gradients] | None = make
        self.made: Gradients = ()

    def run(self) -> None:
        assert self._make is not None
        self.made = tuple(
            None if g is None else _laid_out_as(p, g)
            for p, g in zip(self.parameters, self._make(), strict=True)
        )
        self._make = None  # frees the activations


_Queue = SimpleQueue[_Pending | None]


def _laid_out_as(p: Tensor, gradient: Tensor) -> Tensor:
    """`gradient` in the memory layout of `p`, as autograd leaves it for the optimizer."""
    return gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)


class Later:
    """Gradients of weights that a backward pass leaves to two threads: `beside`, and its own at the end.

    Each is made by one call on one thread, and they are added in the order that the pass left them in: the numbers
    do not depend on who was quicker. For that, both threads must have as many cores; else only `beside` works.
    """

    def __init__(self, beside: Beside, threads: int) -> None:
        self._beside = beside
        self._helps = beside.threads == threads
        self._queue: _Queue | None = None
        self._left: list[_Pending] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Later:
        """Itself: a copy of a network that is in training has layers that know of it."""
        return self

    def takes(self, parameters: tuple[nn.Parameter, ...], make: Callable[[], Gradients]) -> bool:
        """Whether `make()`, the gradients of `parameters` or None, is left for later: not outside of `gathering`."""
        if self._queue is None:
            return False
        pending = _Pending(parameters, make)
        self._left.append(pending)
        self._queue.put(pending)
        return True

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Around a backward pass; after it every `.grad` is there. What a thread raises comes out here."""
        queue = self._queue = SimpleQueue()
        ended = self._beside.start(lambda: _work(queue))
        try:
            yield
            if self._helps:
                _help(queue)
        finally:
            queue.put(None)
            left, self._left, self._queue = self._left, [], None
            ended()
        for pending in left:
            for p, gradient in zip(pending.parameters, pending.made, strict=True):
                if gradient is not None:
                    p.grad = gradient if p.grad is None else p.grad + gradient


@torch.no_grad()
def _work(queue: _Queue) -> None:
    """Makes what is left, until the end."""
    for pending in iter(queue.get, None):
        pending.run()


@torch.no_grad()
def _help(queue: _Queue) -> None:
    """Makes what is left now."""
    while True:
        try:
            pending = queue.get_nowait()
        except Empty:
            return
        assert pending is not None  # the end is put there by this thread, after this
        pending.run()


class _LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, later: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias, ctx.later = bias, later
        return times(x, weight.flatten(1), bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        rows, seen = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        grad = times(rows, weight.flatten(1).t()).reshape(x.shape) if of_x else None

        def weights() -> Gradients:
            w = times(rows.t(), seen.t()).reshape(weight.shape) if of_weight else None
            return w, rows.sum(0) if of_bias else None

        return (grad, *_now_or_later(ctx, weight, weights), None)


class _Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, later: Any, options: Any
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias, ctx.later, ctx.options = bias, later, options
        return functional.conv2d(x, weight, bias, *options)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _, _ = ctx.needs_input_grad
        stride, padding, dilation, groups = ctx.options
        g = g.contiguous(memory_format=torch.channels_last)

        def of(*wanted: bool) -> Any:
            shape = [len(weight)] if ctx.bias is not None else None
            fixed = (stride, padding, dilation, False, [0, 0], groups, wanted)
            return torch.ops.aten.convolution_backward(g, x, weight, shape, *fixed)

        grad = of(True, False, False)[0] if of_x else None

        def weights() -> Gradients:
            _, w, b = of(False, of_weight, of_bias)
            return w, b

        return (grad, *_now_or_later(ctx, weight, weights), None, None)


def _now_or_later(ctx: Any, weight: Tensor, make: Callable[[], Gradients]) -> Gradients:
    """The gradients of weight and bias, or None for both where they are made later."""
    given = (weight, ctx.bias)
    if not any(ctx.needs_input_grad[1:3]):
        return None, None
    leaves = all(p is None or (p.is_leaf and p.requires_grad) for p in given)
    parameters = tuple(p for p in given if p is not None)
    if leaves and ctx.later and ctx.later.takes(parameters, lambda: make()[: len(parameters)]):
        return None, None
    return make()


class Linear(nn.Linear):
    """nn.Linear by oneDNN, for tokens; vectors are too few to gain."""

    later: Later | None = None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3:
            return super().forward(x)
        if not torch.is_grad_enabled():
            return times(x, self.weight, self.bias)
        found: Tensor = _LinearFunction.apply(x, self.weight, self.bias, self.later)
        return found


class Conv2d(nn.Conv2d):
    """nn.Conv2d whose weights can wait for their gradients; one of 1 x 1 is a product of matrices."""

    later: Later | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)  # where it is not, oneDNN copies more
        if self._is_product():
            tokens = x.permute(0, 2, 3, 1)
            if not torch.is_grad_enabled():
                return times(tokens, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
            found: Tensor = _LinearFunction.apply(tokens, self.weight, self.bias, self.later)
            return found.permute(0, 3, 1, 2)
        if not torch.is_grad_enabled():
            return super().forward(x)
        options = (self.stride, self.padding, self.dilation, self.groups)
        made: Tensor = _Conv2dFunction.apply(x, self.weight, self.bias, self.later, options)
        return made

    def _is_product(self) -> bool:
        single = self.kernel_size == (1, 1) and self.stride == (1, 1)
        return single and self.groups == 1 and self.padding == (0, 0)


def swap(network: nn.Module) -> None:
    """Makes the plain float32 layers of `network` those above, with the same weights and names."""
    for layer in network.modules():
        if type(layer) in (nn.Linear, dense.Linear):
            layer.__class__ = Linear
        elif type(layer) is nn.Conv2d and _is_plain(layer):
            layer.__class__ = Conv2d


def _is_plain(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def leave(network: nn.Module, later: Later | None) -> None:
    """From now on the layers leave the gradients of their weights to `later`; None: made at once."""
    for layer in network.modules():
        if isinstance(layer, Linear | Conv2d):
            layer.later = later
