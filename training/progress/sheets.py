"""Validation pictures: fixed prompts and seeds, made by the studio's own sampling, one row for each number of steps."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcm_studio.device import Placement
from lcm_studio.maths.pixels import to_pixels
from lcm_studio.models.kinds import row_of
from lcm_studio.models.load import LoadedModel, assemble
from lcm_studio.models.protocol import Prompt
from lcm_studio.sampling import Ask, Decode, Embed, SeededNoise, drive, kind_way, multistep
from lcm_studio.spec.models import ModelInfo

_LABEL = 16  # pixels above a block of rows for its name


def studio_model(pipe: Any) -> LoadedModel:
    """The studio's view of a diffusers pipeline in memory: no copy, its networks are the same objects."""
    parts = {name: part for name, part in pipe.components.items() if name != "scheduler"}
    config = {**pipe.scheduler.config, "_class_name": type(pipe.scheduler).__name__}
    unet = pipe.unet
    parameter = next(unet.parameters())
    side = int(unet.config.sample_size)
    if "vae" in parts:
        from lcm_studio.models.catalog import vae_factor

        side *= vae_factor(pipe.vae.config)
    embedded = getattr(unet.config, "time_cond_proj_dim", None) is not None
    kind = "cm" if "vae" not in parts else "sdxl" if "text_encoder_2" in parts else "sd"
    info = ModelInfo(
        id="validation",
        path="",
        kind="lcm" if embedded and kind == "sd" else kind,  # type: ignore[arg-type]
        width=side,
        height=side,
        multiple=8,
        guidance="embedded" if embedded else "none" if kind == "cm" else "cfg",
        takes_prompt=kind != "cm",
        classes=int(getattr(unet.config, "num_class_embeds", None) or 0),
        consistency=kind == "cm" or "LCM" in type(pipe.scheduler).__name__,
    )
    dtype = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(parameter.dtype, "fp32")
    placement = Placement(device=str(parameter.device), dtype=dtype)
    options = {
        "force_zeros_for_empty_prompt": pipe.config.get("force_zeros_for_empty_prompt", True)
    }
    model: Any = assemble(info, parts, config, placement, options=options)
    if kind != "cm":
        model.text.plain = (
            True  # captions are trained on as they stand, cut at the encoder's length
        )
    return model  # type: ignore[no-any-return]


def _session(
    model: LoadedModel, prompts: Sequence[Prompt], steps: int
) -> Generator[Ask, Any, torch.Tensor]:
    """Pictures of all prompts at once, the seed of each its place in the row."""
    info = model.info
    shape = model.sample_shape(info.width, info.height)
    noise = SeededNoise(range(len(prompts)), shape, device=model.device)
    cond = yield Embed(tuple(prompts))
    levels, way = model.grid(steps), kind_way(row_of(info), model, steps=steps)
    latents = yield from multistep(
        way.start(noise.draw(), model.schedule, levels[0]),
        levels,
        cond,
        schedule=model.schedule,
        noise=noise,
        way=way,
    )
    images: torch.Tensor = yield Decode(latents)
    return images


@torch.no_grad()
def _rows(model: LoadedModel, prompts: Sequence[Prompt], steps: Sequence[int]) -> np.ndarray:
    """uint8 (rows x H, columns x W, 3)."""
    rows = [to_pixels(drive(_session(model, prompts, count), model)) for count in steps]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def sheet(
    pipe: Any, prompts: Sequence[str], path: Path, *, steps: Sequence[int], guidance: float
) -> np.ndarray:
    """Writes a contact sheet, columns = prompts (seed = column), rows = numbers of steps."""
    model = studio_model(pipe)
    wanted = [
        Prompt(
            text=text,
            guidance=guidance,
            width=model.info.width,
            height=model.info.height,
        )
        for text in prompts
    ]
    return _write(_rows(model, wanted, steps), path)


def pixel_sheet(pipe: Any, path: Path, *, steps: Sequence[int], count: int) -> np.ndarray:
    """Writes samples of a pixel-space model, rows = numbers of steps, the same noise in a column."""
    model = studio_model(pipe)
    classes = model.info.classes
    labels = [Prompt(label=i % classes if classes else None) for i in range(count)]
    return _write(_rows(model, labels, steps), path)


def save_row(x: torch.Tensor, path: Path) -> None:
    """Writes pictures (B, 3, H, W) in [-1, 1] side by side."""
    row = torch.cat(list(x.clamp(-1, 1)), dim=2).add(1).mul(127.5).round().byte()
    _write(row.permute(1, 2, 0).cpu().numpy(), path)


def stack(blocks: Sequence[tuple[str, Path]], path: Path) -> None:
    """Writes the sheets that are there one above another, each below its name."""
    from PIL import Image, ImageDraw

    found = []
    for name, where in blocks:
        if where.is_file():
            with Image.open(where) as opened:
                found.append((name, opened.convert("RGB")))
    height = sum(image.height + _LABEL for _, image in found)
    whole = Image.new("RGB", (max(image.width for _, image in found), height), "white")
    pen, top = ImageDraw.Draw(whole), 0
    for name, image in found:
        pen.text((4, top + 2), name, fill="black")
        whole.paste(image, (0, top + _LABEL))
        top += image.height + _LABEL
    _write(np.asarray(whole), path)


def _write(pixels: np.ndarray, path: Path) -> np.ndarray:
    """The file appears whole: a page may be reading it."""
    from PIL import Image

    part = path.with_name(f".{path.name}")
    Image.fromarray(pixels).save(part, format="png")
    part.replace(path)
    return pixels
