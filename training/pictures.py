"""Validation pictures: fixed prompts and seeds, one row for each number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def sheet(
    pipe: Any, prompts: Sequence[str], path: Path, *, steps: Sequence[int], guidance: float
) -> np.ndarray:
    """Writes a contact sheet, columns = prompts (seed = column), rows = numbers of steps."""
    from PIL import Image

    pipe.set_progress_bar_config(disable=True)
    rows = []
    for count in steps:
        seeds = [torch.Generator("cpu").manual_seed(i) for i in range(len(prompts))]
        found = pipe(
            list(prompts),
            num_inference_steps=count,
            guidance_scale=guidance,
            generator=seeds,
            output_type="np",
        ).images
        rows.append(np.concatenate(list(found), axis=1))
    whole = (np.concatenate(rows) * 255).round().astype(np.uint8)
    Image.fromarray(whole).save(path)
    return whole


def pixel_sheet(pipe: Any, path: Path, *, steps: Sequence[int], count: int) -> np.ndarray:
    """Writes samples of a pixel-space model, rows = numbers of steps, the same noise in a column."""
    from PIL import Image

    pipe.set_progress_bar_config(disable=True)
    classes = pipe.unet.config.num_class_embeds
    labels = [i % classes for i in range(count)] if classes else None
    rows = []
    for number in steps:
        seeds = [torch.Generator("cpu").manual_seed(i) for i in range(count)]
        found = pipe(
            batch_size=count,
            class_labels=labels,
            num_inference_steps=number,
            generator=seeds,
            output_type="np",
        ).images
        rows.append(np.concatenate(list(found), axis=1))
    whole = (np.concatenate(rows) * 255).round().astype(np.uint8)
    Image.fromarray(whole).save(path)
    return whole


def save_row(x: torch.Tensor, path: Path) -> None:
    """Writes pictures (B, 3, H, W) in [-1, 1] side by side."""
    from PIL import Image

    row = torch.cat(list(x.clamp(-1, 1)), dim=2).add(1).mul(127.5).round().byte()
    Image.fromarray(row.permute(1, 2, 0).cpu().numpy()).save(path)
