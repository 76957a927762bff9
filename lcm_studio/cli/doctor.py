"""doctor: versions, device, attention backend, free memory, and what would be used."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

from lcm_studio.cli.common import add_engine_arguments, make_engine

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "peft",
    "gradio",
    "pillow",
    "numpy",
    "openvino",
    "xformers",
)


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = sub.add_parser("doctor", help="say what is installed and what would be used")
    add_engine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the findings."""
    said = findings(args)
    if args.json:
        print(json.dumps(said))
        return 0
    for key, value in said.items():
        print(
            f"{key:12} {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}"
        )
    return 0


def findings(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that `doctor` prints."""
    import psutil
    import torch

    from lcm_studio.device import xformers_loads
    from lcm_studio.models.backends.cache import Cache

    with make_engine(args, once=False) as engine:
        placement = engine.placement
        models = {i.id: f"({i.kind}, {i.width}x{i.height})" for i in engine.catalog()}
    said: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": placement.device,
        "dtype": placement.dtype,
        "backend": f"{placement.backend}: {placement.reason}",
        "attention": placement.attention,
        "xformers": "loads" if xformers_loads() else "not used",
        "cpu": f"{psutil.cpu_count()} cores, {torch.get_num_threads()} threads",
        "memory": f"{psutil.virtual_memory().available / 2**30:.1f} GB free",
        "batch": f"up to {placement.rows(512, 512)} pictures of 512x512 in one call",
        "converted": f"{Cache().bytes() / 2**20:.0f} MB in {Cache().folder}",
        "models": models or "none found",
    }
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        said["gpu"] = (
            f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"
        )
    return said


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
