"""Large pictures: the loop's samples stay whole, and only the network sees overlapping tiles of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_studio.edits.geometry import starts
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import Predict, Steps


def tiled(steps: Steps, height: int, width: int, overlap: float = 0.25) -> Steps:
    """`steps` with each Predict split into tiles of `height` x `width` cells and the answers blended.

    Overlaps are weighted by ramps, so that tiles agree at every level (MultiDiffusion, Bar-Tal et al. 2023).
    """
    try:
        ask = next(steps)
        while True:
            if isinstance(ask, Predict) and _larger(ask.x_t, height, width):
                value = yield from _predict(ask, height, width, overlap)
            else:
                value = yield ask
            ask = steps.send(value)
    except StopIteration as end:
        result: Tensor = end.value
        return result


def _larger(x: Tensor, height: int, width: int) -> bool:
    return x.shape[-2] > height or x.shape[-1] > width


def _predict(ask: Predict, height: int, width: int, overlap: float) -> Steps:
    x = ask.x_t
    height, width = min(height, x.shape[-2]), min(width, x.shape[-1])
    corners = [
        (top, left)
        for top in starts(x.shape[-2], height, max(1, round(height * overlap)))
        for left in starts(x.shape[-1], width, max(1, round(width * overlap)))
    ]
    tiles = torch.stack([x[..., t : t + height, s : s + width] for t, s in corners], dim=1)
    rows = {name: v.repeat_interleave(len(corners), 0) for name, v in ask.cond.tensors.items()}
    if "control" in rows:  # a picture of all of it, of which each tile sees its part
        rows["control"] = _parts(ask.cond.tensors["control"], x, corners, (height, width))
    cond = Cond(tensors=rows, batch=len(x) * len(corners), group=ask.cond.group)
    t = ask.t.repeat_interleave(len(corners), 0)
    answer = yield Predict(tiles.flatten(0, 1), t, cond)
    answer = answer.reshape(len(x), len(corners), *answer.shape[1:])
    weight = _window(height)[:, None] * _window(width)[None]
    weight = weight.to(x)
    total, norm = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
    for i, (top, left) in enumerate(corners):
        rows_, columns = slice(top, top + height), slice(left, left + width)
        total[..., rows_, columns] += weight * answer[:, i]
        norm[..., rows_, columns] += weight
    return total / norm


def _parts(
    image: Tensor, x: Tensor, corners: list[tuple[int, int]], size: tuple[int, int]
) -> Tensor:
    """Of pictures `(B, 3, H, W)` beside samples `x` `(B, C, h, w)` what lies under each tile, `(B * tiles, 3, ...)`."""
    cell = image.shape[-1] // x.shape[-1]
    tall, wide = (side * cell for side in size)
    cut = [
        image[..., top * cell : top * cell + tall, left * cell : left * cell + wide]
        for top, left in corners
    ]
    return torch.stack(cut, dim=1).flatten(0, 1)


def _window(size: int) -> Tensor:
    """A triangle that never falls to zero, `(size,)`."""
    at = torch.arange(size, dtype=torch.float32) + 0.5
    return torch.minimum(at, size - at) / (size / 2)
