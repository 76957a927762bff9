"""What the latent-space recipes share: a frozen VAE, latents from the cache, captions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, StringConstraints
from torch import Tensor

from training.config import TrainConfig
from training.data.latents import Examples, to_signed, weights_key
from training.errors import TrainingFault
from training.networks import open_network
from training.recipes.base import Draw, Recipe
from training.rng import order

SHEET_PROMPTS = 8  # columns of the validation pictures


class PromptedConfig(TrainConfig):
    """Fields of the recipes that draw pictures from prompts."""

    validation_guidance: float = Field(2.0, ge=1, description="guidance scale of the pictures")
    validation_prompts: tuple[
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)], ...
    ] = Field(
        (),
        max_length=SHEET_PROMPTS,
        description=f"prompts of the pictures, at most {SHEET_PROMPTS}, a column each; none: the first captions of the data",
    )


def load_vae(folder: str, device: torch.device) -> Any:
    """AutoencoderTiny, AutoencoderDC or AutoencoderKL of a diffusers folder, frozen, in evaluation mode."""
    about = Path(folder) / "config.json"
    if not about.exists():
        raise TrainingFault(
            "missing_weights",
            f"autoencoder={folder!r} holds no config.json; give the vae folder of a diffusers model",
        )
    name = json.loads(about.read_text())["_class_name"]
    if name not in ("AutoencoderTiny", "AutoencoderDC", "AutoencoderKL"):
        raise TrainingFault(
            "config",
            f"{folder} is a {name}; give an AutoencoderTiny, AutoencoderDC or AutoencoderKL",
        )
    vae = open_network(Path(folder), name)
    return vae.to(device, memory_format=torch.channels_last)


def posterior(vae: Any, x: Tensor) -> Tensor:
    """What `vae` says of pictures (B, 3, H, W) in [-1, 1], scaled: latents (B, C, h, w), or where it
    has a spread, mean and standard deviation (B, 2C, h, w)."""
    found = vae.encode(x.to(next(vae.parameters()).device, memory_format=torch.channels_last))
    if hasattr(found, "latents") or hasattr(found, "latent"):  # AutoencoderDC says "latent"
        rows: Any = getattr(found, "latents", None)
        return (found.latent if rows is None else rows) * vae.config.scaling_factor
    spread = found.latent_dist
    return torch.cat([spread.mean, spread.std], 1) * vae.config.scaling_factor


def sample(rows: Tensor, generator: torch.Generator, *, spread: bool) -> Tensor:
    """Latents (B, C, h, w) of rows from `posterior`, drawn by a CPU generator where there is a spread."""
    if not spread:
        return rows
    mean, std = rows.chunk(2, 1)
    return mean + std * torch.randn(mean.shape, generator=generator).to(mean)


class LatentRecipe(Recipe):
    """What `teacher` and `lcd` share: latents, captions, tokens."""

    config: Any
    vae: Any

    def open_data(self, *, sized: bool = False) -> None:
        """Source and latents; encodes what the cache does not hold. `sized`: x0 has sizes beside it."""
        from diffusers import AutoencoderKL

        from training.data.latents import open_latents
        from training.data.views import Views

        data = self.config.data
        cached = data.latents == "cached"
        self.open_source()
        self.spread = isinstance(self.vae, AutoencoderKL)
        key = weights_key(self.vae) if cached else ""
        low = data.latents_precision == "bf16"
        if low and key:
            key += "-bf16"

        def encode(x: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
                return posterior(self.vae, x).float()

        self.views = Views.of(self.config, cached=cached)
        self.latents = open_latents(
            self.source,
            encode,
            views=self.views,
            size=self.config.resolution,
            spread=self.spread,
            key=f"{key}-posterior" if self.spread else key,
            cache=Path(data.cache) if cached else None,
            sized=sized,
            progress=lambda done: (
                print(f"encoded {done}", flush=True) if done % 1600 == 0 else None
            ),
        )

    def open_source(self) -> None:
        """Pictures and captions as they lie; says how many have no caption."""
        from training.data.load import missing_captions, open_source

        self.source = open_source(self.config)
        if warning := missing_captions(self.source):
            print(f"captions: {warning}", flush=True)

    def data_length(self) -> int:
        return len(self.source)

    def sheet_prompts(self) -> list[str]:
        """Prompts of the validation pictures: the config's, else the first captions of the data."""
        captions = min(SHEET_PROMPTS, len(self.source))
        return list(self.config.validation_prompts) or [
            self.source.caption(i, 0) for i in range(captions)
        ]

    def x0(self, draw: Draw) -> Tensor:
        """Latents of the drawn examples, (B, C, h, w)."""
        return self.sized_x0(draw)[0]

    def sized_x0(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """`x0`, and (B, 4) original height, width, top and left of each picture in pixels."""
        found = self.latents(draw.examples)
        x0 = sample(found.rows, draw.generator, spread=self.spread)
        return self.laid_out(x0), found.sizes.to(self.device)

    def pictures(self, examples: Examples) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of examples, each in its view."""
        views = [self.source.item(i, self.views.at(i, epoch)) for i, epoch in examples]
        return to_signed(np.stack([view.image for view in views])).to(self.device)

    def every_caption(self) -> Iterator[str]:
        """The empty caption, and every caption that the run will draw, in its order."""
        c, length = self.config, self.data_length()
        world = int(os.environ.get("WORLD_SIZE", "1"))
        drawn = c.steps * c.gradient_accumulation_steps * c.batch_size * world
        if getattr(self.source, "fixed_captions", False):
            drawn = min(drawn, length)
        yield ""
        for position in range(drawn):
            (index, epoch) = order(position, 1, length, c.seed)[0]
            yield self.source.caption(index, epoch)

    def captions(self, draw: Draw, empty: float) -> list[str]:
        """Captions of the drawn examples, each empty by chance `empty`."""
        keep = torch.rand(len(draw.examples), generator=draw.generator) >= empty
        return [
            self.source.caption(index, epoch) if kept else ""
            for (index, epoch), kept in zip(draw.examples, keep.tolist(), strict=True)
        ]
