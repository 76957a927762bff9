"""Small networks of the plane, trained in seconds on one core: a score, then a consistency function by CD or CT."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from lcm_studio.lab.plane_data import SIGMA_DATA
from lcm_studio.lab.plane_levels import T_MAX, T_MIN, levels
from lcm_studio.lab.plane_mixture import Floats, Mixture
from lcm_studio.lab.plane_samplers import Denoise

Stage = Literal["score", "cd", "ct"]
BATCH, WIDTH, FREQUENCIES = 256, 96, 24
RATE = 3e-3
# Where the pseudo-Huber loss turns from a square into a distance. CT's targets scatter, and a distance would lead it to
# their median in place of their mean: of two heaps all would go to the fuller one. On the unequal pair, after 2,000 steps and
# seeds 0 to 2, one jump lands 0.17 (1.0), 0.20 (0.3) or 0.46 (0.03) from where the exact path ends, root mean square, and
# 27%, 25% or 12% of the particles in the right heap; 21% is exact. 3.0 is like 1.0.
BENDS = {"cd": 0.03, "ct": 1.0}
FIRST_LEVELS, LAST_LEVELS = 8, 64  # of the consistency functions' grid, doubled while they train


class PlaneNet(nn.Module):
    """F(c_in x, ln t / 4) -> `(N, 2)`: three hidden layers on the point, waves of it, and waves of the level."""

    waves: Tensor
    beats: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        waves = torch.randn(2, FREQUENCIES, generator=random) * 2.2
        self.register_buffer("waves", waves)
        self.register_buffer("beats", torch.tensor([0.7, 1.5, 3.0, 6.0]))
        sizes = [2 + 2 * FREQUENCIES + 9, WIDTH, WIDTH, WIDTH]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.hidden = nn.ModuleList(layers)
        self.last = nn.Linear(WIDTH, 2)
        for layer in layers:
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=random)
            nn.init.uniform_(layer.bias, -bound, bound, generator=random)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        angles, beats = x @ self.waves, c_noise * self.beats
        y = torch.cat([x, angles.sin(), angles.cos(), c_noise, beats.sin(), beats.cos()], dim=1)
        for layer in self.hidden:
            y = nn.functional.silu(layer(y))
        out: Tensor = self.last(y)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A trained network as D(x; t) (stage "score") or f(x, t) (stages "cd" and "ct")."""

    stage: Stage
    net: PlaneNet

    def __call__(self, x: Floats, t: float) -> Floats:
        """`(N, 2)` at one level -> `(N, 2)` float32."""
        points = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        with torch.inference_mode():
            out = precondition(self.net, points, torch.full((len(points), 1), float(t)), self.stage)
        answer: Floats = out.numpy()
        return answer


def precondition(net: PlaneNet, x: Tensor, t: Tensor, stage: Stage) -> Tensor:
    """c_skip x + c_out F(c_in x, ln t / 4) for `t` `(N, 1)`.

    The scalings of a denoiser (Karras et al. 2022, table 1), or of a consistency function, which is the identity
    at T_MIN (Song et al. 2023, app. C).
    """
    low = 0.0 if stage == "score" else T_MIN
    square = t**2 + SIGMA_DATA**2
    c_skip = SIGMA_DATA**2 / ((t - low) ** 2 + SIGMA_DATA**2)
    c_out = SIGMA_DATA * (t - low) / square.sqrt()
    return c_skip * x + c_out * net(x / square.sqrt(), t.log() / 4)


@contextmanager
def one_core() -> Iterator[None]:
    """Torch on one core in this thread: products so small lose more than they win by being shared.

    `set_num_threads` is for this thread, but also the default of every thread that starts later; another thread puts
    the default back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    restoring = threading.Thread(target=torch.set_num_threads, args=(before,))
    restoring.start()
    restoring.join()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """After `step` of `steps`: the mean loss since the last report; `levels` of the consistency grid, 0 for a score."""

    step: int
    steps: int
    loss: float
    levels: int


class Training:
    """One stage. `run` yields a Progress now and then; `learned` is what has been learned so far.

    `teacher`: a score network or the exact denoiser, for "cd"; `first`: the network to begin with, or None.
    """

    def __init__(
        self,
        stage: Stage,
        mixture: Mixture,
        *,
        steps: int,
        seed: int = 0,
        teacher: Denoise | None = None,
        first: PlaneNet | None = None,
    ) -> None:
        self.stage, self.steps, self.teacher = stage, steps, teacher
        self.net = (copy.deepcopy(first) if first is not None else PlaneNet(seed)).requires_grad_()
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.random = torch.Generator().manual_seed(seed + 1)
        self.centres = torch.from_numpy(mixture.centres.astype(np.float32))
        self.weights = torch.from_numpy(mixture.weights.astype(np.float32))
        self.width = mixture.width

    @property
    def learned(self) -> Learned:
        """The average of the latest weights; a copy, which further steps leave alone."""
        return Learned(stage=self.stage, net=copy.deepcopy(self.average).eval())

    def run(self, report: int = 50) -> Iterator[Progress]:
        """batch -> loss -> backward -> step -> average, `steps` times; closing the iterator stops it."""
        optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE, betas=(0.9, 0.99), fused=True)
        total = 0.0
        for step in range(1, self.steps + 1):
            share = (step - 1) / self.steps
            count = grid_levels(share) if self.stage != "score" else 0
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, 2.5 * (1 - share))  # constant, then down to nothing
            loss = self.loss(count)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            self.follow(min(0.98, step / (step + 10)))
            total += loss.item()
            if step % report == 0 or step == self.steps:
                since = report if step % report == 0 else step % report
                yield Progress(step=step, steps=self.steps, loss=total / since, levels=count)
                total = 0.0

    def loss(self, count: int) -> Tensor:
        """The loss of one batch of the stage; `count` levels for a consistency function."""
        if self.stage == "score":
            return self.score_loss(self.data())
        return self.consistency_loss(self.data(), count)

    def score_loss(self, x: Tensor) -> Tensor:
        """Denoising score matching (Vincent 2011) as Karras et al. 2022 weigh it: |D(x + t z; t) - x|^2 / c_out^2."""
        ramp = torch.rand(len(x), 1, generator=self.random)
        t = torch.exp(math.log(T_MIN) + ramp * math.log(T_MAX / T_MIN))
        noised = x + t * self.noise(x)
        c_out = SIGMA_DATA * t / (t**2 + SIGMA_DATA**2).sqrt()
        error = (precondition(self.net, noised, t, "score") - x) / c_out
        return (error**2).mean()

    def consistency_loss(self, x: Tensor, count: int) -> Tensor:
        """|f(x_t, t) - f(x_t', t')| of two neighbours on one path (Song et al. 2023, Alg. 2 and 3), pseudo-Huber.

        CD finds the lower neighbour by a Heun step with the teacher's score; CT, which has no teacher, by the same z
        at the lower level. The target has the newest weights and no gradient; the weight of a pair is 1 / (t - t')
        (Song & Dhariwal 2024, sec. 3).
        """
        grid = torch.from_numpy(levels(count + 1).astype(np.float32))
        index = torch.randint(0, count, (len(x), 1), generator=self.random)
        t, after = grid[index], grid[index + 1]
        z = self.noise(x)
        noised = x + t * z
        with torch.no_grad():
            near = x + after * z if self.stage == "ct" else self.heun(noised, t, after)
            target = precondition(self.net, near, after, self.stage)
        error = precondition(self.net, noised, t, self.stage) - target
        bend = BENDS[self.stage]
        huber = (error.square().sum(dim=1, keepdim=True) + bend**2).sqrt() - bend
        return (huber / (t - after)).mean()

    def heun(self, x: Tensor, t: Tensor, after: Tensor) -> Tensor:
        """One step of the teacher's ODE from `t` to `after`, both `(N, 1)`."""
        slope = (x - self.taught(x, t)) / t
        guess = x + (after - t) * slope
        return x + (after - t) / 2 * (slope + (guess - self.taught(guess, after)) / after)

    def taught(self, x: Tensor, t: Tensor) -> Tensor:
        """The teacher's D(x; t) at a level of its own for each row."""
        if isinstance(self.teacher, Learned):
            return precondition(self.teacher.net, x, t, "score")
        # the mixture itself: E[x_0 | x_t]
        variance = t**2 + self.width**2
        square = self.centres.square().sum(dim=1) - 2 * (x @ self.centres.T)
        shares = torch.softmax(self.weights.log() - square / (2 * variance), dim=1)
        return x + t**2 / variance * (shares @ self.centres - x)

    def data(self) -> Tensor:
        """A batch of the distribution, `(BATCH, 2)`."""
        which = torch.multinomial(self.weights, BATCH, replacement=True, generator=self.random)
        points = self.centres[which]
        return points + self.width * self.noise(points)

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.random)

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        for mean, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(new, 1 - keep)


def grid_levels(share: float) -> int:
    """Levels of the consistency grid after a `share` of the steps: doubled from FIRST_LEVELS to LAST_LEVELS."""
    doublings = math.log2(LAST_LEVELS / FIRST_LEVELS)
    return FIRST_LEVELS * 2 ** min(int(share * (doublings + 1)), int(doublings))
