"""What the recipes of distribution matching share: in latents (`dmd`) and in pixels (`pixel-dmd`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.config import TrainConfig
from training.objectives.critic import CRITIC_SHARE, hinge, pulled
from training.objectives.distribution import distribution_loss
from training.objectives.judge import Judge, watched
from training.recipes.base import Draw, Recipe
from training.recipes.students import part

NOISE = (0.02, 0.98)  # least and greatest noise level of the gradient, as shares of the schedule


class Turn(NamedTuple):
    """A step of a sampler: the k-th of its falling levels. `edit`: the row is one, see `given_parts`."""

    chain: Sequence[float]
    k: int
    edit: bool = False


class MatchingConfig(TrainConfig):
    """Fields of every recipe of distribution matching."""

    sampler_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2, 4),
        min_length=1,
        description="numbers of steps that the student is trained for, all to the same extent",
    )
    fake_rate: float = Field(
        4.0,
        gt=0,
        description="learning rate of the diffusion model of the student's pictures / the student's",
    )
    fake_warmup: int = Field(
        100,
        ge=0,
        description="steps at the start in which that model learns alone; the student stands still",
    )
    keep_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="share of the examples, noised pictures of the data, that hold the student at levels below those of "
        "its samplers to what it said at the start: edits pass there",
    )
    adversarial_weight: float = Field(
        0.0,
        ge=0,
        description="pull of a judge that tells the student's pictures from those of the data, as a share of the pull "
        "of distribution matching; 0: none",
    )
    judge_rate: float = Field(
        40.0, gt=0, description="learning rate of the judge's heads / the student's"
    )

    @model_validator(mode="after")
    def _judges_are_whole(self) -> MatchingConfig:
        if self.adversarial_weight and self.sharding == "full":
            raise ValueError(
                f"adversarial_weight={self.adversarial_weight} needs a judge, which cannot be split as "
                "sharding=full asks; set one of them to its default"
            )
        return self


class Matching(Recipe):
    """A student, and beside it a diffusion model of what the student makes; the teacher is frozen.

    An example is one step of the student's own sampler: the steps before it are made without gradients (the
    "backward simulation" of DMD2), so that training sees what sampling does. Below the levels of the samplers nothing
    of that is seen: there a share of the examples keeps the consistency function of the start.
    """

    config: Any
    schedule: Any
    student: Any
    fake: Any  # the diffusion model of the student's pictures
    before: Any  # the student at the start
    chains: Sequence[Sequence[float]]  # falling levels of each sampler

    def trained(self) -> dict[str, nn.Module]:
        """The networks that learn, by name; `student` and `fake` are open."""
        networks = {"unet": self.student, "fake": self.fake}
        if self.config.adversarial_weight:
            self.judge = Judge(self.fake.config.block_out_channels).to(self.device)
            networks["judge"] = self.judge
        return networks

    @abstractmethod
    def f(self, unet: Any, batch: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """The consistency function of a student, (x, t) -> x_0."""

    @abstractmethod
    def teacher_x0(self, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        """x_0 that the teacher predicts."""

    @abstractmethod
    def fake_x0(self, unet: Any, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        """x_0 that the diffusion model of the student's pictures predicts."""

    @abstractmethod
    def fake_loss(self, batch: dict[str, Tensor], x0: Tensor) -> Tensor:
        """The loss of that model on pictures of the student, at `fake_t` with the noise `fake_eps`."""

    @abstractmethod
    def keep_distance(self, a: Tensor, b: Tensor) -> Tensor:
        """How far two estimates are apart, of each example, (B,)."""

    def onwards(self, x: Tensor, estimate: Tensor, z: Tensor, t: Tensor, after: Tensor) -> Tensor:
        """The sample at level `after` by the student's sampler, z fresh noise."""
        del x, t
        noised: Tensor = self.schedule.add_noise(estimate, z, after)
        return noised

    def completed(self, batch: dict[str, Tensor], estimate: Tensor) -> Tensor:
        """An estimate with what edits hold."""
        if "held" not in batch:
            return estimate
        return torch.where(batch["held"], batch["given"], estimate)

    def kept_of(self, count: int) -> int:
        """How many of `count` examples keep what was there."""
        return min(count - 1, round(self.config.keep_share * count))

    def sampler_rows(self, draw: Draw, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Noise and levels of one step of a sampler for each row; `shape`: (B, C, h, w).

        Rows that come later in theirs stand first. `from_k`, `to_k` and `fresh_k` are the level, the next level and
        the fresh noise of simulated step k of the rows that have it.
        """
        g, n = draw.generator, shape[0]
        mine = sorted(self.turns(draw, n), key=lambda turn: -turn.k)
        levels = torch.long if isinstance(self.chains[0][0], int) else torch.float64
        rows = {
            "x": torch.randn(shape, generator=g),
            "t": torch.tensor([turn.chain[turn.k] for turn in mine], dtype=levels),
            "pull": torch.tensor(float(draw.step >= self.config.fake_warmup)),
        }
        if any(turn.edit for turn in mine):
            rows["edit"] = torch.tensor([turn.edit for turn in mine])
            rows["first"] = torch.tensor([turn.chain[0] for turn in mine], dtype=levels)
        for k in range(max(turn.k for turn in mine)):
            steps = [tuple(pairwise(turn.chain))[k] for turn in mine if turn.k > k]
            rows[f"from_{k}"], rows[f"to_{k}"] = torch.tensor(steps, dtype=levels).unbind(1)
            rows[f"fresh_{k}"] = torch.randn((len(steps), *shape[1:]), generator=g)
        return rows

    def turns(self, draw: Draw, n: int) -> list[Turn]:
        """A step of a sampler for each of n rows, all to the same extent in the run."""
        every = [Turn(chain, k) for chain in self.chains for k in range(len(chain))]
        return [every[(draw.step + i * len(every) // n) % len(every)] for i in range(n)]

    def even(self, n: int, g: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
        """One number of each of n equal parts of [low, high), in any order; float64 (n,)."""
        u = (torch.randperm(n, generator=g) + torch.rand(n, generator=g, dtype=torch.float64)) / n
        return low + (high - low) * u

    def moved(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch on the device."""
        return {
            name: self.laid_out(v) if v.ndim == 4 else v.to(self.device)
            for name, v in batch.items()
        }

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The student's loss, and beside it those of the diffusion model of its pictures and of the judge."""
        c, t, eps = self.config, batch["noise_t"], batch["eps"]
        estimate = self.f(self.student, batch)(self.simulated(batch), batch["t"])
        estimate = self.completed(batch, estimate)
        shown = estimate.detach()
        x_t = self.schedule.add_noise(shown, eps, t)
        with torch.no_grad():
            real = self.teacher_x0(batch, x_t, t)
        if c.adversarial_weight:
            noised = self.schedule.add_noise(estimate, eps, t)
            with watched(self.fake) as features:
                fake = self.fake_x0(self.fake, batch, noised, t).detach()
            student = distribution_loss(estimate, real, fake).mean()
            scores = self.judge(features)
            student = pulled(student, scores, [estimate], c.adversarial_weight)
        else:
            with torch.no_grad():
                fake = self.fake_x0(self.fake, batch, x_t, t)
            student = distribution_loss(estimate, real, fake).mean()
        self.figures = {"apart": (real - fake).abs().mean()}
        own = self.own_loss(batch, shown)
        if keep := part("keep_", batch):
            found = self.f(self.student, keep)(keep["x"], keep["t"])
            kept = self.keep_distance(found, keep["end"]).mean()
            self.figures["keep_loss"] = kept.detach()
            student = student + kept
        return batch["pull"] * student + own

    def own_loss(self, batch: dict[str, Tensor], shown: Tensor) -> Tensor:
        """Of the diffusion model of the student's pictures, and of the judge that reads it."""
        with watched(self.fake) as features:
            own = self.fake_loss(batch, shown)
        self.figures["fake_loss"] = own.detach()
        if not self.config.adversarial_weight:
            return own
        t = batch["fake_t"]
        with watched(self.fake) as of_data:
            x_t = self.schedule.add_noise(batch["real"], batch["fake_eps"], t)
            self.fake_x0(self.fake, batch, x_t, t)
        judged = hinge(self.judge(of_data), real=True) + hinge(self.judge(features), real=False)
        self.figures["judge_loss"] = judged.detach()
        return own + CRITIC_SHARE * judged

    @torch.no_grad()
    def simulated(self, batch: dict[str, Tensor]) -> Tensor:
        """Where each row's sampler comes to before the step that is trained, (B, C, h, w)."""
        x, k = batch["x"], 0
        while f"fresh_{k}" in batch:
            z, t, after = (batch[f"{name}_{k}"] for name in ("fresh", "from", "to"))
            rows = {name: value[: len(z)] for name, value in batch.items() if value.ndim}
            here = x[: len(z)]
            estimate = self.completed(rows, self.f(self.student, rows)(here, t))
            x = torch.cat([self.onwards(here, estimate, z, t, after), x[len(z) :]])
            k += 1
        there: Tensor = self.laid_out(x)
        return there

    def rate(self, name: str) -> float:
        return {"fake": self.config.fake_rate, "judge": self.config.judge_rate}.get(name, 1.0)


def split(draw: Draw, kept: int) -> tuple[Draw, Draw]:
    """The examples of the samplers, and the last `kept`, which keep what was there."""
    n = len(draw.examples) - kept
    return replace(draw, examples=draw.examples[:n]), replace(draw, examples=draw.examples[n:])
