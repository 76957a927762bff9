"""`edm`: a pixel-space diffusion model, the teacher of `cd` and the start of `ect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from training.config import TrainConfig
from training.objectives.pixels import edm_loss
from training.recipes.base import Draw
from training.recipes.pixels import PixelConfig, PixelRecipe


class EdmConfig(PixelConfig):
    """Fields of the edm recipe."""

    p_mean: float = Field(-1.2, description="mean of ln sigma in training")
    p_std: float = Field(1.2, gt=0, description="standard deviation of ln sigma in training")
    sampling_steps: int = Field(18, ge=2, description="Heun steps of the validation pictures")


class Edm(PixelRecipe):
    """Denoising score matching with Karras' preconditioning (Karras et al. 2022, table 1)."""

    name: ClassVar[str] = "edm"
    Config: ClassVar[type[TrainConfig]] = EdmConfig
    config: EdmConfig

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        batch = self.pictures(draw)
        g, c, n = draw.generator, self.config, len(draw.examples)
        u = (torch.arange(n) + torch.rand(n, generator=g, dtype=torch.float64)) / n
        normal = torch.erfinv((2 * u - 1).clamp(-1 + 1e-9, 1 - 1e-9)) * 2**0.5
        batch["sigma"] = (c.p_mean + c.p_std * normal).exp().to(self.device)
        return batch

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return edm_loss(
            self.network(self.unet, batch),
            batch["x0"],
            batch["z"],
            batch["sigma"],
            sigma_data=self.config.sigma_data,
        )

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        """Pictures by Heun's solver; the same noise at every step of training."""
        from training.progress.sheets import save_row

        x = self.solve(self.unet, self.config.sampling_steps)
        save_row(x, folder / f"step-{step:06d}.png")
        return {}

    def export(self, folder: Path) -> None:
        """The folder, which says that this is a diffusion model: its files alone look like a consistency model's."""
        from training.state.sharding import writes

        super().export(folder)
        if not writes():
            return
        about = {"consistency": False, "steps": self.config.sampling_steps}
        (folder / "studio.json").write_text(json.dumps(about, indent=1) + "\n")
