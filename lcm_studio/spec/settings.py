"""A request as JSON and back: for PNG files, histories and the API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import (
    ControlSpec,
    Edit,
    EmbeddingSpec,
    Generate,
    IPAdapterSpec,
    LoraSpec,
    Sampling,
)
from lcm_studio.spec.schema import Setting, settings_of

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

FORMAT = 1


def to_settings(request: Sampling, info: ModelInfo | None = None, **extra: Any) -> dict[str, Any]:
    """Everything that makes the pictures again, JSON-serialisable; guidance, eta and size are resolved."""
    said: dict[str, Any] = {"format": FORMAT, "model": request.model}
    for setting in settings_of(type(request)):
        value = getattr(request, setting.name)
        if setting.kept or value != setting.default:
            said[setting.name] = value
    if request.guidance is None and info is not None and info.guidance != "none":
        said["guidance"] = info.guidance_for(request.task if isinstance(request, Edit) else "")
    if request.eta is None and not isinstance(request, Edit) and info and info.eta not in (None, 1):
        said["eta"] = info.eta  # a later model of that name may have another
    own_start = info.guidance_start if info is not None and info.guidance == "cfg" else 0.0
    if isinstance(request, Generate) and request.guidance_start is None and own_start:
        said["guidance_start"] = own_start
    said["loras"] = [{"path": lora.path, "weight": lora.weight} for lora in request.loras]
    if request.embeddings:
        said["embeddings"] = [{"path": e.path, "word": e.word} for e in request.embeddings]
    said["timesteps"] = None if request.timesteps is None else list(request.timesteps)
    said["sampler"] = request.sampler
    if request.sampler_settings:
        said["sampler_settings"] = _jsonable(dict(request.sampler_settings))
    said["kind"] = request.kind
    if request.control is not None:
        said["control"] = _steering(request.control, ("kind",))
    if request.ip_adapter is not None:
        said["ip_adapter"] = _steering(request.ip_adapter, ("encoder",))
    if isinstance(request, Edit):
        said |= {"task": request.task, "options": _jsonable(dict(request.options))}
    return {**said, **_jsonable(extra)}


def from_settings(said: Mapping[str, Any]) -> Generate:
    """The Generate request of settings, whoever wrote them; values are checked again by the engine.

    The pictures of a ControlNet and an IP-Adapter are not in them: both are None, and to be given again.

    Raises BadRequest where they are no settings of this studio.
    """
    if not isinstance(said, Mapping) or "prompt" not in said or "seed" not in said:
        raise BadRequest("these settings are not the studio's; drop a PNG that it has written")
    try:
        loras = tuple(
            LoraSpec(path=str(lora["path"]), weight=float(lora["weight"]))
            for lora in said.get("loras") or ()
        )
        timesteps = said.get("timesteps")
        return Generate(
            **cast(said, settings_of(Generate)),
            model=str(said.get("model") or Generate.model),
            loras=loras,
            embeddings=tuple(
                EmbeddingSpec(path=str(one["path"]), word=str(one.get("word") or ""))
                for one in said.get("embeddings") or ()
            ),
            timesteps=None if timesteps is None else tuple(int(t) for t in timesteps),
            sampler=said.get("sampler", "auto"),
            sampler_settings=dict(said.get("sampler_settings") or {}),
            kind=str(said.get("kind") or "auto"),
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise BadRequest(
            "these settings are damaged; drop a PNG that the studio has written"
        ) from error


def cast(said: Mapping[str, Any], settings: Iterable[Setting]) -> dict[str, Any]:
    """The settings that are there, each as its own type; ranges are not looked at.

    Raises TypeError, ValueError or OverflowError.
    """
    return {s.name: s.cast(said[s.name]) for s in settings if said.get(s.name) is not None}


def fingerprint(pixels: Pixels) -> str:
    """16 letters that tell one picture from another."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()[:16]


def _steering(spec: ControlSpec | IPAdapterSpec, own: tuple[str, ...]) -> dict[str, Any]:
    """Settings of a ControlNet or an IP-Adapter; of its picture only what it is known again by."""
    names = ("path", *own, "strength", "start", "end")
    picture = {} if spec.image is None else {"picture": fingerprint(spec.image)}
    return {name: getattr(spec, name) for name in names} | picture


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
