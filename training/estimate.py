"""How long a step takes here, measured: the network of a config with random weights takes one step on noise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import TrainConfig

if TYPE_CHECKING:
    import torch

# Calls of the network without gradient in a step: target and guided teacher; target; teacher's solver.
_CALLS = {"lcd": 3, "lcm-lora": 3, "cd": 3, "ct": 1, "ict": 1, "ect": 1, "edm": 0, "teacher": 0}
_PATIENT = 8.0  # seconds that a measured step may take; a longer one is worked out from one picture


@dataclass(frozen=True, kw_only=True)
class Speed:
    """`seconds` of an optimizer step on `device`, worked out from a step of `measured` pictures."""

    seconds: float
    device: str
    measured: int


def speed(recipe: str, config: TrainConfig) -> Speed | None:
    """Measures it; None for a recipe whose network cannot be built from its config alone."""
    if recipe not in _CALLS:
        return None
    import torch

    from training.accelerator import device_of

    device = device_of(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    made = _network(recipe, config, device)
    if made is None:
        return None
    network, call = made
    average = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-9, fused=True)
    calls = _CALLS[recipe] - (recipe == "cd" and getattr(config, "solver", "") == "euler")

    def step(pictures: int) -> None:
        with torch.no_grad():
            for _ in range(calls):
                call(pictures)
        call(pictures).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, [p.detach() for p in network.parameters()], 0.1)

    timed = _timer(step, device, config)
    timed(1)  # the first call chooses kernels
    one = timed(1)
    pictures = max(1, min(config.batch_size, int(_PATIENT / one)))
    seconds = timed(pictures) if pictures > 1 else one
    micro = config.gradient_accumulation_steps * config.batch_size / pictures
    return Speed(seconds=seconds * micro, device=device.type, measured=pictures)


def _timer(
    step: Callable[[int], None], device: torch.device, config: TrainConfig
) -> Callable[[int], float]:
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.mixed_precision)

    def timed(pictures: int) -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            step(pictures)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    return timed


def _network(
    recipe: str, config: Any, device: torch.device
) -> tuple[torch.nn.Module, Callable[[int], torch.Tensor]] | None:
    """The trained network, and a call of it on noise for a number of pictures."""
    import diffusers
    import torch

    root = Path(getattr(config, "teacher", "") or getattr(config, "start_from", "") or "")
    about = next(
        (p for p in (root / "unet/config.json", root / "config.json") if p.is_file()), None
    )
    if about is not None:
        fields = json.loads(about.read_text())
        kind = getattr(diffusers, fields.get("_class_name", "UNet2DConditionModel"))
        unet = kind.from_config(fields)
    elif recipe == "teacher":
        return None
    else:
        from training.recipes.pixels import make_pixel_unet

        unet = make_pixel_unet(config)
    unet = unet.to(device, memory_format=torch.channels_last)
    latent = isinstance(unet, diffusers.UNet2DConditionModel)
    side = config.resolution // (_down(root) if latent else 1)
    shape = (unet.config.in_channels, side, side)

    def call(pictures: int) -> torch.Tensor:
        x = torch.randn(pictures, *shape, device=device).to(memory_format=torch.channels_last)
        t = torch.full((pictures,), 500, device=device)
        if not latent:
            labels = torch.zeros_like(t) if unet.config.num_class_embeds else None
            found: torch.Tensor = unet(x, t, class_labels=labels).sample
            return found
        width = unet.config.cross_attention_dim
        context = torch.randn(pictures, 77, width, device=device)
        more = {}
        if unet.config.addition_embed_type == "text_time":
            ids = 6 * unet.config.addition_time_embed_dim
            pooled = unet.config.projection_class_embeddings_input_dim - ids
            more["added_cond_kwargs"] = {
                "text_embeds": torch.randn(pictures, pooled, device=device),
                "time_ids": torch.zeros(pictures, 6, device=device),
            }
        out: torch.Tensor = unet(x, t, context, **more).sample
        return out

    return unet, call


def _down(root: Path) -> int:
    """Pixels of a side per latent, from the VAE's config; 8 where there is none."""
    about = root / "vae" / "config.json"
    return down(json.loads(about.read_text())) if about.is_file() else 8


def down(vae: Mapping[str, Any]) -> int:
    """Pixels of a side per latent, from the config of an AutoencoderTiny or AutoencoderKL."""
    widths = vae.get("encoder_block_out_channels") or vae.get("block_out_channels") or [0] * 4
    return int(2 ** (len(widths) - 1))
