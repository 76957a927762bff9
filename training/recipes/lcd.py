"""`lcd`: latent consistency distillation of a text-conditional teacher (Luo et al. 2023, Alg. 1)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.config import TrainConfig
from training.objectives.critic import CRITIC_SHARE, Critic, hinge, pulled
from training.objectives.latent import lcd_loss
from training.objectives.paths import path_loss
from training.recipes.base import Draw
from training.recipes.students import StudentConfig, Students, part
from training.state import ema

if TYPE_CHECKING:
    from training.objectives.paths import Paths


PATH = ("x_t", "t", "end")  # what the objective of paths takes of its rows


class LatentDistillationConfig(StudentConfig):
    """Fields of the lcd recipe."""

    target_ema: float = Field(0.95, ge=0, lt=1, description="EMA of the target network")
    adversarial_weight: float = Field(
        0.0,
        ge=0,
        description="pull of a critic that tells what the student's estimates decode to from pictures of the "
        "data, as a share of the distance's pull; 0: none, as published",
    )
    critic_crop: int = Field(
        128, ge=32, description="side of the squares that the critic sees of a picture, pixels"
    )
    critic_rate: float = Field(1.0, gt=0, description="learning rate of the critic / the student's")
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
    path_shift: float = Field(
        1.0,
        gt=0,
        le=100,
        description="shift of the levels of the sampler that path_own makes its estimates with",
    )
    path_eta: float = Field(
        1.0, ge=0, le=1, description="share of fresh noise of that sampler; 1: all of it"
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


class LatentDistillation(Students):
    """Student and EMA target against one doubled call of the frozen teacher."""

    name: ClassVar[str] = "lcd"
    Config: ClassVar[type[TrainConfig]] = LatentDistillationConfig
    config: LatentDistillationConfig

    def build(self) -> dict[str, nn.Module]:
        self.teacher = self.open_teacher()
        self.student = self.open_student()
        self.target = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.paths = self.open_paths() if self.config.path_share else None
        if not self.config.adversarial_weight:
            return {"unet": self.student}
        self.critic = Critic(self.empty["context"].shape[-1]).to(self.device)
        return {"unet": self.student, "critic": self.critic}

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
        """Of Algorithm 1: what is drawn, and the solver's z_hat, which the frozen teacher gives; beside it
        rows on solved paths and what the critic sees, where the config asks for them."""
        c, g, n = self.config, draw.generator, len(draw.examples)
        solved = min(n - 1, round(c.path_share * n)) if self.paths else 0
        batch = super().batch(replace(draw, examples=draw.examples[: n - solved]))
        if solved:
            batch |= self.path_rows(solved, g)
        if c.adversarial_weight:
            batch |= self.critic_rows(draw)
        z_tnk = self.schedule.add_noise(batch["z"], batch["eps"], batch["t_nk"])
        with self.autocast():
            psi = self.solver(self.teacher, batch)
            batch["z_hat"] = psi(z_tnk, batch["t_nk"], batch["t_n"])
        return batch

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean distance of Algorithm 1 and of paths; the critic adds its pull."""
        distances, estimate = lcd_loss(
            self.f(self.student, batch),
            self.f(self.target, batch),
            lambda z_tnk, t_nk, t_n: batch["z_hat"],  # solved with the batch
            self.distance,
            z=batch["z"],
            eps=batch["eps"],
            t_nk=batch["t_nk"],
            t_n=batch["t_n"],
            schedule=self.schedule,
        )
        estimates, context = [estimate], batch["context"]
        on_paths = part("path_", batch)
        if on_paths:
            f = self.f(self.student, on_paths)
            further, estimate = path_loss(f, self.distance, **{k: on_paths[k] for k in PATH})
            distances = torch.cat([distances, further])
            estimates.append(estimate)
            context = torch.cat([context, on_paths["context"]])
        if not self.config.adversarial_weight:
            return distances.mean()
        return self.judged(distances.mean(), estimates, context, part("critic_", batch))

    def path_rows(self, count: int, g: torch.Generator) -> dict[str, Tensor]:
        """`count` rows on solved paths; their names begin with `path_`."""
        assert self.paths is not None
        drawn = self.paths.draw(count, g)
        rows = {
            "x_t": self.laid_out(drawn.x_t),
            "t": drawn.t.to(self.device),
            "w": drawn.w.to(self.device),
            "end": self.laid_out(drawn.end),
            **self.texts([self.source.caption(*example) for example in drawn.examples]),
        }
        if self.prompts.xl:
            size = self.config.resolution
            rows["sizes"] = torch.tensor([[size, size, 0, 0]]).to(rows["w"]).repeat(count, 1)
        return {f"path_{name}": value for name, value in rows.items()}

    def critic_rows(self, draw: Draw) -> dict[str, Tensor]:
        """Decoded squares of as many pictures of the data as examples, their captions, and where the squares of
        the estimates lie; `critic_...`."""
        g, n = draw.generator, len(draw.examples)
        z = self.x0(draw)
        texts = self.texts([self.source.caption(*example) for example in draw.examples])
        corners = self.corners(n, g)
        with torch.no_grad(), self.autocast():
            real = self.seen(z, corners).float()
        return {
            "critic_real": real,
            "critic_context": texts["context"],
            "critic_corners": self.corners(n, g),
        }

    def corners(self, n: int, g: torch.Generator) -> Tensor:
        """Top and left, int64 (n, 2), of squares of latents that decode to critic_crop pixels or the whole."""
        side = self.latents.shape[-1]
        return torch.randint(0, side - self.square(side) + 1, (n, 2), generator=g)

    def square(self, side: int) -> int:
        """Side in latents of what the critic sees of pictures with latents of `side`."""
        return max(1, min(side, self.config.critic_crop * side // self.config.resolution))

    def seen(self, z: Tensor, corners: Tensor) -> Tensor:
        """Pictures in [-1, 1] of the squares at `corners` of scaled latents, with gradients to them."""
        side = self.square(z.shape[-1])
        crops = [
            x[:, i : i + side, j : j + side] for x, (i, j) in zip(z, corners.tolist(), strict=True)
        ]
        latents = self.laid_out(torch.stack(crops)) / self.vae.config.scaling_factor
        decoded: Tensor = self.vae.decode(latents).sample
        return decoded

    def judged(
        self, consistency: Tensor, estimates: list[Tensor], context: Tensor, rows: dict[str, Tensor]
    ) -> Tensor:
        """The loss with the critic's pull on the student, and the critic's own loss."""
        weight = self.config.adversarial_weight
        made = self.seen(torch.cat(estimates), rows["corners"])
        loss = pulled(consistency, self.critic(made, context), estimates, weight)
        own = hinge(self.critic(rows["real"], rows["context"]), real=True)
        own = own + hinge(self.critic(made.detach(), context), real=False)
        self.figures = {"critic_loss": own.detach()}
        return loss + CRITIC_SHARE * own

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
