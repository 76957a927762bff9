"""`autoencoder`: a small AutoencoderTiny trained from nothing on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.config import TrainConfig
from training.errors import TrainingFault
from training.recipes.base import Draw, Recipe
from training.recipes.latents import load_vae


class AutoencoderConfig(TrainConfig):
    """Fields of the autoencoder recipe."""

    shardable: ClassVar[bool] = False  # its halves are called, not the whole

    start_from: str = Field(
        "",
        description="folder of an AutoencoderTiny to go on from; its sizes count, not those below",
    )
    add_latent_channels: int = Field(
        0, ge=0, le=64, description="latent channels to add to the one in start_from"
    )
    freeze_encoder: bool = Field(
        False, description="train the decoder alone: latents, and models of them, stay valid"
    )
    latent_channels: int = Field(8, ge=1, le=64, description="channels of a latent pixel")
    encoder_width: int = Field(48, ge=8, description="channels inside the encoder")
    encoder_blocks: tuple[int, int, int, int] = Field(
        (0, 3, 3, 4), description="residual blocks from full size down to 1/8"
    )
    decoder_width: int = Field(48, ge=8, description="channels inside the decoder")
    decoder_blocks: tuple[int, int, int, int] = Field(
        (4, 4, 3, 0), description="residual blocks from 1/8 up to full size"
    )
    crop: int = Field(64, ge=16, multiple_of=8, description="side of training crops, pixels")
    latent_noise: float = Field(0.05, ge=0, description="noise on latents, which smooths them")
    latent_weight: float = Field(1e-3, ge=0, description="weight of the latents' mean square")
    gradient_weight: float = Field(1.0, ge=0, description="weight of the l1 of edges")
    square_weight: float = Field(1.0, ge=0, description="weight of the mean square error")


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours along x and y of (B, C, H, W)."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(
    y: Tensor, x: Tensor, *, square_weight: float = 1.0, gradient_weight: float = 1.0
) -> Tensor:
    """l1 + l2 + l1 of neighbour differences between pictures (B, 3, H, W) in [-1, 1]."""
    total = functional.l1_loss(y, x) + square_weight * functional.mse_loss(y, x)
    for a, b in zip(differences(y), differences(x), strict=True):
        total = total + gradient_weight * functional.l1_loss(a, b)
    return total


def psnr(y: Tensor, x: Tensor) -> Tensor:
    """Peak signal to noise, dB, of each picture (B,); pictures (B, 3, H, W) in [-1, 1]."""
    return 10 * torch.log10(4 / (y.clamp(-1, 1) - x).square().flatten(1).mean(1).clamp(min=1e-10))


def widened(vae: Any, more: int) -> Any:
    """`vae` with `more` latent channels after its own, which keep their meaning.

    The decoder does not hear the new ones yet, so that the pictures are the same at first.
    """
    from diffusers import AutoencoderTiny

    old = vae.config.latent_channels
    wider = AutoencoderTiny.from_config({**vae.config, "latent_channels": old + more})
    state = wider.state_dict()
    for name, value in vae.state_dict().items():
        there = state[name]
        if there.shape == value.shape:
            there.copy_(value)
        elif there.shape[0] == value.shape[0]:  # the decoder's first convolution
            there.zero_()
            there[:, :old] = value
        else:  # the encoder's last: new channels as loud as the old ones
            if value.ndim > 1:
                there.mul_(value.std() / there.std())
            there[:old] = value
    return wider.to(next(vae.parameters()).device, memory_format=torch.channels_last)


class Autoencoder(Recipe):
    """Crops in, crops out; the scale of the latents is measured at the export."""

    name: ClassVar[str] = "autoencoder"
    Config: ClassVar[type[TrainConfig]] = AutoencoderConfig
    config: AutoencoderConfig

    vae: Any

    def build(self) -> dict[str, nn.Module]:
        from diffusers import AutoencoderTiny

        from training.data.load import open_source

        self.source = open_source(self.config)
        c = self.config
        if c.add_latent_channels and (c.freeze_encoder or not c.start_from):
            raise TrainingFault(
                "config",
                f"add_latent_channels={c.add_latent_channels} wants start_from and an encoder that "
                "is trained; set start_from, and freeze_encoder to false",
            )
        if c.start_from:
            self.vae = load_vae(c.start_from, self.device)
            if c.add_latent_channels:
                self.vae = widened(self.vae, c.add_latent_channels)
            self.vae.requires_grad_(True)
        else:
            self.vae = AutoencoderTiny(
                latent_channels=c.latent_channels,
                encoder_block_out_channels=(c.encoder_width,) * 4,
                decoder_block_out_channels=(c.decoder_width,) * 4,
                num_encoder_blocks=c.encoder_blocks,
                num_decoder_blocks=c.decoder_blocks,
            ).to(self.device, memory_format=torch.channels_last)
        if c.freeze_encoder:
            self.vae.encoder.requires_grad_(False)
        return {"vae": self.vae}

    def data_length(self) -> int:
        return len(self.source)

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        c, g = self.config, draw.generator
        crops = []
        for index, _ in draw.examples:
            image = self.source.item(index).image
            top = int(torch.randint(0, image.shape[0] - c.crop + 1, (1,), generator=g))
            left = int(torch.randint(0, image.shape[1] - c.crop + 1, (1,), generator=g))
            cut = image[top : top + c.crop, left : left + c.crop]
            flip = bool(torch.randint(0, 2, (1,), generator=g))
            crops.append(cut[:, ::-1] if flip else cut)
        x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        channels = self.vae.config.latent_channels
        shape = (len(crops), channels, c.crop // 8, c.crop // 8)
        noise = torch.randn(shape, generator=g) * c.latent_noise
        return {
            "x": x.to(self.device, memory_format=torch.channels_last),
            "noise": noise.to(self.device),
        }

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        c = self.config
        z = self.vae.encoder(batch["x"])
        y = self.vae.decoder(z + batch["noise"])
        fit = reconstruction_loss(
            y, batch["x"], square_weight=c.square_weight, gradient_weight=c.gradient_weight
        )
        return fit + c.latent_weight * z.square().mean()

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        from PIL import Image

        x = self._held_out(64)
        z = self.vae.encoder(x)
        y = self.vae.decoder(z).clamp(-1, 1)
        pairs = torch.cat([torch.cat([a, b], 1) for a, b in zip(x[:8], y[:8], strict=True)], 2)
        sheet = pairs.add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        Image.fromarray(sheet).save(folder / f"step-{step:06d}.png")
        return {"psnr": psnr(y, x).mean().item(), "latent_std": z.std().item()}

    def export(self, folder: Path) -> None:
        """`vae/` with scaling_factor = 1 / std of the latents, so that they have unit variance."""
        if self.config.freeze_encoder:  # the scale belongs to the latents
            self._save(folder)
            return
        z = torch.cat([self.vae.encoder(self._examples(i, 64)) for i in range(0, 512, 64)])
        self.vae.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
        self._save(folder)

    def _save(self, folder: Path) -> None:
        from training.export import forget_paths

        self.vae.save_pretrained(folder / "vae", safe_serialization=True)
        forget_paths(folder)

    def _examples(self, first: int, count: int) -> Tensor:
        indices = [i % len(self.source) for i in range(first, first + count)]
        images = np.stack([self.source.item(i).image for i in indices])
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        return x.to(self.device, memory_format=torch.channels_last)

    def _held_out(self, count: int) -> Tensor:
        if self.config.data.kind != "scenes":
            return self._examples(0, min(count, len(self.source)))
        from training.data.scenes import held_out

        images, _ = held_out(count, self.config.resolution)
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        return x.to(self.device, memory_format=torch.channels_last)
