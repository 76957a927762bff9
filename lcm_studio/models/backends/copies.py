"""Copies of a network that share its weights, with LoRAs taken into them."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from torch import nn


def shared_copy(network: nn.Module) -> nn.Module:
    """The same modules again around the same tensors: what is done to one's structure leaves the other alone."""
    held = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in held})


@torch.no_grad()
def fuse_loras(network: nn.Module) -> nn.Module:
    """Replaces LoRA layers by plain ones with weight + sum of the active deltas; `network` should be a copy."""
    for name, layer in [*network.named_modules()]:
        if not hasattr(layer, "get_delta_weight"):  # peft's layers; its import takes seconds
            continue
        base: Any = layer.get_base_layer()
        active = () if layer.disable_adapters else layer.active_adapters
        deltas = [layer.get_delta_weight(a) for a in active if a in layer.lora_A]
        if deltas:
            base = copy.deepcopy(base)
            base.weight.copy_(sum(deltas, start=base.weight).to(base.weight.dtype))
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, base)
    return network


def weights_key(network: nn.Module) -> str:
    """A digest of all weights, by name and content."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
