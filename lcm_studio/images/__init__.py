"""The image gate (uploads to safe uint8 arrays) and PNG settings. No torch."""

from __future__ import annotations

from lcm_studio.images.gate import Gate, fitted, flatten, has_alpha, read_image
from lcm_studio.images.png import png_bytes, read_settings, write_png

__all__ = [
    "Gate",
    "fitted",
    "flatten",
    "has_alpha",
    "png_bytes",
    "read_image",
    "read_settings",
    "write_png",
]
