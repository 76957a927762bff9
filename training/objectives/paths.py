"""Paths of a teacher's guided ODE, solved before training and kept on disk.

An example of a path is a point x_t on it and the end x_0 that the ODE leads to: the value of the true
consistency function at x_t, where distillation otherwise has the student's own estimate (Luhman & Luhman
2021 train on pairs of this kind). Half of the paths or so start from noise, as sampling does, the others
from estimates that were noised anew, as every further step of it does, or from where zero-shot edits get to:
their estimates hold a known part, and no noised picture of the data looks like them.

What a path is follows from (seed, its number) alone; solving goes by blocks, and what is there is not
solved again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.parameterization import partly_fresh
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.maths.solvers import dpmpp_2m_step
from training.data.encodings import Encodings
from training.rng import generator

BLOCK = 32  # paths that are solved together; they start at one level
STRIDE = 3  # levels of the grid that a step of the solver spans
KEPT = 6  # points of a path that are kept; the first is its start
OWN_CHAINS = (2, 4, 8)  # steps of the student's sampler, where paths start from its estimates
EDIT_CHAINS = (4, 8)  # levels of an edit
EDIT_TOP, EDIT_BOTTOM = 0.3, 0.08  # least first and last level of an edit, as shares of the grid
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, kw_only=True)
class PathOptions:
    """Which paths there are. Levels are those of a grid, t = skip (i + 1) - 1 for i < grid.

    `noise`: share that starts from pure noise at the highest level; `own`: share of the others that
    starts from the student's estimates instead of the data; `edits`: share that starts from its edits of the data.
    `shift`, `eta`: of the sampler that makes the estimates (`lcm_timesteps`; the share of fresh noise).
    """

    count: int
    seed: int
    grid: int
    skip: int
    noise: float
    own: float
    edits: float
    w_min: float
    w_max: float
    w_power: float
    shift: float = 1.0
    eta: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Block:
    """What the paths of one block are, in order; `w` (BLOCK,), `examples` (index, epoch) of each."""

    number: int
    start: str  # "noise", "data", "own" or "edit"
    first: int  # grid index of the start; for "own" and "edit" the one that the chain had come to
    chain: tuple[int, ...]  # "own", "edit": grid indices of the student's chain
    stop: int  # "own", "edit": estimates made before the path starts
    w: Tensor
    examples: tuple[tuple[int, int], ...]

    def indices(self) -> list[int]:
        """Grid indices that the solver visits, falling, down to 0."""
        visited = list(range(self.first, -1, -STRIDE))
        return visited if visited[-1] == 0 else [*visited, 0]

    def kept(self, seed: int) -> list[int]:
        """KEPT positions in `indices()`: the start, and others; the last one repeats where few are there."""
        count = len(self.indices())
        chosen = torch.randperm(count - 1, generator=generator(seed, "path-kept", self.number)) + 1
        found = [0, *sorted(chosen[: KEPT - 1].tolist())]
        return found + [found[-1]] * (KEPT - len(found))


def block(options: PathOptions, number: int, length: int) -> Block:
    """The block of that number, for data of `length` examples."""
    g = generator(options.seed, "path-block", number)
    place = ((number + 1) * _GOLDEN) % 1
    top = options.grid - 1
    start, first, stop = "noise", top, 0
    chain: tuple[int, ...] = ()
    if place >= options.noise:
        rest = (place - options.noise) / (1 - options.noise)
        told = options.own + options.edits
        start = "own" if rest < options.own else "edit" if rest < told else "data"
    if start == "data":
        first = 1 + int(torch.randint(0, options.grid - 1, (), generator=g))
    elif start == "own":
        steps = OWN_CHAINS[int(torch.randint(0, len(OWN_CHAINS), (), generator=g))]
        levels = lcm_timesteps(
            steps, options.grid, options.grid * options.skip, shift=options.shift
        )
        chain = tuple((t + 1) // options.skip - 1 for t in levels)
        stop = int(torch.randint(1, steps, (), generator=g))
        first = chain[stop]
    elif start == "edit":
        steps = EDIT_CHAINS[int(torch.randint(0, len(EDIT_CHAINS), (), generator=g))]
        u, v = torch.rand(2, generator=g).tolist()
        high = top * (EDIT_TOP + (1 - EDIT_TOP) * u)
        low = top * EDIT_BOTTOM + v * max(0.0, 0.6 * high - top * EDIT_BOTTOM)
        even = [round(high + (low - high) * i / (steps - 1)) for i in range(steps)]
        chain = tuple(dict.fromkeys(max(1, i) for i in even))
        stop = int(torch.randint(0, len(chain), (), generator=g))
        first = chain[stop]
    spread = options.w_max - options.w_min
    w = options.w_min + spread * torch.rand(BLOCK, generator=g) ** options.w_power
    examples = [(number * BLOCK + i) for i in range(BLOCK)]
    return Block(
        number=number,
        start=start,
        first=first,
        chain=chain,
        stop=stop,
        w=w,
        examples=tuple((i % length, i // length) for i in examples),
    )


class Guide(Protocol):
    """What solving needs to know of a recipe; all tensors of one block."""

    shape: tuple[int, int, int]  # (C, h, w)
    device: torch.device
    schedule: NoiseSchedule

    def data(self, examples: Sequence[tuple[int, int]]) -> Tensor: ...  # x_0
    def teacher(
        self, block: Block
    ) -> Callable[[Tensor, Tensor], Tensor]: ...  # (x, t) -> guided x0
    def student(self, block: Block) -> Callable[[Tensor, Tensor], Tensor]: ...  # (x, t) -> f(x, t)
    def edit(
        self, block: Block, g: torch.Generator
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]: ...  # start; estimate -> with the known part


class Paths:
    """Solved paths in `folder`; `key` names teacher, captions and data, `student` the student.

    Runs that differ in the number of paths, or in the share of own ones, share those that are the same.
    """

    def __init__(
        self,
        options: PathOptions,
        guide: Guide,
        length: int,
        folder: Path,
        key: str,
        student: str = "",
    ) -> None:
        self.options = options
        self._guide, self._student = guide, student
        same = replace(options, count=0, own=0.0, edits=0.0, shift=1.0, eta=1.0)
        told = f"paths-{key}-{same}-{BLOCK}-{STRIDE}-{KEPT}"
        self._name = hashlib.sha256(told.encode()).hexdigest()
        self._store = Encodings(folder, self._name, (KEPT + 1, *guide.shape))
        self.blocks = [
            block(options, number, length) for number in range(-(-options.count // BLOCK))
        ]
        kept = [[b.indices()[k] for k in b.kept(options.seed)] for b in self.blocks]
        self._indices = torch.tensor(kept)

    def __len__(self) -> int:
        return len(self.blocks) * BLOCK

    def fill(self, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Solves what is missing; returns how many paths that were."""
        keys = [self._key(i) for i in range(len(self))]
        return self._store.fill(keys, self._solve, batch=BLOCK, progress=progress)

    def _key(self, path: int) -> str:
        start, o = self.blocks[path // BLOCK].start, self.options
        made = {"own": f"{self._student}/{o.shift:g}/{o.eta:g}", "edit": self._student}
        return f"{self._name}/{path}/{start}{made.get(start, '')}"

    def _solve(self, wanted: Sequence[int]) -> np.ndarray:
        rows: dict[int, np.ndarray] = {}
        for number in sorted({path // BLOCK for path in wanted}):
            solved = self.solve(self.blocks[number]).cpu().numpy()
            rows |= {number * BLOCK + i: row for i, row in enumerate(solved)}
        return np.stack([rows[path] for path in wanted])

    @torch.no_grad()
    def solve(self, block: Block) -> Tensor:
        """(BLOCK, KEPT + 1, C, h, w): the kept points of each path, and its end."""
        schedule, teacher = self._guide.schedule, self._guide.teacher(block)
        indices, x = block.indices(), self._start(block)
        points: list[Tensor] = []
        before: tuple[Tensor, float] | None = None
        for k, index in enumerate(indices):
            t = self._level(index)
            points.append(x)
            x0 = teacher(x, torch.full((BLOCK,), t, device=x.device))
            if k + 1 == len(indices):
                break
            now = float(schedule.alphas_cumprod[t])
            after = float(schedule.alphas_cumprod[self._level(indices[k + 1])])
            x = dpmpp_2m_step(x, x0, (now, after), before=before)
            before = (x0, now)
        chosen = [points[k] for k in block.kept(self.options.seed)]
        return torch.stack([*chosen, x0], 1).float()

    def _level(self, index: int) -> int:
        return self.options.skip * (index + 1) - 1

    def _start(self, block: Block) -> Tensor:
        g = generator(self.options.seed, "path-noise", block.number)
        schedule, device = self._guide.schedule, self._guide.device

        def noise() -> Tensor:
            return torch.randn((BLOCK, *self._guide.shape), generator=g).to(device)

        if block.start == "noise":
            return noise()
        if block.start == "data":
            return schedule.renoise(
                self._guide.data(block.examples), noise(), self._level(block.first)
            )
        student, levels = self._guide.student(block), [self._level(i) for i in block.chain]
        if block.start == "edit":
            (filled, known), eta = self._guide.edit(block, g), 1.0
            x = schedule.renoise(filled, noise(), levels[0])
        else:
            x, known, eta = noise(), lambda estimate: estimate, self.options.eta
        for level, after in pairwise(levels[: block.stop + 1]):
            t = torch.full((BLOCK,), level, device=device)
            estimate = known(student(x, t))
            z = partly_fresh(x, estimate, *schedule.alpha_sigma(t, x), noise(), eta)
            x = schedule.renoise(estimate, z, after)
        return x

    def draw(self, count: int, g: torch.Generator) -> PathExamples:
        """`count` points, half of them starts of paths."""
        path = torch.randint(0, len(self), (count,), generator=g)
        other = torch.randint(1, KEPT, (count,), generator=g)
        kept = torch.where(torch.rand(count, generator=g) < 0.5, torch.zeros_like(other), other)
        rows = torch.from_numpy(self._store.rows([self._key(int(i)) for i in path]))
        blocks = [self.blocks[int(i) // BLOCK] for i in path]
        places = (path % BLOCK).tolist()
        return PathExamples(
            x_t=rows[torch.arange(count), kept],
            t=self.options.skip * (self._indices[path // BLOCK, kept] + 1) - 1,
            w=torch.stack([b.w[i] for b, i in zip(blocks, places, strict=True)]),
            end=rows[:, -1],
            examples=tuple(b.examples[i] for b, i in zip(blocks, places, strict=True)),
        )


@dataclass(frozen=True, kw_only=True)
class PathExamples:
    """`x_t` and `end` (B, C, h, w), `t` int64 (B,), `w` (B,), and whose captions they have."""

    x_t: Tensor
    t: Tensor
    w: Tensor
    end: Tensor
    examples: tuple[tuple[int, int], ...]


def path_loss(
    f: Callable[[Tensor, Tensor], Tensor],
    d: Callable[[Tensor, Tensor], Tensor],
    *,
    x_t: Tensor,
    t: Tensor,
    end: Tensor,
) -> tuple[Tensor, Tensor]:
    """d(f(x_t, t), x_0) on solved paths (Luhman & Luhman 2021): distances (B,), and f(x_t, t)."""
    estimate = f(x_t, t)
    return d(estimate, end), estimate
