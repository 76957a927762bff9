"""Networks split over the processes: `sharding: full`, by torch's FSDP2 (`fully_shard`).

Every process keeps a slice of each parameter, and with it of the gradient, the averages and the optimizer's
state. A block's parameters are gathered when it is called and dropped after it, in the backward pass once
more, and its gradient comes back as the mean over all processes. So whatever calls a network is collective:
all processes must make the same calls in the same order, validation pictures and exports included.

What leaves a run stays whole: `whole` gathers a tensor for a file, `fill` takes a file's tensor apart again.

Weights stay float32 and autocast does the rest, as without sharding. FSDP's own MixedPrecisionPolicy would
halve what is sent, but it runs whole blocks in half precision, group norms and embeddings too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def split(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Splits each network, in place, over all processes; what a process keeps lies on `device`.

    A network may still be in main memory: it is moved group by group, so that the device never holds
    all of it. The parameters are other objects afterwards.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for network in networks:
        for p in network.parameters():
            p.data = p.data.contiguous()  # FSDP takes no channels-last weights
        bare = _bare(network)
        for group in (*_groups(network), network):
            # the outermost one too, which FSDP would leave gathered after a pass without gradient
            fully_shard(group, mesh=mesh, reshard_after_forward=True)
        network.bare = (bare,)  # type: ignore[assignment]  # in a tuple: no part of the network


def _groups(network: Any) -> Iterator[nn.Module]:
    """What is gathered at once in a UNet: its blocks, the transformers in them apart, which are most of it.

    Of SDXL's 2.6 billion parameters one up block has 1.2, but no group more than 0.35.
    """
    middle = getattr(network, "mid_block", None)
    blocks = (*getattr(network, "down_blocks", ()), middle, *getattr(network, "up_blocks", ()))
    for block in blocks:
        if block is not None:
            yield from (part for part in getattr(block, "attentions", ()) if part is not None)
            yield block


def _bare(network: nn.Module) -> nn.Module:
    """The network with parameters on the meta device, which take no memory: FSDP's cannot be copied."""
    empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, empty)


def is_split(network: nn.Module) -> bool:
    """Whether `split` has had it."""
    return hasattr(network, "bare")


def whole_copy(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in `dtype` for a file. Of a split network it is gathered into main memory by all processes;
    those that do not write get one without weights."""
    if not is_split(network):
        return copy.deepcopy(network).to(dtype)
    gathered = {}
    for name, value in network.state_dict().items():
        full = whole(value)
        if writes():
            gathered[name] = full.to(dtype if full.is_floating_point() else full.dtype).cpu()
    (bare,) = network.bare  # type: ignore[misc]
    made: nn.Module = copy.deepcopy(bare)
    if writes():
        made.load_state_dict(gathered, assign=True)
    return made.to(dtype)


def writes() -> bool:
    """Whether this process is the one that writes files."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def whole(value: Tensor) -> Tensor:
    """All of a split tensor, gathered by all processes; any other as it is."""
    full: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full


def local(values: Sequence[Tensor]) -> list[Tensor]:
    """The slices of split tensors that lie here, to read or to change in place; others as they are."""
    slices: list[Any] = [v.detach() for v in values]
    return [v.to_local() if hasattr(v, "to_local") else v for v in slices]


def like(there: Tensor, value: Tensor) -> Tensor:
    """`value`, which every process has all of, split as `there` is where it has the same shape."""
    if not hasattr(there, "to_local") or value.shape != there.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # src_data_rank None: each takes its slice of its own copy, nothing is sent
    mesh, placements = there.device_mesh, there.placements  # type: ignore[attr-defined]
    return distribute_tensor(value, mesh, placements, src_data_rank=None)


@torch.no_grad()
def fill(there: Tensor, value: Tensor) -> None:
    """Copies `value`, which every process has all of, into a tensor that may be split."""
    there.copy_(like(there, value))
