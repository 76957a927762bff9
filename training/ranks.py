"""Many processes: who we are, averaged gradients, and waiting for each other.

`torchrun --nproc_per_node N -m training ...` starts them; gloo on CPUs, NCCL on GPUs. Every state but
the weights is a function of (seed, step, rank), so rank 0 alone writes checkpoints and all read them.
Networks that are split over the processes: `training.shards`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among `world`; `rank` 0 writes."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """The mean over all processes, in place; one call for all tensors."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        at = 0
        for t in tensors:
            t.copy_(flat[at : at + t.numel()].reshape(t.shape))
            at += t.numel()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so; every process gets the same answer."""
        if self.world == 1:
            return flag
        said = torch.tensor([float(flag)], device=device)
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return bool(said.item())

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


def join(device: torch.device) -> Ranks:
    """Joins the group that torchrun's environment describes, or returns a group of one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL and FSDP use the current one
        dist.init_process_group(backend, timeout=timedelta(minutes=30))
    return Ranks(rank=dist.get_rank(), world=dist.get_world_size())


def leave() -> None:
    """Ends the group, where there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
