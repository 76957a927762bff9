"""`lcm-lora`: the same distillation into a LoRA (Luo et al. 2023, LCM-LoRA).

The teacher is the same network with the adapter off, the target the adapter without gradient. w is
drawn from a range but not fed to the network: the result is used with guidance scale 1 to 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lcm_studio.models.kinds.recognise import METADATA
from training.config import TrainConfig
from training.objectives.latent import lcd_loss
from training.recipes.distillation import Distillation, DistillationConfig

TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip


class LoraConfigFields(DistillationConfig):
    """Fields of the lcm-lora recipe."""

    # with the adapter off peft switches its gradients off too, and FSDP does not follow that
    shardable: ClassVar[bool] = False

    rank: int = Field(64, ge=1, description="rank of the adapter")
    alpha: float = Field(0.0, ge=0, description="scale alpha / rank; 0 takes alpha = rank")
    target_modules: tuple[str, ...] = Field(TARGETS, description="modules that get an adapter")
    validation_guidance: float = Field(1.0, ge=1, description="guidance scale of the pictures")


class LoraDistillation(Distillation):
    """One network: adapter on is the student, adapter off the teacher."""

    name: ClassVar[str] = "lcm-lora"
    Config: ClassVar[type[TrainConfig]] = LoraConfigFields
    config: LoraConfigFields

    def build(self) -> dict[str, nn.Module]:
        from peft import LoraConfig

        c = self.config
        self.unet = self.open_teacher()
        self.unet.add_adapter(
            LoraConfig(
                r=c.rank,
                lora_alpha=c.alpha or c.rank,
                target_modules=list(c.target_modules),
                init_lora_weights="gaussian",
            )
        )
        return {"unet": self.unet}

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The network as the teacher, for a time."""
        self.unet.disable_adapters()
        try:
            yield
        finally:
            self.unet.enable_adapters()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Algorithm 1 with one network; the solver's step is no part of `batch`, since it switches the adapter."""
        f = self.consistency(self.unet, batch)

        def psi(z_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
            with self.without_adapter():
                return self.solver(self.unet, batch)(z_t, t, s)

        distances, _ = lcd_loss(
            f, f, psi, self.distance, schedule=self.schedule,
            z=batch["z"], eps=batch["eps"], t_nk=batch["t_nk"], t_n=batch["t_n"],
        )  # fmt: skip
        return distances.mean()

    def draw_teacher(self, path: Path) -> None:
        self.teacher = self.unet
        with self.without_adapter():
            super().draw_teacher(path)

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        pipe = self.make_pipeline(self.unet, guided=False)
        self.draw_sheet(pipe, folder / f"step-{step:06d}.png", self.config.validation_guidance)
        return {}

    def export(self, folder: Path) -> None:
        """pytorch_lora_weights.safetensors for `load_lora_weights`, and the scheduler to use with it."""
        from peft.utils import get_peft_model_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        layers = get_peft_model_state_dict(
            self.unet
        )  # peft's names: diffusers' cover attention only
        half = {k: v.to(torch.float16).contiguous() for k, v in layers.items()}
        pipe = self.make_pipeline(self.unet, guided=False)
        type(pipe).save_lora_weights(folder, unet_lora_layers=half, safe_serialization=True)
        say_kind(folder / "pytorch_lora_weights.safetensors", "lcm-lora")
        self.lcm_scheduler().save_pretrained(folder / "scheduler")


def say_kind(path: Path, kind: str) -> None:
    """Writes into a safetensors file's metadata which row of `models.kinds` it is, whatever its name will be."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
    save_file(load_file(path), path, metadata={**metadata, "format": "pt", METADATA: kind})
