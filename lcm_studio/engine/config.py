"""What an engine is started with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lcm_studio import bundled


def default_folders() -> tuple[Path, ...]:
    """The bundled models, then the folders of LCM_STUDIO_MODELS (separated as in PATH)."""
    extra = os.environ.get("LCM_STUDIO_MODELS", "")
    return (bundled.MODELS, *(Path(part).expanduser() for part in extra.split(os.pathsep) if part))


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """`device`: auto, cpu, cuda, mps. `dtype`: auto, fp32, fp16, bf16. `backend`: auto, torch, openvino, compile.
    `once`: for one request and then the end: auto is torch, and a backend that is named is built before the first call.

    `models_dirs`: folders that hold model folders. `embeddings_dirs`: folders of textual inversions, beside the folders
    `embeddings` in those of models. `keep`: models in memory at once.
    `max_rows`: pictures in one network call. `queue_size`: requests that may wait, for all models together.
    """

    device: str = "auto"
    dtype: str = "auto"
    backend: str = "auto"
    once: bool = False
    models_dirs: tuple[Path, ...] = ()
    embeddings_dirs: tuple[Path, ...] = ()
    offline: bool = True
    keep: int = 2
    max_rows: int = 16
    queue_size: int = 64
