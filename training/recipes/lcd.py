"""`lcd`: latent consistency distillation of a text-conditional teacher (Luo et al. 2023, Alg. 1)."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.guidance import guidance_embedding
from lcm_studio.maths.schedule import NoiseSchedule
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
from training.errors import TrainingFault
from training.features import autocast
from training.losses import consistency_output, guided_ddim, lcd_loss
from training.recipes.base import Draw
from training.recipes.latents import LatentRecipe, load_vae
from training.recipes.prompts import Conditions, Prompts, join, unet_arguments
from training.recipes.students import continued, student_of

if TYPE_CHECKING:
    from training.data.texts import CachedTexts
    from training.paths import Paths


OWN_STEPS = 4  # of the student's sampler, where it trains on its own estimates
TEACHER_STEPS = 25  # of the teacher's own sampler, for its pictures


class DistillationConfig(TrainConfig):
    """Fields that `lcd` and `lcm-lora` share."""

    teacher: str = Field("", description="folder of the teacher, a Stable Diffusion pipeline")
    ddim_steps: int = Field(50, ge=2, description="levels of the grid; saved with the model")
    w_min: float = Field(0.0, ge=0, description="least w; w = guidance scale - 1")
    w_max: float = Field(7.0, ge=0, description="greatest w")
    w_power: float = Field(
        1.0, gt=0, description="w = w_min + (w_max - w_min) u^w_power, u uniform"
    )
    loss_type: Literal["huber", "l2"] = Field("huber", description="distance of two outputs")
    huber_c: float = Field(1e-3, gt=0, description="pseudo-Huber constant, in latents")
    timestep_scaling: float = Field(10.0, gt=0, description="of the boundary scalings")
    high_share: float = Field(
        0.0, ge=0, le=1, description="share of examples drawn from the upper fifth of the levels"
    )
    low_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of examples drawn from the lowest fifth of the levels, where the target is "
        "the teacher and not the student; with high_share at most 1",
    )
    level_weight: Literal["one", "inverse_sigma"] = Field(
        "one",
        description="weight of an example: 1 as published, or 1 / sigma_t, which for v-prediction "
        "gives an error of the network the same pull at every level; the mean over the levels is 1",
    )
    proportion_empty_prompts: float = Field(0.0, ge=0, le=1, description="share without caption")
    validation_guidance: float = Field(2.0, ge=1, description="guidance scale of the pictures")

    @model_validator(mode="after")
    def _shares_are_parts_of_a_whole(self) -> DistillationConfig:
        if self.high_share + self.low_share > 1:
            raise ValueError(
                f"high_share={self.high_share} and low_share={self.low_share} are more than 1 "
                "together; lower one of them"
            )
        return self


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


class Distillation(LatentRecipe):
    """A teacher's folder, its noise levels in steps of k, and its guided ODE."""

    config: Any
    teacher: Any

    def open_teacher(self) -> Any:
        """VAE, prompts, schedule, data and the teacher's UNet, all frozen; returns the UNet."""
        from diffusers import UNet2DConditionModel

        c, root = self.config, Path(self.config.teacher)
        if not c.teacher or not (root / "model_index.json").is_file():
            raise TrainingFault(
                "missing_weights",
                f"teacher={c.teacher!r} holds no model_index.json; give a diffusers pipeline folder",
            )
        fields = json.loads((root / "scheduler" / "scheduler_config.json").read_text())
        self.scheduler: dict[str, Any] = fields
        self.schedule = NoiseSchedule.from_config(fields)
        if len(self.schedule) % c.ddim_steps:
            raise TrainingFault(
                "config",
                f"ddim_steps={c.ddim_steps} does not divide the {len(self.schedule)} levels of the "
                "schedule, so the grid would not end where inference starts; use 20, 25, 40 or 50",
            )
        self.skip = len(self.schedule) // c.ddim_steps
        unet = UNet2DConditionModel.from_pretrained(root / "unet", torch_dtype=torch.float32)
        if unet.config.time_cond_proj_dim is not None:
            raise TrainingFault(
                "config", f"{c.teacher} is a consistency model; distil the model it was made from"
            )
        self.vae = load_vae(str(root / "vae"), self.device)
        self.prompts = Prompts(root, self.device)
        self.empty = self.prompts.empty()
        self.open_data(sized=self.prompts.xl)
        self.texts = self.open_texts()
        unet.requires_grad_(False).eval()
        return self.placed(unet)

    def open_texts(self) -> Prompts | CachedTexts:
        """What gives embeddings of captions; encodes those of the run that the cache does not hold."""
        data = self.config.data
        if data.text == "online":
            return self.prompts
        from training.data.texts import CachedTexts

        texts = CachedTexts(self.prompts, Path(data.cache), limit_mb=data.text_cache_mb)
        lacking = texts.fill(
            self.every_caption(), lambda done: print(f"encoded {done} captions", flush=True)
        )
        if lacking:
            print(
                f"{lacking} captions are encoded in the step: text_cache_mb={data.text_cache_mb}, or "
                "half of the free disk, is less than they take",
                flush=True,
            )
        return texts

    def levels(self, n: int, g: torch.Generator) -> Tensor:
        """Noise levels t of `n` examples, int64, spread over the grid as the shares say."""
        c = self.config
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        where = torch.rand(n, generator=g)
        u = torch.where(where < c.high_share, 0.8 + 0.2 * u, u)
        u = torch.where(where >= 1 - c.low_share, 0.2 * u, u)
        index = (u * c.ddim_steps).long().clamp(max=c.ddim_steps - 1)
        return index * self.skip + self.skip - 1

    def weights(self, t: Tensor) -> Tensor:
        """Weight of examples at levels `t` (B,), float32, as `level_weight` says.

        f = alpha x - sigma v moves by sigma for each unit of the prediction v (by sigma / alpha for
        epsilon, which is nearly that at low levels). At the lowest levels, which hold the whole chain
        of targets in place, an error is therefore hardly felt, and the student's gain drifts.
        """
        if self.config.level_weight == "one":
            return torch.ones(len(t), device=t.device)
        grid = torch.arange(self.skip - 1, len(self.schedule), self.skip)
        inverse = (1 - self.schedule.alphas_cumprod[grid]).rsqrt()
        return (inverse / inverse.mean())[(t // self.skip).cpu()].float().to(t.device)

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        c, g = self.config, draw.generator
        x0, sizes = self.sized_x0(draw)
        n = len(x0)
        t = self.levels(n, g)
        w = c.w_min + (c.w_max - c.w_min) * torch.rand(n, generator=g) ** c.w_power
        eps = torch.randn(x0.shape, generator=g).to(x0)
        texts = self.captions(draw, c.proportion_empty_prompts)
        return {
            "x0": x0,
            "x_t": self.schedule.add_noise(x0, eps, t),
            "t": t.to(self.device),
            "s": (t - self.skip).clamp(min=0).to(self.device),
            "w": w.to(self.device),
            **({"sizes": sizes} if self.prompts.xl else {}),
            **self.texts(texts),
        }

    def conditions(self, batch: dict[str, Tensor]) -> Conditions:
        """The text part of a batch."""
        return {k: batch[k] for k in ("context", "pooled") if k in batch}

    def arguments(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """What the UNet is told of a batch beside x and t."""
        return unet_arguments(self.conditions(batch), self.config.resolution, batch.get("sizes"))

    def guided(self, unet: Any, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Any:
        """The teacher's predictions with and without the prompt, in one doubled call."""
        both = join(self.conditions(batch), self.empty)
        arguments = unet_arguments(both, self.config.resolution, batch.get("sizes"))
        return unet(torch.cat([x, x]), torch.cat([t, t]), **arguments).sample.chunk(2)

    def lcm_scheduler(self) -> Any:
        """LCMScheduler on the teacher's noise levels; the grid is in its config."""
        from diffusers import LCMScheduler

        wanted = (
            "beta_start",
            "beta_end",
            "beta_schedule",
            "prediction_type",
            "trained_betas",
            "rescale_betas_zero_snr",
        )
        return LCMScheduler(
            num_train_timesteps=len(self.schedule),
            clip_sample=False,
            set_alpha_to_one=False,
            original_inference_steps=self.config.ddim_steps,
            timestep_scaling=self.config.timestep_scaling,
            **{k: self.scheduler[k] for k in wanted if k in self.scheduler},
        )

    def options(self) -> dict[str, Any]:
        """What `lcd_loss` takes from the config."""
        c = self.config
        return {
            "schedule": self.schedule,
            "kind": c.loss_type,
            "c": c.huber_c,
            "timestep_scaling": c.timestep_scaling,
        }

    def make_pipeline(self, unet: Any, *, guided: bool) -> Any:
        """`guided`: w goes into the network (LCM); else classifier-free guidance (LoRA), or SDXL."""
        import diffusers

        parts = {"vae": self.vae, "unet": unet, "scheduler": self.lcm_scheduler()}
        for i, suffix in enumerate(("", "_2")[: len(self.prompts.encoders)]):
            parts[f"text_encoder{suffix}"] = self.prompts.encoders[i]
            parts[f"tokenizer{suffix}"] = self.prompts.tokenizers[i]
        if self.prompts.xl:
            zero = self.prompts.zero_empty
            return diffusers.StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zero)
        name = "LatentConsistencyModelPipeline" if guided else "StableDiffusionPipeline"
        return getattr(diffusers, name)(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )

    def draw_sheet(self, pipe: Any, path: Path, guidance: float) -> None:
        """Fixed captions and seeds at 1, 2 and 4 steps."""
        from training.pictures import sheet

        sheet(pipe, self.sheet_prompts(), path, steps=(1, 2, 4), guidance=guidance)

    def sheet_prompts(self) -> list[str]:
        """Captions of the validation pictures."""
        return [self.source.caption(i, 0) for i in range(min(8, len(self.source)))]

    def teacher_pipeline(self) -> Any:
        """The teacher with the sampler of its folder."""
        import diffusers

        unet, name = self.teacher, self.scheduler.get("_class_name", "DDIMScheduler")
        pipe = self.make_pipeline(unet, guided=False)
        pipe.scheduler = getattr(diffusers, name).from_config(self.scheduler)
        return pipe

    def draw_teacher(self, path: Path) -> None:
        """Guided as the student's pictures are, or at the middle of w where it is given no w."""
        from training.pictures import sheet

        c = self.config
        guidance = c.validation_guidance
        if guidance <= 1:
            guidance = 1 + (c.w_min + c.w_max) / 2
        pipe = self.teacher_pipeline()
        sheet(pipe, self.sheet_prompts(), path, steps=(TEACHER_STEPS,), guidance=guidance)


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
