"""What the pixel-space recipes share: a UNet2DModel, pictures in [-1, 1], the exported pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lcm_studio.maths.grids import karras_sigmas
from lcm_studio.maths.karras import KarrasSchedule
from training.config import TrainConfig
from training.data.latents import to_signed
from training.errors import TrainingFault
from training.networks import open_network
from training.recipes.base import Draw, Recipe


class PixelConfig(TrainConfig):
    """Fields of every pixel-space recipe."""

    start_from: str = Field(
        "", description="folder of a pixel model to start from; '' = from nothing"
    )
    channels: tuple[int, ...] = Field((48, 96, 128), description="UNet widths, fine to coarse")
    layers_per_block: int = Field(1, ge=1, description="residual layers of a block")
    attention_levels: int = Field(2, ge=0, description="coarsest levels that have attention")
    head_width: int = Field(32, ge=4, description="channels of an attention head")
    norm_groups: int = Field(16, ge=1, description="groups of the group norms")
    classes: int = Field(0, ge=0, description="class labels of the data; 0 = unconditional")
    flip: bool = Field(False, description="mirror half of the pictures; or use data.flip")
    sigma_min: float = Field(0.002, gt=0, description="least noise, in pictures of [-1, 1]")
    sigma_max: float = Field(80.0, gt=0, description="greatest noise")
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of the pictures")
    rho: float = Field(7.0, gt=0, description="spacing of the Karras levels")
    levels: int = Field(40, ge=2, description="levels of the grid; saved with the model")


def make_pixel_unet(c: PixelConfig) -> Any:
    """An untrained UNet2DModel with attention on the coarsest levels."""
    from diffusers import UNet2DModel

    n, a = len(c.channels), min(c.attention_levels, len(c.channels))
    return UNet2DModel(
        sample_size=c.resolution,
        in_channels=3,
        out_channels=3,
        block_out_channels=c.channels,
        layers_per_block=c.layers_per_block,
        down_block_types=("DownBlock2D",) * (n - a) + ("AttnDownBlock2D",) * a,
        up_block_types=("AttnUpBlock2D",) * a + ("UpBlock2D",) * (n - a),
        attention_head_dim=c.head_width,
        norm_num_groups=c.norm_groups,
        num_class_embeds=c.classes or None,
        add_attention=a > 0,
    )


def load_pixel_unet(folder: str) -> nn.Module:
    """The UNet of a pixel model's folder, float32; raises TrainingFault where there is none."""
    root = Path(folder)
    where = root / "unet" if (root / "unet").is_dir() else root
    if not (where / "config.json").exists():
        raise TrainingFault(
            "missing_weights",
            f"{folder!r} holds no pixel-space UNet; give the folder of a ConsistencyModelPipeline",
        )
    found = json.loads((where / "config.json").read_text()).get("_class_name")
    if found != "UNet2DModel":
        raise TrainingFault("config", f"{folder} holds a {found}; this recipe needs a UNet2DModel")
    unet: nn.Module = open_network(where, "UNet2DModel")
    return unet.requires_grad_(True)


class PixelRecipe(Recipe):
    """Pictures, labels, the network as a plain function, the ConsistencyModelPipeline."""

    config: Any

    def build(self) -> dict[str, nn.Module]:
        from training.data.load import open_source
        from training.data.views import Views

        c = self.config
        self.source = open_source(c)
        self.views = Views.of(c, cached=False)
        if c.start_from:
            self.unet = self.placed(load_pixel_unet(c.start_from))
            there = self.unet.config.num_class_embeds or 0
            if there != c.classes:
                raise TrainingFault(
                    "config",
                    f"classes={c.classes} but the model in {c.start_from} has {there}; set classes to {there}",
                )
        else:
            self.unet = self.placed(make_pixel_unet(c))
        self.schedule = KarrasSchedule(
            sigma_min=c.sigma_min,
            sigma_max=c.sigma_max,
            sigma_data=c.sigma_data,
            rho=c.rho,
            levels=c.levels,
        )
        return {"unet": self.unet}

    def data_length(self) -> int:
        return len(self.source)

    def pictures(self, draw: Draw) -> dict[str, Tensor]:
        """x0 (B, 3, H, W) in [-1, 1], z of its shape, and labels (B,) where there are classes."""
        c, g = self.config, draw.generator
        items = [self.source.item(i, self.views.at(i, epoch)) for i, epoch in draw.examples]
        x0 = to_signed(np.stack([item.image for item in items]))
        if c.flip:
            mirrored = torch.rand(len(items), generator=g) < 0.5
            x0 = torch.where(mirrored.reshape(-1, 1, 1, 1), x0.flip(-1), x0)
        batch = {"x0": x0, "z": torch.randn(x0.shape, generator=g)}
        batch = {k: self.laid_out(v) for k, v in batch.items()}
        if c.classes:
            labels = torch.tensor([item.label or 0 for item in items])
            batch["labels"] = labels.to(self.device)
        return batch

    def network(self, unet: Any, batch: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """F(c_in x, 250 ln sigma) of a UNet with the labels of a batch."""
        labels = batch.get("labels")

        def f(x: Tensor, condition: Tensor) -> Tensor:
            out: Tensor = unet(x, condition.float(), class_labels=labels).sample
            return out

        return f

    def grid(self, levels: int) -> Tensor:
        """Rising noise levels, float64 (levels,)."""
        c = self.config
        found = karras_sigmas(levels, sigma_min=c.sigma_min, sigma_max=c.sigma_max, rho=c.rho)
        return found.flip(0)

    def solve(self, unet: Any, levels: int, count: int = 8) -> Tensor:
        """Samples of a diffusion model by Heun's solver, (count, 3, H, W); the noise and classes of `validate`."""
        from itertools import pairwise

        from lcm_studio.sampling import SeededNoise
        from training.objectives.pixels import edm_output, pf_ode_step

        c = self.config
        labels = torch.arange(count, device=self.device) % max(1, c.classes)
        network = self.network(unet, {"labels": labels} if c.classes else {})
        noise = SeededNoise(range(count), (3, c.resolution, c.resolution), device=self.device)
        grid = self.grid(levels).flip(0).to(self.device)
        x = noise.draw() * c.sigma_max
        for high, low in pairwise(grid):
            pair = high.expand(count), low.expand(count)
            x = pf_ode_step(network, x, *pair, solver="heun", sigma_data=c.sigma_data)
        return edm_output(network, x, grid[-1:].expand(count), sigma_data=c.sigma_data)

    def pipeline(self) -> Any:
        """The model as it is now, as a ConsistencyModelPipeline."""
        from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline

        c = self.config
        return ConsistencyModelPipeline(
            unet=self.unet,
            scheduler=CMStochasticIterativeScheduler(
                num_train_timesteps=c.levels,
                sigma_min=c.sigma_min,
                sigma_max=c.sigma_max,
                sigma_data=c.sigma_data,
                rho=c.rho,
            ),
        )

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        """Rows of one- and two-step samples, the same noise in every column."""
        from training.progress.sheets import pixel_sheet

        pixel_sheet(self.pipeline(), folder / f"step-{step:06d}.png", steps=(1, 2), count=8)
        return {}

    def export(self, folder: Path) -> None:
        """A ConsistencyModelPipeline folder in float16."""
        from training.export import save_pipeline

        save_pipeline(self.pipeline(), folder)
