"""A request as JSON and back: for PNG files, histories and the API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

FORMAT = 1
_PLAIN = ("prompt", "negative", "steps", "guidance", "seed", "count", "model", "decoder")


def to_settings(request: Sampling, info: ModelInfo | None = None, **extra: Any) -> dict[str, Any]:
    """Everything that makes the pictures again, JSON-serialisable; guidance and size are resolved."""
    said: dict[str, Any] = {"format": FORMAT}
    said |= {name: getattr(request, name) for name in _PLAIN}
    if said["guidance"] is None and info is not None and info.guidance != "none":
        said["guidance"] = info.guidance_for(request.task if isinstance(request, Edit) else "")
    said["loras"] = [{"path": lora.path, "weight": lora.weight} for lora in request.loras]
    if request.embeddings:
        said["embeddings"] = [{"path": e.path, "word": e.word} for e in request.embeddings]
    if request.guided_steps is not None:
        said["guided_steps"] = request.guided_steps
    if request.clip_skip:
        said["clip_skip"] = request.clip_skip
    said["timesteps"] = None if request.timesteps is None else list(request.timesteps)
    said["class_label"] = request.class_label
    said["sampler"] = request.sampler
    if request.sampler_settings:
        said["sampler_settings"] = _jsonable(dict(request.sampler_settings))
    said["kind"] = request.kind
    if request.eta is not None:
        said["eta"] = request.eta
    if request.control is not None:
        said["control"] = _steering(request.control, ("kind",))
    if request.ip_adapter is not None:
        said["ip_adapter"] = _steering(request.ip_adapter, ("encoder",))
    if isinstance(request, Generate):
        said |= {"width": request.width, "height": request.height}
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
            prompt=str(said["prompt"]),
            negative=str(said.get("negative") or ""),
            steps=int(said.get("steps", 4)),
            guidance=_number(said.get("guidance")),
            seed=int(said["seed"]),
            count=int(said.get("count", 1)),
            model=str(said.get("model") or Generate.model),
            decoder=str(said.get("decoder") or "default"),
            loras=loras,
            embeddings=tuple(
                EmbeddingSpec(path=str(one["path"]), word=str(one.get("word") or ""))
                for one in said.get("embeddings") or ()
            ),
            guided_steps=None if said.get("guided_steps") is None else int(said["guided_steps"]),
            clip_skip=int(said.get("clip_skip") or 0),
            timesteps=None if timesteps is None else tuple(int(t) for t in timesteps),
            class_label=None if said.get("class_label") is None else int(said["class_label"]),
            sampler=said.get("sampler", "auto"),
            sampler_settings=dict(said.get("sampler_settings") or {}),
            kind=str(said.get("kind") or "auto"),
            eta=_number(said.get("eta")),
            width=None if said.get("width") is None else int(said["width"]),
            height=None if said.get("height") is None else int(said["height"]),
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise BadRequest(
            "these settings are damaged; drop a PNG that the studio has written"
        ) from error


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


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
