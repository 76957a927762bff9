"""`lcd`: latent consistency distillation of a text-conditional teacher (Luo et al. 2023, Alg. 1)."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.guidance import guidance_embedding
from training import ema
from training.adversary import (
    CRITIC_SHARE,
    HARDEST,
    HIGHEST,
    SOFTEST,
    Critic,
    LatentCritic,
    encoder_features,
    frozen,
    hinge,
    pull,
)
from training.ahead import at_once
from training.config import TrainConfig
from training.features import autocast
from training.losses import consistency_output, guided_ddim, lcd_loss
from training.recipes.base import Draw
from training.recipes.distillation import Distillation, DistillationConfig
from training.recipes.students import continued, student_of

if TYPE_CHECKING:
    from training.paths import Paths


OWN_STEPS = 4  # of the student's sampler, where it trains on its own estimates


class LatentDistillationConfig(DistillationConfig):
    """Fields of the lcd recipe."""

    start_from: str = Field(
        "",
        description="folder of a student of this recipe to go on from, a diffusers pipeline; "
        "empty: from the teacher's weights",
    )
    time_cond_proj_dim: int = Field(256, ge=8, description="width of the embedding of w")
    target_ema: float = Field(0.95, ge=0, lt=1, description="EMA of the target network")
    adversarial_weight: float = Field(
        0.0,
        ge=0,
        description="pull of a critic that tells the student's estimates from the data, as a share of "
        "the distance's pull; 0: none, as published",
    )
    critic: Literal["features", "latents"] = Field(
        "features",
        description="what the critic sees: features of the teacher's encoder on latents noised anew, or "
        "the latents themselves under a little noise, which takes a quarter of the time",
    )
    critic_rate: float = Field(1.0, gt=0, description="learning rate of the critic / the student's")
    own_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of examples that are the student's own estimates, noised anew as its "
        "four-step sampler does; 0: none, as published",
    )
    path_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of examples on paths of the teacher's guided ODE that were solved before "
        "training: their target is the end of the path; 0: none, as published",
    )
    paths: int = Field(8000, ge=1, description="how many paths are solved and cached, if any")
    path_noise: float = Field(
        0.5, ge=0, le=1, description="share of the paths that start from noise alone"
    )
    path_own: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the other paths that start from estimates of the student in start_from, "
        "noised anew as its sampler does, and not from the data",
    )

    path_edits: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the other paths that start where zero-shot edits of the data by the student in "
        "start_from come to, of colours and holes; with path_own at most 1",
    )

    @model_validator(mode="after")
    def _critics_are_whole(self) -> LatentDistillationConfig:
        if self.adversarial_weight and self.sharding == "full":
            raise ValueError(
                f"adversarial_weight={self.adversarial_weight} needs a critic, which cannot be split as "
                "sharding=full asks; set one of them to its default"
            )
        return self

    @model_validator(mode="after")
    def _own_paths_need_a_student(self) -> LatentDistillationConfig:
        for name in ("path_own", "path_edits"):
            if getattr(self, name) and self.path_share and not self.start_from:
                raise ValueError(
                    f"{name}={getattr(self, name)} needs a student; name one in start_from, or set it to 0"
                )
        if self.path_own + self.path_edits > 1:
            raise ValueError(
                f"path_own={self.path_own} and path_edits={self.path_edits} are more than 1 together; "
                "lower one of them"
            )
        return self


def open_rows(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of a batch whose target is not known beforehand."""
    n = len(batch["t"]) - len(batch.get("ends", ()))
    return {
        name: rows[:n]
        for name, rows in batch.items()
        if name not in ("ends", "x_s") and not name.startswith("critic_")
    }


class LatentDistillation(Distillation):
    """Student and EMA target against one doubled call of the frozen teacher."""

    name: ClassVar[str] = "lcd"
    Config: ClassVar[type[TrainConfig]] = LatentDistillationConfig
    config: LatentDistillationConfig

    def build(self) -> dict[str, nn.Module]:
        self.teacher = self.open_teacher()
        student = student_of(self.teacher, self.config.time_cond_proj_dim)
        if self.config.start_from:
            student = continued(Path(self.config.start_from), student)
        self.student = self.placed(student)
        self.target = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.paths = self.open_paths() if self.config.path_share else None
        if not self.config.adversarial_weight:
            return {"unet": self.student}
        self.critic: nn.Module = (
            LatentCritic(self.latents.shape[1], self.empty["context"].shape[-1])
            if self.config.critic == "latents"
            else Critic(Critic.channels_of(self.teacher))
        ).to(self.device)
        return {"unet": self.student, "critic": self.critic}

    @property
    def overlaps(self) -> bool:
        """The student has no say in batches without its own examples; a critic listens to the teacher."""
        c = self.config
        return not (c.own_share or (c.adversarial_weight and c.critic == "features"))

    def prepared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """With x_s, the teacher's step from the rows that have no known end."""
        part = open_rows(batch)
        x_s = guided_ddim(
            lambda x, t: self.guided(self.teacher, part, x, t),
            part["x_t"],
            part["t"],
            part["s"],
            part["w"],
            self.schedule,
        )
        return {**batch, "x_s": x_s}

    def open_paths(self) -> Paths:
        """The teacher's paths, solved now where the cache does not hold them."""
        from training.recipes.solving import open_paths

        paths = open_paths(self)
        solving = (self.teacher, self.target)
        for network in solving:
            self.laid_out(network)
        paths.fill(
            lambda done, total: (
                print(f"solved {done} of {total} paths", flush=True) if done % 320 == 0 else None
            )
        )
        if self.config.sharding == "full":
            for network in solving:
                network.cpu()
        return paths

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        c, g, n = self.config, draw.generator, len(draw.examples)
        solved = min(n - 1, round(c.path_share * n)) if self.paths else 0
        found = super().batch(replace(draw, examples=draw.examples[: n - solved]))
        if c.own_share:
            self.put_own(found, g)
        if solved:
            self.put_solved(found, solved, g)
        if c.adversarial_weight:
            self.put_judged(found, draw)
        return found

    def put_judged(self, batch: dict[str, Tensor], draw: Draw) -> None:
        """Adds what the critic needs: noise; and for latents as many real ones with their captions."""
        c, g, n, x0 = self.config, draw.generator, len(draw.examples), batch["x0"]
        if c.critic == "features":
            index = (torch.rand(n, generator=g) * HIGHEST * c.ddim_steps).long()
            batch["critic_t"] = (index * self.skip + self.skip - 1).to(self.device)
        else:
            u = torch.rand((n, 1, 1, 1), generator=g)
            batch["critic_sigma"] = (SOFTEST * (HARDEST / SOFTEST) ** u).to(x0)
            batch["critic_real"] = self.x0(draw)
            told = self.texts([self.source.caption(*example) for example in draw.examples])
            batch["critic_context"] = told["context"]
        batch["critic_eps"] = torch.randn(x0.shape, generator=g).to(x0)

    def put_solved(self, batch: dict[str, Tensor], count: int, g: torch.Generator) -> None:
        """Adds `count` rows on solved paths below the others; `ends` (count, C, h, w) are their targets."""
        assert self.paths is not None
        drawn = self.paths.draw(count, g)
        ends = drawn.end.to(batch["x0"])
        told = {
            "x0": ends,
            "x_t": drawn.x_t.to(ends),
            "t": drawn.t.to(self.device),
            "s": drawn.t.to(self.device),
            "w": drawn.w.to(self.device),
            **self.texts([self.source.caption(*example) for example in drawn.examples]),
        }
        if self.prompts.xl:
            size = self.config.resolution
            told["sizes"] = torch.tensor([[size, size, 0, 0]]).to(batch["sizes"]).repeat(count, 1)
        for name, rows in told.items():
            batch[name] = torch.cat([batch[name], rows])
        batch["ends"] = ends

    @torch.no_grad()
    def put_own(self, batch: dict[str, Tensor], g: torch.Generator) -> None:
        """Replaces a share of `x_t` and `t` by points on the target's own four-step paths.

        In training x_t is a noised picture; in use it is a noised estimate, whose faults the next
        steps must mend and not add to (backward simulation, Yin et al. 2024 (DMD2), sec. 4.5).
        """
        rows = torch.rand(len(batch["t"]), generator=g) < self.config.own_share
        stop = torch.randint(1, OWN_STEPS, (len(rows),), generator=g)
        noise = torch.randn((OWN_STEPS, *batch["x_t"].shape), generator=g)
        if not rows.any():
            if self.config.sharding == "none":
                return
            # others wait for this process's part of the calls; the row stays as it is
            rows[0], stop[0] = True, OWN_STEPS
        rows, stop, noise = (v.to(self.device) for v in (rows, stop, noise))
        levels = lcm_timesteps(OWN_STEPS, self.config.ddim_steps, len(self.schedule))
        part = {k: v[rows] for k, v in batch.items() if k != "x0"}
        x, chosen_x, chosen_t = noise[0][rows], part["x_t"], part["t"]
        emb, arguments = self.embedded(part), self.arguments(part)
        for i, level in enumerate(levels):
            t = torch.full_like(chosen_t, int(level))
            here = (stop[rows] == i).reshape(-1, 1, 1, 1)
            chosen_x = torch.where(here, x, chosen_x)
            chosen_t = torch.where(here.flatten(), t, chosen_t)
            if i == OWN_STEPS - 1:
                break
            estimate = consistency_output(
                lambda x, t: self.target(x, t, timestep_cond=emb, **arguments).sample,
                x,
                t,
                self.schedule,
                timestep_scaling=self.config.timestep_scaling,
            )
            after = torch.full_like(t, int(levels[i + 1]))
            x = self.schedule.add_noise(estimate, noise[i + 1][rows], after)
        batch["x_t"][rows], batch["t"][rows] = chosen_x, chosen_t
        batch["s"] = (batch["t"] - self.skip).clamp(min=0)

    def embedded(self, batch: dict[str, Tensor]) -> Tensor:
        """The embedding of w that the student takes."""
        return guidance_embedding(batch["w"], self.config.time_cond_proj_dim)

    def rate(self, name: str) -> float:
        return self.config.critic_rate if name == "critic" else 1.0

    def extra_state(self) -> dict[str, nn.Module]:
        return {"target": self.target}

    def frozen(self) -> list[nn.Module]:
        return [self.teacher]

    def after_step(self, step: int) -> None:
        del step
        live = list(self.student.parameters())
        ema.update(list(self.target.parameters()), live, self.config.target_ema)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        emb, arguments = self.embedded(batch), self.arguments(batch)
        part = open_rows(batch)
        part_emb, part_arguments = self.embedded(part), self.arguments(part)
        kept: list[tuple[Tensor, Tensor]] = []

        def target(x: Tensor, t: Tensor) -> Tensor:
            with autocast(self.config, self.device):  # which holds for one thread only
                out: Tensor = self.target(x, t, timestep_cond=part_emb, **part_arguments).sample
                return out

        def measured(output: Tensor) -> Tensor:
            kept.append((output, output.detach().requires_grad_()))
            return kept[0][1]

        critic = bool(self.config.adversarial_weight)
        loss = lcd_loss(
            lambda x, t: self.student(x, t, timestep_cond=emb, **arguments).sample,
            target,
            lambda x, t: self.guided(self.teacher, part, x, t),
            x_t=batch["x_t"],
            t=batch["t"],
            s=part["s"],
            w=part["w"],
            ends=batch.get("ends"),
            x_s=batch.get("x_s"),
            start=self.beside.start if self.beside else at_once,
            through=measured if critic else None,
            **self.options(),
        )
        mean = (loss * self.weights(batch["t"])).mean()
        return self.judged(batch, mean, *kept[0]) if critic else mean

    def judged(
        self, batch: dict[str, Tensor], consistency: Tensor, output: Tensor, leaf: Tensor
    ) -> Tensor:
        """The loss with the critic's pull on the student, and the critic's own loss."""
        made = self.seen(batch, leaf)
        with torch.no_grad():
            real = self.seen(batch, None)
        weight = self.config.adversarial_weight
        loss = pull(output, consistency, frozen(self.critic, made), leaf, weight)
        told = hinge(self.critic(real), real=True)
        told = told + hinge(self.critic([x.detach() for x in made]), real=False)
        self.figures = {"critic_loss": told.detach()}
        return loss + CRITIC_SHARE * told

    def seen(self, batch: dict[str, Tensor], made: Tensor | None) -> list[Tensor]:
        """What the critic sees of the estimates `made`, or of real latents for None."""
        eps = batch["critic_eps"]
        if self.config.critic == "latents":
            x0, told = (
                (batch["critic_real"], "critic_context") if made is None else (made, "context")
            )
            return [x0 + batch["critic_sigma"] * eps, batch[told]]
        t, x0 = batch["critic_t"], batch["x0"] if made is None else made
        noisy = self.schedule.add_noise(x0, eps, t)
        return encoder_features(self.teacher, noisy, t, **self.arguments(batch))

    def pipeline(self) -> Any:
        """The model as it is now."""
        return self.make_pipeline(self.student, guided=True)

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        where = folder / f"step-{step:06d}.png"
        self.draw_sheet(self.pipeline(), where, self.config.validation_guidance)
        return {}

    def export(self, folder: Path) -> None:
        """A LatentConsistencyModelPipeline folder (SDXL: its pipeline) in float16."""
        from training.export import save_pipeline

        save_pipeline(self.pipeline(), folder)
