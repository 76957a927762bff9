"""`autoencoder`: a small AutoencoderTiny or AutoencoderDC trained from nothing on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from training.config import TrainConfig
from training.errors import TrainingFault
from training.recipes.base import Draw, Recipe
from training.recipes.latents import load_vae
from training.reconstruction import detail_share, edge_psnr, psnr, reconstruction_loss


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
    architecture: Literal["AutoencoderTiny", "AutoencoderDC"] = Field(
        "AutoencoderTiny",
        description="AutoencoderTiny: one width, no norms; AutoencoderDC: a width for each level, shortcuts by pixel shuffle",
    )
    latent_channels: int = Field(8, ge=1, le=64, description="channels of a latent pixel")
    encoder_width: int | tuple[int, ...] = Field(
        48,
        description="channels inside the encoder; AutoencoderDC: one for each level, full size first",
    )
    encoder_blocks: tuple[int, ...] = Field(
        (0, 3, 3, 4),
        description="residual blocks from full size down; 5 levels make a factor of 16",
    )
    decoder_width: int | tuple[int, ...] = Field(48, description="as encoder_width")
    decoder_blocks: tuple[int, ...] = Field(
        (4, 4, 3, 0),
        description="residual blocks up to full size; AutoencoderDC: full size first, as encoder_blocks",
    )
    crop: int = Field(64, ge=16, multiple_of=8, description="side of training crops, pixels")
    scale_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of steps whose latents are halved and must decode to the halved picture: latents that "
        "scale as pictures do are easier to model (EQ-VAE, Kouzelis et al. 2025)",
    )
    latent_noise: float = Field(0.05, ge=0, description="noise on latents, which smooths them")
    latent_weight: float = Field(1e-3, ge=0, description="weight of the latents' mean square")
    gradient_weight: float = Field(1.0, ge=0, description="weight of the l1 of edges")
    square_weight: float = Field(1.0, ge=0, description="weight of the mean square error")
    edge_weight: float = Field(
        0.0,
        ge=0,
        description="further weight of errors at edges, times the edge's height; 0 = none",
    )
    scales: int = Field(1, ge=1, le=5, description="scales on which the l1 of edges counts")

    @model_validator(mode="after")
    def _levels_fit(self) -> AutoencoderConfig:
        for side in ("encoder", "decoder"):
            width, blocks = getattr(self, f"{side}_width"), getattr(self, f"{side}_blocks")
            if self.architecture == "AutoencoderTiny" and not isinstance(width, int):
                raise ValueError(
                    f"{side}_width={width}: AutoencoderTiny has one width; give a number"
                )
            if not isinstance(width, int) and len(width) != len(blocks):
                raise ValueError(
                    f"{side}_width has {len(width)} levels and {side}_blocks {len(blocks)}; give as many of both"
                )
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError(
                f"encoder_blocks has {len(self.encoder_blocks)} levels and decoder_blocks "
                f"{len(self.decoder_blocks)}; give as many of both"
            )
        factor = 2 ** (len(self.encoder_blocks) - 1)
        if not self.start_from and self.crop % (2 * factor):
            raise ValueError(
                f"crop={self.crop} is no multiple of {2 * factor}, twice the factor; choose one that is"
            )
        return self


def make_autoencoder(c: AutoencoderConfig) -> Any:
    """A new autoencoder of the config's sizes, random weights."""
    import diffusers

    levels = len(c.encoder_blocks)

    def widths(width: int | tuple[int, ...]) -> tuple[int, ...]:
        return (width,) * levels if isinstance(width, int) else width

    if c.architecture == "AutoencoderTiny":
        return diffusers.AutoencoderTiny(
            latent_channels=c.latent_channels,
            encoder_block_out_channels=widths(c.encoder_width),
            decoder_block_out_channels=widths(c.decoder_width),
            num_encoder_blocks=c.encoder_blocks,
            num_decoder_blocks=c.decoder_blocks,
        )
    vae = diffusers.AutoencoderDC(
        latent_channels=c.latent_channels,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=widths(c.encoder_width),
        decoder_block_out_channels=widths(c.decoder_width),
        encoder_layers_per_block=c.encoder_blocks,
        decoder_layers_per_block=c.decoder_blocks,
        encoder_qkv_multiscales=((),) * levels,
        decoder_qkv_multiscales=((),) * levels,
    )
    # stock Stable Diffusion pipelines count the factor from this name
    vae.register_to_config(block_out_channels=widths(c.decoder_width))
    return vae


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
            self.vae = make_autoencoder(c).to(self.device, memory_format=torch.channels_last)
        self.factor = 2 ** (len(self.vae.config.encoder_block_out_channels) - 1)
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
        halved = bool(torch.rand((), generator=g) < c.scale_share)
        side = c.crop // self.factor // (2 if halved else 1)
        noise = torch.randn((len(crops), channels, side, side), generator=g) * c.latent_noise
        return {
            "x": x.to(self.device, memory_format=torch.channels_last),
            "noise": noise.to(self.device),
        }

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        c = self.config
        x, noise = batch["x"], batch["noise"]
        z = self.vae.encoder(x)
        size = z.float().square().mean()
        if noise.shape[-1] < z.shape[-1]:
            z, x = functional.avg_pool2d(z, 2), functional.avg_pool2d(x, 2)
        y = self.vae.decoder(z + noise).float()
        fit = reconstruction_loss(
            y,
            x,
            square_weight=c.square_weight,
            gradient_weight=c.gradient_weight,
            edge_weight=c.edge_weight,
            scales=c.scales,
        )
        return fit + c.latent_weight * size

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        from PIL import Image

        x = self._held_out(48)
        z = torch.cat([self.vae.encoder(part) for part in x.split(8)])
        y = torch.cat([self.vae.decoder(part) for part in z.split(8)]).clamp(-1, 1)
        pairs = torch.cat([torch.cat([a, b], 1) for a, b in zip(x[:8], y[:8], strict=True)], 2)
        sheet = pairs.add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        Image.fromarray(sheet).save(folder / f"step-{step:06d}.png")
        return {
            "psnr": psnr(y, x).mean().item(),
            "edge_psnr": edge_psnr(y, x).mean().item(),
            "fine_detail": detail_share(y, x),
            "finest_detail": detail_share(y, x, size=min(256, x.shape[-1])),
            "latent_std": z.std().item(),
        }

    def export(self, folder: Path) -> None:
        """`vae/` with scaling_factor = 1 / std of the latents, so that they have unit variance."""
        if self.config.freeze_encoder:  # the scale belongs to the latents
            self._save(folder)
            return
        z = torch.cat([self.vae.encoder(self._examples(i, 16)) for i in range(0, 512, 16)])
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
        from training.data.load import rendered

        images, _ = rendered("scenes").held_out(
            count, self.config.resolution, self.config.data.edition
        )
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        return x.to(self.device, memory_format=torch.channels_last)
