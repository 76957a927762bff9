"""The `parameters` text that studios write into PNGs: our own line, and what others write, read tolerantly.

Two forms are in use: lines (prompt, `Negative prompt:`, then one line of `Key: value` pairs, perhaps further lines of
extensions below it) and JSON objects.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

NEGATIVE = "Negative prompt:"
# A value in quotes is a JSON string and may hold commas and colons.
PAIR = re.compile(r'\s*([A-Za-z][\w \-/]{0,40}?):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
SIZE = re.compile(r"\D*(\d{1,6})\s*[x×,]\s*(\d{1,6})\D*")
# Our name -> the names that JSON objects of other studios use.
JSON_NAMES = {
    "prompt": ("prompt", "positive_prompt"),
    "negative": ("negative_prompt", "negativeprompt"),
    "steps": ("steps",),
    "seed": ("seed",),
    "guidance": ("guidance_scale", "cfg_scale", "cfgscale"),
    "width": ("width",),
    "height": ("height",),
    "model": ("base_model", "model"),
}


def parameters_line(settings: Mapping[str, Any]) -> str:
    """The text that other studios write and read: prompt, negative prompt, then `Key: value` pairs."""
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative"):
        lines.append(f"{NEGATIVE} {settings['negative']}")
    pairs = {
        "Steps": settings.get("steps"),
        "Sampler": "DDIM" if settings.get("sampler") == "ddim" else "LCM",
        "CFG scale": settings.get("guidance"),
        "Seed": settings.get("seed"),
        "Size": f"{settings['width']}x{settings['height']}" if settings.get("width") else None,
        "Model": settings.get("model"),
    }
    if settings.get("clip_skip"):
        pairs["Clip skip"] = settings["clip_skip"] + 1  # others count the last layer as 1
    lines.append(", ".join(f"{key}: {value}" for key, value in pairs.items() if value is not None))
    return "\n".join(lines)


def parse_parameters(text: str) -> dict[str, Any] | None:
    """Settings of a `parameters` text, or None where it has no step count and seed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    lines = text.split("\n")
    for at in range(len(lines) - 1, -1, -1):
        said = _pairs(lines[at])
        if said is not None:
            prompt, negative = _prompts("\n".join(lines[:at]))
            return {"prompt": prompt, "negative": negative} | said
    return None


def _prompts(body: str) -> tuple[str, str]:
    head, mark, tail = ("\n" + body).partition(f"\n{NEGATIVE}")
    return head.strip("\n"), tail.strip() if mark else ""


def _pairs(line: str) -> dict[str, Any] | None:
    """Settings of one line of pairs; None where it is none. The first of two pairs of a name holds."""
    pairs: dict[str, str] = {}
    for key, value in PAIR.findall(line):
        pairs.setdefault(key.strip(), _unquoted(value.strip()))
    steps, seed = _whole(pairs.get("Steps")), _whole(pairs.get("Seed"))
    if steps is None or seed is None:
        return None
    said: dict[str, Any] = {"steps": steps, "seed": seed}
    guidance = _finite(pairs.get("CFG scale"))
    if guidance is not None:
        said["guidance"] = guidance
    size = SIZE.fullmatch(pairs.get("Size", ""))
    if size:
        said["width"], said["height"] = int(size[1]), int(size[2])
    skip = _whole(pairs.get("Clip skip"))
    if skip is not None and skip > 1:
        said["clip_skip"] = skip - 1
    if pairs.get("Model"):
        said["model"] = pairs["Model"]
    return said


def _parse_json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    inner = found.get("sui_image_params") if isinstance(found, dict) else None
    values = inner if isinstance(inner, dict) else found
    if not isinstance(values, dict):
        return None
    said: dict[str, Any] = {}
    for name, names in JSON_NAMES.items():
        value = next((values[n] for n in names if values.get(n) is not None), None)
        read = {
            "steps": _whole,
            "seed": _whole,
            "width": _whole,
            "height": _whole,
            "guidance": _finite,
        }
        value = read[name](value) if name in read else value if isinstance(value, str) else None
        if value is not None:
            said[name] = value
    size = SIZE.fullmatch(str(values.get("resolution") or ""))
    if size and "width" not in said:
        said["width"], said["height"] = int(size[1]), int(size[2])
    return said if {"prompt", "steps", "seed"} <= set(said) else None


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value)).strip()
    except ValueError:
        return value.strip('"')


def _whole(value: Any) -> int | None:
    try:
        return int(str(value).strip()) if len(str(value)) < 40 else None
    except ValueError:
        return None


def _finite(value: Any) -> float | None:
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None
