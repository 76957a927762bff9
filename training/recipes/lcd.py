"""`lcd`: latent consistency distillation of a text-conditional teacher (Luo et al. 2023, Alg. 1)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lcm_studio.maths.guidance import guidance_embedding
from lcm_studio.maths.schedule import NoiseSchedule
from training import ema
from training.config import TrainConfig
from training.errors import TrainingFault
from training.losses import lcd_loss
from training.recipes.base import Draw
from training.recipes.teacher import LatentRecipe, load_vae
from training.text import Tokens


class LatentDistillationConfig(TrainConfig):
    """Fields of the lcd recipe."""

    teacher: str = Field("", description="folder of the teacher, a StableDiffusionPipeline")
    ddim_steps: int = Field(50, ge=2, description="levels of the grid; saved with the model")
    w_min: float = Field(0.0, ge=0, description="least w; w = guidance scale - 1")
    w_max: float = Field(7.0, ge=0, description="greatest w")
    w_power: float = Field(
        1.5, gt=0, description="w = w_min + (w_max - w_min) u^w_power, u uniform"
    )
    time_cond_proj_dim: int = Field(256, ge=8, description="width of the embedding of w")
    loss_type: Literal["huber", "l2"] = Field("huber", description="distance of two outputs")
    huber_c: float = Field(1e-3, gt=0, description="pseudo-Huber constant, in latents")
    target_ema: float = Field(0.95, ge=0, lt=1, description="EMA of the target network")
    timestep_scaling: float = Field(10.0, gt=0, description="of the boundary scalings")
    high_share: float = Field(
        0.0, ge=0, le=1, description="share of examples drawn from the upper fifth of the levels"
    )
    proportion_empty_prompts: float = Field(0.0, ge=0, le=1, description="share without caption")
    validation_guidance: float = Field(2.0, ge=1, description="guidance scale of the pictures")


def student_of(teacher: Any, time_cond_proj_dim: int) -> Any:
    """A copy of the teacher with a w projection of zeros: equal to it at step 0, whatever w."""
    from diffusers import UNet2DConditionModel

    fields = dict(teacher.config)
    fields["time_cond_proj_dim"] = time_cond_proj_dim
    student = UNet2DConditionModel.from_config(fields)
    lacking, extra = student.load_state_dict(teacher.state_dict(), strict=False)
    if extra or [name for name in lacking if "cond_proj" not in name]:
        raise TrainingFault(
            "config", f"the teacher's weights do not fit a student: {lacking}{extra}"
        )
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


class LatentDistillation(LatentRecipe):
    """Student and EMA target against one doubled call of the frozen teacher."""

    name: ClassVar[str] = "lcd"
    Config: ClassVar[type[TrainConfig]] = LatentDistillationConfig
    config: LatentDistillationConfig

    def build(self) -> dict[str, nn.Module]:
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        c = self.config
        root = Path(c.teacher)
        if not (root / "model_index.json").exists():
            raise TrainingFault(
                "missing_weights",
                f"teacher={c.teacher!r} holds no model_index.json; give a StableDiffusionPipeline folder",
            )
        self.vae = load_vae(str(root / "vae"), self.device)
        self.tokenizer = CLIPTokenizer.from_pretrained(root / "tokenizer")
        self.tokens = Tokens(self.tokenizer)
        text = CLIPTextModel.from_pretrained(root / "text_encoder", dtype=torch.float32)
        self.text = text.requires_grad_(False).eval().to(self.device)
        teacher = UNet2DConditionModel.from_pretrained(root / "unet", torch_dtype=torch.float32)
        layout = torch.channels_last
        self.teacher = teacher.requires_grad_(False).eval().to(self.device, memory_format=layout)
        self.student = student_of(teacher, c.time_cond_proj_dim).to(
            self.device, memory_format=layout
        )
        self.target = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.scheduler = self._scheduler(root)
        self.schedule = NoiseSchedule.from_config(self.scheduler)
        levels = len(self.schedule)
        if levels % c.ddim_steps:
            raise TrainingFault(
                "config",
                f"ddim_steps={c.ddim_steps} does not divide the schedule's {levels} levels, so the "
                "grid would not end where inference starts; use 20, 25, 40, 50 or 100",
            )
        self.skip = levels // c.ddim_steps
        self.open_data()
        with torch.no_grad():
            ids = self.tokens([""]).to(self.device)
            self.empty = self.text(ids).last_hidden_state
        return {"unet": self.student}

    def extra_state(self) -> dict[str, nn.Module]:
        return {"target": self.target}

    def after_step(self, step: int) -> None:
        del step
        ema.update(
            list(self.target.parameters()), list(self.student.parameters()), self.config.target_ema
        )

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        c, g = self.config, draw.generator
        x0 = self.x0(draw)
        n = len(x0)
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        high = torch.rand(n, generator=g) < c.high_share
        index = (torch.where(high, 0.8 + 0.2 * u, u) * c.ddim_steps).long()
        t = index.clamp(max=c.ddim_steps - 1) * self.skip + self.skip - 1
        w = c.w_min + (c.w_max - c.w_min) * torch.rand(n, generator=g) ** c.w_power
        eps = torch.randn(x0.shape, generator=g).to(x0)
        texts = self.captions(draw, c.proportion_empty_prompts)
        with torch.no_grad():
            cond = self.text(self.tokens(texts).to(self.device)).last_hidden_state
        return {
            "x_t": self.schedule.add_noise(x0, eps, t),
            "t": t.to(self.device),
            "s": (t - self.skip).clamp(min=0).to(self.device),
            "w": w.to(self.device),
            "cond": cond,
        }

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        c, cond = self.config, batch["cond"]
        emb = guidance_embedding(batch["w"], c.time_cond_proj_dim)
        both = torch.cat([cond, self.empty.expand_as(cond)])

        def teacher(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            found = self.teacher(torch.cat([x, x]), torch.cat([t, t]), both).sample
            first, second = found.chunk(2)
            return first, second

        return lcd_loss(
            lambda x, t: self.student(x, t, cond, timestep_cond=emb).sample,
            lambda x, t: self.target(x, t, cond, timestep_cond=emb).sample,
            teacher,
            x_t=batch["x_t"],
            t=batch["t"],
            s=batch["s"],
            w=batch["w"],
            schedule=self.schedule,
            kind=c.loss_type,
            c=c.huber_c,
            timestep_scaling=c.timestep_scaling,
        ).mean()

    def pipeline(self) -> Any:
        """The model as it is now, as a LatentConsistencyModelPipeline."""
        from diffusers import LatentConsistencyModelPipeline, LCMScheduler

        c = self.config
        wanted = ("beta_start", "beta_end", "beta_schedule", "prediction_type", "trained_betas")
        fields = {k: self.scheduler[k] for k in wanted if k in self.scheduler}
        scheduler = LCMScheduler(
            num_train_timesteps=len(self.schedule),
            clip_sample=False,
            set_alpha_to_one=False,
            original_inference_steps=c.ddim_steps,
            timestep_scaling=c.timestep_scaling,
            **fields,
        )
        return LatentConsistencyModelPipeline(
            vae=self.vae,
            text_encoder=self.text,
            tokenizer=self.tokenizer,
            unet=self.student,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        from training.pictures import sheet

        prompts = [self.source.caption(i, 0) for i in range(8)]
        where = folder / f"step-{step:06d}.png"
        guidance = self.config.validation_guidance
        sheet(self.pipeline(), prompts, where, steps=(1, 2, 4), guidance=guidance)
        return {}

    def export(self, folder: Path) -> None:
        """A LatentConsistencyModelPipeline folder in float16, the grid in its scheduler config."""
        from training.export import save_pipeline

        save_pipeline(self.pipeline(), folder)

    @staticmethod
    def _scheduler(root: Path) -> dict[str, Any]:
        import json

        found: dict[str, Any] = json.loads(
            (root / "scheduler" / "scheduler_config.json").read_text()
        )
        return found
