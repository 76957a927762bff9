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
