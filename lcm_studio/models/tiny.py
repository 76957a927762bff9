"""Tiny autoencoders (TAESD and its family, github.com/madebyollin/taesd): previews, and final pictures as `fast`."""

from __future__ import annotations

from pathlib import Path

FAST = "fast"
"""The name of a model's tiny decoder, as `decoder` of a request."""

TINY_DECODERS = {
    "lcm": ("taesd",),
    "sd": ("taesd",),
    "sdxl": ("taesdxl",),
}
"""A model's kind -> names of the folders that hold a decoder for its latents."""


def tiny_folder(kind: str, roots: tuple[Path, ...], model: Path | None = None) -> Path | None:
    """The tiny decoder of a model: `vae_tiny` in its own folder, else the family's among `roots`; None without one."""
    own = [model / "vae_tiny"] if model is not None else []
    shared = [root / name for root in roots for name in TINY_DECODERS.get(kind, ())]
    return next((path for path in (*own, *shared) if (path / "config.json").is_file()), None)
