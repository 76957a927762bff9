"""One call of a network as a tuple of tensors, and the network as a module of such tuples."""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Function: TypeAlias = Callable[..., Tensor]
"""(network, *args, **kwargs) -> Tensor: how the network is called."""

Shapes: TypeAlias = tuple[tuple[int, ...], ...]

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True, eq=False)
class Call:
    """Arguments of a call: the tensors, and around them the structure with everything that is no tensor.

    `layout`: equal for calls that differ in the tensors' values and sizes alone.
    """

    tensors: tuple[Tensor, ...]
    layout: Hashable
    structure: Any

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        """Takes the arguments apart."""
        leaves, spec = pytree.tree_flatten((tuple(args), kwargs))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        constants = tuple(None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves)
        kinds = tuple((t.ndim, str(t.dtype)) for t in tensors)
        return cls(tensors, (str(spec), repr(constants), kinds), (spec, constants))

    @property
    def rows(self) -> int:
        """Rows of the batch, or 0 where the tensors do not share one."""
        sizes = {t.shape[0] if t.ndim else 0 for t in self.tensors}
        return sizes.pop() if len(sizes) == 1 else 0

    @property
    def shapes(self) -> Shapes:
        """Sizes of all tensors."""
        return tuple(tuple(t.shape) for t in self.tensors)

    def padded(self) -> tuple[Tensor, ...]:
        """The tensors with rows up to the next bucket, so that few shapes serve every batch; the last row repeated."""
        rows = self.rows
        wanted = next((size for size in BUCKETS if size >= rows), rows)
        if wanted == rows or not rows:
            return self.tensors
        more = wanted - rows
        return tuple(torch.cat([t, t[-1:].expand(more, *t.shape[1:])]) for t in self.tensors)


class Flat(nn.Module):
    """`function` of `network` with the tensors of a call as its arguments, for tracers and compilers."""

    def __init__(self, network: nn.Module, function: Function, call: Call) -> None:
        super().__init__()
        self.network = network
        self.function = function
        self.spec, self.constants = call.structure
        # A compiler keeps what it compiled, and limits how much, per code object: each module has one of its own.
        forward = Flat.forward
        own = types.FunctionType(
            forward.__code__.replace(), forward.__globals__, closure=forward.__closure__
        )
        self.forward = types.MethodType(own, self)  # type: ignore[method-assign]

    def forward(self, *tensors: Tensor) -> Tensor:
        """The network's answer."""
        rest = iter(tensors)
        leaves = [next(rest) if held is None else held[0] for held in self.constants]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.function(self.network, *args, **kwargs)


def first_output(network: Any, *args: Any, **kwargs: Any) -> Tensor:
    """What a diffusers network predicts."""
    prediction: Tensor = network(*args, return_dict=False, **kwargs)[0]
    return prediction
