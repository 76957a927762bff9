"""Finished models as complete diffusers folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training.state.sharding import whole_copy, writes


def save_pipeline(pipe: Any, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Saves a copy of `pipe` in `dtype` with plain file names; the pipeline itself is unchanged.

    transformers loads a model in the type that its config names, diffusers in float32: the text
    encoder's config says float32, so that both agree where nothing is asked for. Where networks are
    split over processes, all must call this, and rank 0 writes.
    """
    half = {}
    for name, part in pipe.components.items():
        half[name] = whole_copy(part, dtype) if isinstance(part, torch.nn.Module) else part
    if not writes():
        return
    extra = {} if "safety_checker" not in half else {"requires_safety_checker": False}
    type(pipe)(**half, **extra).save_pretrained(folder, safe_serialization=True)
    forget_paths(folder)
    for about in folder.glob("text_encoder*/config.json"):
        fields = json.loads(about.read_text())
        fields["dtype"] = "float32"
        about.write_text(json.dumps(fields, indent=2) + "\n")


def inherit(
    teacher: Path,
    folder: Path,
    *,
    scales: tuple[float, float],
    own: Mapping[str, Any] | None = None,
) -> None:
    """Gives a student in `folder` what its teacher's folder says of prompts: words, examples, guidance scale.

    `scales`: the least and greatest guidance scale (w + 1) that the student was trained for. `own`: more of its
    studio.json, such as its number of steps. The teacher's number of steps, fitted edits and measured errors are not
    the student's.
    """
    if not writes():
        return
    words = teacher / "vocabulary.json"
    if words.is_file():
        (folder / words.name).write_bytes(words.read_bytes())
    about = teacher / "studio.json"
    guidance = json.loads(about.read_text()).get("guidance") if about.is_file() else None
    fields = dict(own or {})
    if isinstance(guidance, dict) and "default" in guidance:
        low, high = scales
        default = min(max(float(guidance["default"]), low), high)
        fields["guidance"] = {"default": default, "range": [low, high]}
    if fields:
        (folder / about.name).write_text(json.dumps(fields, indent=1) + "\n")


def forget_paths(folder: Path) -> None:
    """Removes from every config where its weights were loaded from: a path of this machine."""
    for about in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        if about.name in ("tokenizer.json", "vocab.json"):
            continue
        fields = json.loads(about.read_text())
        if isinstance(fields, dict) and fields.pop("_name_or_path", None) is not None:
            about.write_text(json.dumps(fields, indent=2) + "\n")
