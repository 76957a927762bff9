"""Brings values into the ranges of the Create form's controls, with a sentence for each that had to move.

Values come from a model's defaults, from a dropped PNG of any program, or from a state that the browser kept. A value
outside a control's range would make Gradio refuse every later event of the form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lcm_studio.spec import limits, samplers
from lcm_studio.spec.models import ModelInfo
from lcm_studio.web.create import own
from lcm_studio.web.create.samplers import fitted

FEW_STEPS = 8
LORA_WEIGHT = 2.0


def most_steps(info: ModelInfo, sampler: Any = "auto") -> int:
    """The largest number of steps that can be asked of a model with a sampler."""
    if sampler in samplers.SAMPLERS and samplers.most(sampler) > limits.MAX_STEPS:
        return samplers.most(sampler)  # evaluations, which no grid of the model bounds
    return max(1, min(limits.MAX_STEPS, info.max_steps))


def top_of_steps(info: ModelInfo, steps: int, *, more: bool = False) -> int:
    """The slider's right end: few steps, unless more are asked for or needed."""
    most = max(most_steps(info), steps)
    return most if more or steps > FEW_STEPS else min(FEW_STEPS, most)


def guidance_ends(info: ModelInfo) -> tuple[float, float]:
    low, high = info.guidance_range
    return low, max(high, low + 1)


def side_ends(info: ModelInfo) -> tuple[int, int]:
    """The smallest and the largest side: multiples of the model's, from a quarter of its size to four times."""
    step = info.multiple
    low = -(-max(limits.MIN_SIDE, min(info.width, info.height) // 4) // step) * step
    high = min(limits.MAX_SIDE, 4 * max(info.width, info.height)) // step * step
    return low, max(low, high)


def fit(values: Mapping[str, Any], info: ModelInfo) -> tuple[dict[str, Any], list[str]]:
    """(form values that every control takes, sentences about those that were changed)."""
    out = dict(values)
    notes: list[str] = []

    def bound(name: str, low: float, high: float, words: str) -> None:
        value = out.get(name)
        if value is None:
            return
        if not isinstance(value, int | float) or math.isnan(value):
            out[name] = low
            notes.append(f"{str(value)[:40]!r} is no value for {words}; {low:g} is set.")
        elif not low <= value <= high:
            out[name] = type(low)(min(max(value, low), high))
            notes.append(f"{_short(value)} is out of range for {words}; {out[name]:g} is set.")

    bound("steps", 1, most_steps(info, out.get("sampler")), "steps")
    if info.guidance != "none":
        bound("guidance", *guidance_ends(info), "guidance")
    for name, field in own.FIELDS.items():
        if field.span and own.there(field.setting, info):
            bound(name, *own.ends(field, info, field.setting.high), field.setting.title.lower())
    bound("count", 1, limits.MAX_COUNT, "images")
    seed = out.get("seed")
    if isinstance(seed, int) and not 0 <= seed <= limits.MAX_SEED:
        out["seed"] = seed % (limits.MAX_SEED + 1)
        notes.append(
            f"Seed {_short(seed)} is larger than {limits.MAX_SEED}; {out['seed']} is set, "
            "so the picture will differ."
        )
    _fit_size(out, info, notes)
    for name in ("prompt", "negative"):
        text = out.get(name)
        if isinstance(text, str) and len(text) > limits.MAX_PROMPT:
            out[name] = text[: limits.MAX_PROMPT]
            notes.append(f"The {name} is cut to its first {limits.MAX_PROMPT} characters.")
    if out.get("sampler") is not None and out["sampler"] not in samplers.NAMES:
        notes.append(f"The sampler {str(out['sampler'])[:40]!r} is unknown; auto is set.")
        out["sampler"] = "auto"
    settings, remarks = fitted(out)
    out |= settings
    notes += remarks
    for name in [name for name in out if name.startswith("weight")]:
        bound(name, -LORA_WEIGHT, LORA_WEIGHT, "a LoRA's weight")
    return out, notes


def _fit_size(out: dict[str, Any], info: ModelInfo, notes: list[str]) -> None:
    """Both sides to the nearest that the model can make."""
    if not all(isinstance(out.get(side), int) for side in ("width", "height")):
        return
    low, high = side_ends(info)
    step = info.multiple
    asked = (out["width"], out["height"])
    sides = [min(max(round(side / step) * step, low), high) for side in asked]
    out["width"], out["height"] = sides
    if tuple(sides) != asked:
        names = " x ".join(_short(side) for side in asked)
        notes.append(
            f"{names} is no size for {info.called}, whose sides are multiples of {step} from {low} to {high}; "
            f"{sides[0]} x {sides[1]} is set."
        )


def _short(value: float) -> str:
    text = f"{value}"
    return text if len(text) <= 24 else f"{text[:20]}..."
