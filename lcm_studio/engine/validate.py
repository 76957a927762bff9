"""Every request is checked here, once, whichever door it came through. No torch."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args

from lcm_studio.engine.embeddings import check_embeddings
from lcm_studio.engine.prompt_words import foreign_syntax, unknown_words
from lcm_studio.images.control import stretched
from lcm_studio.models.files import read_header
from lcm_studio.models.kinds import row_of
from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.prompts import plain, word_pattern
from lcm_studio.spec.requests import (
    ControlKind,
    ControlSpec,
    Edit,
    Generate,
    IPAdapterSpec,
    LoraSpec,
    Sampling,
)
from lcm_studio.spec.samplers import SAMPLERS, check_sampler, sampler_info
from lcm_studio.spec.schema import Setting, settings_of


def check_request(request: Sampling, info: ModelInfo, words: Iterable[str] = ()) -> tuple[str, ...]:
    """Raises BadRequest with one sentence, else returns warnings for the user.

    `words`: of textual inversions, which a prompt may hold.
    """
    check_texts(request)
    _named(request.sampler)
    _whole("steps", request.steps, 1, _most_steps(request, info))
    for setting in settings_of(type(request)):
        _plain(setting, getattr(request, setting.name), info)
    if request.priority not in ("live", "normal"):
        raise BadRequest(f"priority={request.priority!r}: use live or normal")
    _sampler(request, info)
    _guided_steps(request)
    _timesteps(request, info)
    if isinstance(request, Generate):
        check_size(request.width, request.height, info)
    _steered(request)
    return _warnings(request, info, word_pattern(words))


def check_texts(request: Sampling) -> None:
    """What must hold before a model or a file is looked up. Raises BadRequest."""
    if not isinstance(request, Generate | Edit):
        raise BadRequest(f"{type(request).__name__} is no request; send a Generate or an Edit")
    _texts(request)
    _loras(request.loras)
    check_embeddings(request.embeddings)
    if not isinstance(request.kind, str):
        raise BadRequest(f"kind={request.kind!r} must be a name; use auto")


def check_size(width: Any, height: Any, info: ModelInfo) -> None:
    """Sizes within bounds and in the model's multiples; None is the model's own."""
    for name, side in (("width", width), ("height", height)):
        if side is None:
            continue
        _whole(name, side, limits.MIN_SIDE, limits.MAX_SIDE)
        if side % info.multiple:
            nearest = max(info.multiple, round(side / info.multiple) * info.multiple)
            raise BadRequest(
                f"{name}={side} is no multiple of {info.multiple}; the nearest that fits is {nearest}"
            )


def _texts(request: Sampling) -> None:
    for name, text in (("prompt", request.prompt), ("negative", request.negative)):
        if not isinstance(text, str):
            raise BadRequest(f"{name} must be text; write it in quotes")
        if len(text) > limits.MAX_PROMPT:
            raise BadRequest(f"{name} has {len(text)} characters; use at most {limits.MAX_PROMPT}")
        if "\x00" in text:
            raise BadRequest(f"{name} holds a NUL character; remove it")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise BadRequest(f"{name} holds half a character (a lone surrogate); type it again")


def _plain(setting: Setting, value: Any, info: ModelInfo) -> None:
    """One setting by its schema: its range, and whether the model has it."""
    if (value is None and setting.default is None) or setting.kind == "text":
        return
    if setting.kind == "whole":
        _whole(setting.name, value, int(setting.low), int(setting.high))
    elif setting.kind == "number":
        _finite(setting.name, value, setting.low, setting.high)
    else:
        setting.read(value)
    if value == setting.default:
        return
    why = getattr(info, setting.lacks) if setting.lacks else ""
    if why and not setting.ignored:
        raise BadRequest(f"{setting.name}={value}: {info.id} {why}; leave it out")
    if setting.most and not why and value > (most := getattr(info, setting.most)):
        unit = f" {setting.unit}" if setting.unit else ""
        raise BadRequest(
            f"{setting.name}={value} is out of range for {info.id}; use {setting.low:g} to {most:g}{unit}"
        )


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise BadRequest(f"{name}={value!r} is no whole number; use {low} to {high}")
    if not low <= int(value) <= high:
        raise BadRequest(f"{name}={value} is out of range; use {low} to {high}")


def _finite(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(float(value)):
        raise BadRequest(f"{name}={value!r} is no finite number; use {low:g} to {high:g}")
    if not low <= float(value) <= high:
        raise BadRequest(f"{name}={value} is out of range; use {low:g} to {high:g}")


def _most_steps(request: Sampling, info: ModelInfo) -> int:
    if request.sampler != "auto" and SAMPLERS[request.sampler].score:
        return limits.MAX_EVALUATIONS
    return min(limits.MAX_STEPS, info.max_steps)


def _named(sampler: str) -> None:
    if sampler != "auto":
        sampler_info(sampler)


def _sampler(request: Sampling, info: ModelInfo) -> None:
    """The sampler, its settings and its evaluations."""
    scored = request.sampler != "auto" and SAMPLERS[request.sampler].score
    if (
        isinstance(request, Edit)
        and scored
        and dict(request.options or {}).get("method") != "replace"
    ):
        raise BadRequest(
            f"sampler={request.sampler!r}: edits renoise at every level; use auto, consistency or ddim, "
            "or method=replace with a mask"
        )
    check_sampler(
        request.sampler,
        request.sampler_settings,
        request.steps,
        info,
        consistency=info.consistency,
        timesteps=request.timesteps is not None,
    )


def _guided_steps(request: Sampling) -> None:
    if request.guided_steps and request.sampler != "auto" and SAMPLERS[request.sampler].score:
        raise BadRequest(
            f"guided_steps={request.guided_steps}: {request.sampler} has one guidance for all its evaluations; leave it out"
        )


def _steered(request: Sampling) -> None:
    """Whether a ControlNet and an IP-Adapter can hold single levels of the request."""
    control, adapter = request.control, request.ip_adapter
    if request.sampler == "auto" or not SAMPLERS[request.sampler].score:
        return
    if control is not None:
        raise BadRequest(
            f"sampler={request.sampler!r} follows the score, and takes no ControlNet; use auto"
        )
    if adapter is not None and (adapter.start > 0 or adapter.end < 1):
        raise BadRequest(
            f"sampler={request.sampler!r} follows the score, and an IP-Adapter holds all its steps; leave start and end out"
        )


def check_control(spec: ControlSpec, info: ModelInfo, *, edits: bool = False) -> None:
    """Raises BadRequest for a ControlNet's settings or picture that cannot be used.

    `edits`: it is of an edit, whose own picture may be meant.
    """
    if not isinstance(spec, ControlSpec):
        raise BadRequest("control must be a ControlSpec")
    if not info.takes_control:
        raise BadRequest(f"{info.id} takes no ControlNet; leave control out")
    if not isinstance(spec.path, str) or not spec.path.strip() or "\x00" in spec.path:
        raise BadRequest("no ControlNet is named; choose one")
    if spec.kind not in get_args(ControlKind):
        raise BadRequest(f"kind={spec.kind!r} of a control: use {', '.join(get_args(ControlKind))}")
    _hold("control", spec)
    if spec.image is not None or not edits:
        _picture("control", spec.image)


def check_ip_adapter(spec: IPAdapterSpec, info: ModelInfo) -> None:
    """Raises BadRequest for an IP-Adapter's settings or picture that cannot be used."""
    if not isinstance(spec, IPAdapterSpec):
        raise BadRequest("ip_adapter must be an IPAdapterSpec")
    if not info.takes_control:
        raise BadRequest(f"{info.id} takes no IP-Adapter; leave ip_adapter out")
    if not isinstance(spec.path, str) or not spec.path.strip() or "\x00" in spec.path:
        raise BadRequest("no IP-Adapter is named; choose one")
    if not isinstance(spec.encoder, str) or "\x00" in spec.encoder:
        raise BadRequest("the image encoder must be the name of a folder; leave it out, or give it")
    _hold("IP-Adapter", spec)
    _picture("IP-Adapter", spec.image)


def _hold(what: str, spec: ControlSpec | IPAdapterSpec) -> None:
    _finite(f"{what} strength", spec.strength, 0.0, limits.MAX_CONTROL)
    _finite(f"{what} start", spec.start, 0.0, 1.0)
    _finite(f"{what} end", spec.end, 0.0, 1.0)
    if spec.start >= spec.end:
        raise BadRequest(f"{what} start={spec.start:g} is not before its end={spec.end:g}")


def _picture(what: str, pixels: Any) -> None:
    shape: tuple[int, ...] = tuple(getattr(pixels, "shape", ()))
    whole = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    if not whole or str(pixels.dtype) != "uint8" or min(shape[:2]) < 1:
        raise BadRequest(f"the {what} picture must be 8-bit pixels (height, width, 3)")
    if shape[0] * shape[1] > limits.MAX_CONTROL_PIXELS:
        raise BadRequest(
            f"the {what} picture has {shape[1]} x {shape[0]} pixels; use at most {limits.MAX_CONTROL_PIXELS / 1e6:.0f} megapixels"
        )


def _timesteps(request: Sampling, info: ModelInfo) -> None:
    values = request.timesteps
    if values is None:
        return
    if not isinstance(values, Iterable) or not (values := tuple(values)):
        raise BadRequest("timesteps is empty; leave it out or give a falling list such as 999,499")
    if len(values) > limits.MAX_STEPS:
        raise BadRequest(f"timesteps has {len(values)} entries; use at most {limits.MAX_STEPS}")
    tops = {"cm": info.max_steps - 1, "sana": 1571, "flux": 1000, "sd3": 1000, "z-image": 1000}
    top = tops.get(info.kind, 999)
    for value in values:
        _whole("timesteps", value, 0, top)
    if any(b >= a for a, b in itertools.pairwise(values)):
        raise BadRequest(
            f"timesteps={','.join(map(str, values))} must fall; sort them from high to low"
        )


def _loras(loras: tuple[LoraSpec, ...]) -> None:
    if len(loras) > limits.MAX_LORAS:
        raise BadRequest(f"{len(loras)} LoRAs are too many; use at most {limits.MAX_LORAS}")
    seen = set()
    for lora in loras:
        _finite("LoRA weight", lora.weight, -limits.MAX_LORA_WEIGHT, limits.MAX_LORA_WEIGHT)
        if "\x00" in lora.path:
            raise BadRequest("a LoRA path holds a NUL character; remove it")
        path = Path(lora.path)
        if path in seen:
            raise BadRequest(f"LoRA {path.name} is given twice; give it once, with one weight")
        seen.add(path)
        read_header(path)


def _warnings(request: Sampling, info: ModelInfo, known: re.Pattern[str] | None) -> tuple[str, ...]:
    warnings = []
    if isinstance(request, Generate) and request.control is not None:
        size = request.width or info.width, request.height or info.height
        if request.control.image is not None and stretched(request.control.image, *size):
            warnings.append(
                f"the control picture has other proportions than {size[0]} x {size[1]}: it is stretched"
            )
    prompt, negative = (
        known.sub(" ", text) if known else text for text in (request.prompt, request.negative)
    )
    low, high = info.guidance_range
    if isinstance(request, Edit):  # a task may have been measured to want more
        high = max(high, info.guidance_for(request.task))
    if (
        request.guidance is not None
        and info.guidance == "embedded"
        and not low <= request.guidance <= high
    ):
        warnings.append(
            f"guidance={request.guidance:g} is outside what {info.id} was trained with ({low:g} to {high:g})"
        )
    if request.guidance is not None and request.guidance > 1 and info.guidance == "none":
        warnings.append(
            f"guidance={request.guidance:g} is ignored: {info.title or info.id} has it built in"
        )
    for setting in settings_of(type(request)):
        value = getattr(request, setting.name)
        if setting.ignored and value != setting.default and (why := getattr(info, setting.lacks)):
            warnings.append(f"{setting.name}={value} is ignored: {info.title or info.id} {why}")
    if isinstance(request, Edit) and request.eta is not None and info.eta is not None:
        # an interpolation goes by the way of its model's kind, others by their task's schedule
        reads = request.task == "interpolate" and row_of(info).way != "renoise"
        if not reads:
            warnings.append(
                f"eta={request.eta:g} is ignored: it is of new pictures; an edit takes eta in its options"
            )
    if request.negative and not info.takes_negative:
        warnings.append(f"{info.id} ignores negative prompts")
    if request.prompt and not info.takes_prompt:
        warnings.append(f"{info.id} takes no prompt; it is ignored")
    syntax = (
        foreign_syntax(f"{prompt}\n{negative}", weights=info.takes_weights)
        if info.takes_prompt
        else ()
    )
    if syntax:
        warnings.append(
            f"read as plain words, for the studio has no such syntax: {', '.join(syntax)}"
        )
    unknown = unknown_words(plain(prompt) if info.takes_weights else prompt, info)
    if unknown:
        warnings.append(f"{info.id} does not know: {', '.join(unknown)}")
    return tuple(warnings)
