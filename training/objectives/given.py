"""What edits start from and hold, in latents: for rows of a student that meet what only edits get to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lcm_studio.edits.harmonic import harmonic
from training.objectives.known import hole

HOLES, COARSE = (
    0.6,
    0.25,
)  # shares of edits with a hole and from a coarse picture; the rest mix two pictures
LEAST = 2  # cells of the shortest side of a hole


def given_parts(z: Tensor, others: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """(starts, which cells are held) of edits of latents z (B, C, h, w): (B, C, h, w), and bool (B, 1, h, w).

    An edit has a hole, filled from its border, around which all is held. Or it holds nothing, and starts from means over
    squares, as strokes are, or from the mean of its picture and the one of `others` (B, C, h, w). No decoder runs, so a
    row costs what a row of a plain sampler does. A decoder sees further than a cell: at the border of a hole the
    latents differ a little from those of a real edit.
    """
    starts, holds = [], []
    height, width = z.shape[-2:]
    for row, other in zip(z, others, strict=True):
        held = torch.zeros((height, width), dtype=torch.bool)
        kind = float(torch.rand((), generator=g))
        if kind < HOLES:
            inside = hole(height, width, g, least=LEAST)
            values = row.float().cpu().permute(1, 2, 0).contiguous().numpy()
            filled = torch.from_numpy(harmonic(values, inside.numpy())).permute(2, 0, 1)
            held, start = ~inside, torch.where(inside, filled, row.cpu()).to(row)
        elif kind < HOLES + COARSE:
            start = coarse(row, 2 if float(torch.rand((), generator=g)) < 0.5 else 4)
        else:
            start = (row + other) / 2
        starts.append(start)
        holds.append(held[None])
    return torch.stack(starts), torch.stack(holds).to(z.device)


def coarse(z: Tensor, side: int) -> Tensor:
    """z (C, h, w) as its means over squares of `side` cells."""
    height, width = z.shape[-2:]
    small = F.interpolate(
        z[None], size=(max(1, height // side), max(1, width // side)), mode="area"
    )
    return F.interpolate(small, size=(height, width), mode="nearest")[0]
