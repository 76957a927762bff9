"""What the latent-space recipes share: a frozen VAE, latents from the cache, captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import TrainingFault
from training.recipes.base import Draw, Recipe


def load_vae(folder: str, device: torch.device) -> nn.Module:
    """AutoencoderTiny or AutoencoderKL of a diffusers folder, frozen, in evaluation mode."""
    import diffusers

    about = Path(folder) / "config.json"
    if not about.exists():
        raise TrainingFault(
            "missing_weights",
            f"autoencoder={folder!r} holds no config.json; give the vae folder of a diffusers model",
        )
    name = json.loads(about.read_text())["_class_name"]
    if name not in ("AutoencoderTiny", "AutoencoderKL"):
        raise TrainingFault("config", f"{folder} is a {name}; AutoencoderTiny or AutoencoderKL")
    vae = getattr(diffusers, name).from_pretrained(folder, torch_dtype=torch.float32)
    return vae.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)


def encode(vae: Any, x: Tensor) -> Tensor:
    """Scaled latents of pictures (B, 3, H, W) in [-1, 1]; the mean where the VAE has a spread."""
    found = vae.encode(x.to(next(vae.parameters()).device, memory_format=torch.channels_last))
    z = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
    return z * vae.config.scaling_factor


class LatentRecipe(Recipe):
    """What `teacher` and `lcd` share: cached latents, captions, tokens."""

    config: Any
    vae: Any

    def open_data(self) -> None:
        """Source and latents; encodes what the cache does not hold."""
        from training.data.latents import encode_all, weights_key
        from training.data.load import open_source

        self.source = open_source(self.config)
        self.latents = encode_all(
            self.source,
            lambda x: encode(self.vae, x),
            key=weights_key(self.vae),
            cache=Path(self.config.data.cache),
            progress=lambda done: (
                print(f"encoded {done}", flush=True) if done % 1600 == 0 else None
            ),
        )

    def data_length(self) -> int:
        return len(self.source)

    def x0(self, draw: Draw) -> Tensor:
        """Latents of the drawn examples, (B, C, h, w)."""
        z = np.stack([self.latents[index] for index, _ in draw.examples])
        return torch.from_numpy(z).to(self.device, memory_format=torch.channels_last)

    def captions(self, draw: Draw, empty: float) -> list[str]:
        """Captions of the drawn examples, each empty by chance `empty`."""
        keep = torch.rand(len(draw.examples), generator=draw.generator) >= empty
        return [
            self.source.caption(index, epoch) if kept else ""
            for (index, epoch), kept in zip(draw.examples, keep.tolist(), strict=True)
        ]
