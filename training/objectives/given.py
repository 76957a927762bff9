"""What edits start from and hold, in latents: for rows of a student that meet what only edits get to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.objectives.known import hole

HOLES, COARSE = (
    0.6,
    0.25,
)  # shares of edits with a hole and from a coarse picture; the rest mix two pictures
LEAST = 2  # cells of the shortest side of a hole
SWEEPS = 64  # of the filling, each of which reaches a cell further


def given_parts(z: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """(starts, which cells are held) of edits of latents z (B, C, h, w): (B, C, h, w), and bool (B, 1, h, w).

    An edit has a hole, filled from its border, around which all is held; or starts from means over squares, as strokes
    are, or from the mean of its picture and the next one, and holds nothing. No decoder is needed, so that rows cost
    what those of a plain sampler do; where it sees further than a cell, the border of a hole differs a little.
    """
    starts, holds = [], []
    height, width = z.shape[-2:]
    for row, other in zip(z, z.roll(1, 0), strict=True):
        held = torch.zeros((height, width), dtype=torch.bool)
        kind = float(torch.rand((), generator=g))
        if kind < HOLES:
            held = ~hole(height, width, g, least=LEAST)
            start = filled(row, held.to(row.device))
        elif kind < HOLES + COARSE:
            start = coarse(row, 2 if float(torch.rand((), generator=g)) < 0.5 else 4)
        else:
            start = (row + other) / 2
        starts.append(start)
        holds.append(held[None])
    return torch.stack(starts), torch.stack(holds).to(z.device)


def filled(z: Tensor, held: Tensor) -> Tensor:
    """z (C, h, w) with the cells that are not `held` (h, w) about as smooth as the border lets them be."""
    keep = held.to(z)
    found = torch.where(held, z, (z * keep).sum((1, 2), keepdim=True) / keep.sum().clamp(min=1))
    for _ in range(SWEEPS):
        padded = F.pad(found[None], (1, 1, 1, 1), mode="replicate")
        found = torch.where(held, z, F.avg_pool2d(padded, 3, stride=1)[0])
    return found


def coarse(z: Tensor, side: int) -> Tensor:
    """z (C, h, w) as its means over squares of `side` cells."""
    height, width = z.shape[-2:]
    small = F.interpolate(
        z[None], size=(max(1, height // side), max(1, width // side)), mode="area"
    )
    return F.interpolate(small, size=(height, width), mode="nearest")[0]
