"""Weights that are larger than memory: brought in piece by piece (accelerate), or kept in smaller numbers (SDNQ)."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lcm_studio import device
from lcm_studio.device import Placement
from lcm_studio.models.backends.cache import default_folder
from lcm_studio.spec.errors import ModelError

log = logging.getLogger(__name__)

SHARE = 0.8
"""Of the free memory that weights may take; the rest is for what a call computes."""

NUMBERS = ("int8", "int6", "int5", "int4", "uint8", "uint4", "float8_e4m3fn")


def fitting(weights: int, placement: Placement) -> dict[str, Any]:
    """Arguments of `from_pretrained` for `weights` bytes: none where they fit, else a map of what lies where.

    Of a GPU, what does not fit waits in memory; of a CPU, in a folder on disk. Each call is slower by the way there.
    """
    free = int(SHARE * device.free_bytes(placement.device))
    if weights <= free or placement.device == "mps":
        return {}
    log.warning(
        "%.1f GB of weights for %.1f GB that are free: they are brought in piece by piece, which is slow",
        weights / 2**30,
        free / 2**30,
    )
    memory: dict[Any, int] = {"cpu": int(SHARE * device.free_bytes("cpu"))}
    if placement.device.startswith("cuda"):
        _, _, number = placement.device.partition(":")
        memory[int(number or 0)] = free
    parent = default_folder() / "offload"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(dir=parent))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"device_map": "auto", "max_memory": memory, "offload_folder": str(folder)}


def check_room(parameters: int, placement: Placement, name: str) -> None:
    """Raises ModelError, with what would fit, where a single file's weights are larger than the free memory.

    Only folders are brought in piece by piece.
    """
    free = device.free_bytes(placement.device)
    each = placement.torch_dtype().itemsize
    need = parameters * each
    if need <= free:
        return
    ways = []
    if each == 4 and need // 2 <= free:
        backend = " --backend torch" if placement.backend == "openvino" else ""
        ways.append(f"use half of it with --dtype bf16{backend}")
    if placement.device != "cpu" and need <= device.free_bytes("cpu"):
        ways.append("run it by --device cpu")
    ways += [
        "take its diffusers folder, which is brought in piece by piece",
        "take a smaller model",
    ]
    raise ModelError(
        f"{name} needs {need / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free on {placement.device}; "
        f"{', '.join(ways[:-1])}, or {ways[-1]}"
    )


def quantizer(numbers: str) -> Any:
    """What keeps a network's weights in `numbers` ("quantize" in the model's studio.json). Raises ModelError."""
    if numbers not in NUMBERS:
        raise ModelError(f"quantize={numbers!r}: use one of {', '.join(NUMBERS)}")
    # compiling its kernels would hold up the first picture for minutes
    os.environ.setdefault("SDNQ_USE_TORCH_COMPILE", "0")
    try:
        from sdnq import SDNQConfig
    except ImportError as error:
        raise ModelError(
            f"quantize={numbers!r} wants the package sdnq (GPL-3.0); pip install sdnq==0.2.8, or take the line out"
        ) from error
    return SDNQConfig(weights_dtype=numbers)


def in_pieces(network: Any) -> bool:
    """Whether a network is spread over several places or quantised, so that torch alone can run it."""
    spread = getattr(network, "hf_device_map", None)
    return bool(spread) or getattr(network, "hf_quantizer", None) is not None
