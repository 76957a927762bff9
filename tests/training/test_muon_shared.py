"""Several processes share the iteration of Muon: each ends with what one process would have made alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing
from torch import distributed as dist

from training.state.muon import orthogonalize_all, shares

SHAPES = [(16, 40), (40, 16), (16, 40), (24, 24), (64, 16)]


def matrices() -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g) for shape in SHAPES]


def process(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    made = [orthogonalize_all(matrices(), half=half) for half in (False, True)]
    torch.save(made, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 6])  # of six one has nothing to do
def test_every_process_has_what_one_would_have_made(tmp_path: Path, world: int) -> None:
    multiprocessing.spawn(process, (world, tmp_path), nprocs=world)
    for half in (False, True):
        alone = orthogonalize_all(matrices(), half=half)
        for rank in range(world):
            for found, wanted in zip(torch.load(tmp_path / f"{rank}.pt")[half], alone, strict=True):
                assert found.dtype == torch.float32
                torch.testing.assert_close(found, wanted, atol=1e-2 if half else 1e-5, rtol=0)
        first = torch.load(tmp_path / "0.pt")[half]
        for rank in range(1, world):  # to the bit: their networks must not part
            others = torch.load(tmp_path / f"{rank}.pt")[half]
            assert all(torch.equal(a, b) for a, b in zip(first, others, strict=True))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_shares_are_even(world: int) -> None:
    shapes = [(128, 1152)] * 5 + [(96, 864)] * 6 + [(128, 128)] * 9
    cost = [a * b * min(a, b) for a, b in shapes]
    loads = [0] * world
    for i, owner in enumerate(shares(shapes, world)):
        loads[owner] += cost[i]
    assert max(loads) <= sum(cost) / world + max(cost)
