"""What a checkpoint holds, and how it is put back: the same for split networks and whole ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.state import sharding
from training.state.optimizer import pack_state

Groups = dict[str, dict[str, Tensor]]  # a file each


def files(
    networks: Mapping[str, nn.Module], changing: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Trained networks and others that change, by the names of their files."""
    named = {f"net.{name}": network for name, network in networks.items()}
    return named | {f"extra.{name}": network for name, network in changing.items()}


def collect(
    networks: Mapping[str, nn.Module],
    changing: Mapping[str, nn.Module],
    average: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
) -> Groups:
    """All that a run must remember: trained networks, others that change, their averages, the optimizer."""
    groups = {name: kept(network) for name, network in files(networks, changing).items()}
    if average:
        groups["ema"] = {str(i): value for i, value in enumerate(average)}
    groups["optimizer"] = pack_state(optimizer)
    return groups


def size(groups: Groups) -> int:
    """Bytes of the files, whole."""
    return sum(t.numel() * t.element_size() for group in groups.values() for t in group.values())


def gather(groups: Groups) -> None:
    """What the others do while rank 0 writes split tensors: each is gathered by all, one after another."""
    for group in groups.values():
        for value in group.values():
            sharding.whole(value)


def kept(network: nn.Module) -> dict[str, Tensor]:
    """All of a network, or the trained part where most is frozen."""
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    if not trained or len(trained) == len(list(network.parameters())):
        return dict(network.state_dict())
    return {name: value for name, value in network.state_dict().items() if name in trained}


def put(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts back what `kept` returned of a network of the same shape; see `fits.check`."""
    for name, value in kept(network).items():
        sharding.fill(value, tensors[name])
