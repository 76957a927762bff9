"""The named endpoint for ``gradio_client``::

    from gradio_client import Client
    client = Client("http://127.0.0.1:7860")               # auth=("user", "password") where the studio asks
    files, settings = client.predict("sunset, lake", steps=4, seed=7, count=2, api_name="/generate")

`files` are PNGs that carry their settings; `settings` make the whole request again.
"""

# No `from __future__ import annotations`: Gradio reads the endpoint's types from real annotations.

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lcm_studio.images import read_image
from lcm_studio.spec import events
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.owners import API
from lcm_studio.spec.requests import ControlSpec, EmbeddingSpec, Generate, IPAdapterSpec, LoraSpec
from lcm_studio.spec.schema import Setting, settings_of
from lcm_studio.web import views
from lcm_studio.web.create import values as form
from lcm_studio.web.server.stops import owner_of
from lcm_studio.web.studio import Studio


def add_endpoints(studio: Studio) -> None:
    """`/generate`; called inside the page's Blocks. Tabs add their own in the same way."""

    def generate(
        prompt: str = "",
        negative: str = "",
        steps: int = 4,
        guidance: float | None = None,
        seed: int | None = None,
        count: int = 1,
        width: int | None = None,
        height: int | None = None,
        model: str = "",
        loras: list[dict] | None = None,
        decoder: str = "default",
        class_label: int | None = None,
        embeddings: list[dict] | None = None,
        clip_skip: int = 0,
        guided_steps: int | None = None,
        control: dict | None = None,
        control_image: gr.FileData | None = None,  # type: ignore[name-defined]
        ip_adapter: dict | None = None,
        ip_adapter_image: gr.FileData | None = None,  # type: ignore[name-defined]
        *rest: Any,
    ) -> tuple[list[dict], dict]:
        """Pictures of a prompt as PNG files, and the settings that make them again.

        guidance, width, height and model default to the studio's own; seed to a fresh one, and picture i is
        that of seed + i. loras: [{"path": "file.safetensors", "weight": 0.8}].
        control: {"path": "NAME", "kind": "canny", "strength": 1, "start": 0, "end": 1}, a ControlNet that follows control_image.
        ip_adapter: {"path": "NAME", "strength": 0.6, "start": 0, "end": 1}, an IP-Adapter that takes ip_adapter_image beside the prompt.
        embeddings: textual inversions, [{"path": "file.safetensors", "word": "mine"}].
        """
        *values, request = rest
        try:
            wanted = Generate(
                **given(further, values),
                prompt=prompt,
                negative=negative,
                steps=steps,
                guidance=guidance,
                seed=form.new_seed() if seed is None else seed,
                count=count,
                width=width,
                height=height,
                model=studio.allowed_model(model),
                loras=studio.loras.resolve(lora_specs(loras)),
                embeddings=studio.loras.resolve_embeddings(embedding_specs(embeddings)),
                guided_steps=guided_steps,
                control=control_spec(studio, control, control_image),
                ip_adapter=ip_adapter_spec(studio, ip_adapter, ip_adapter_image),
                clip_skip=clip_skip,
                decoder=decoder,
                class_label=class_label,
            )
            done = finish(studio, wanted, request)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return files(studio, done, request), plain(done.settings)

    further = settings_beside(generate, settings_of(Generate))
    describe(generate, types_of(further))
    gr.api(generate, api_name="generate", concurrency_limit=None)


def settings_beside(
    function: Callable[..., Any], settings: Iterable[Setting]
) -> tuple[Setting, ...]:
    """The settings that are no parameters of a function by name."""
    names = inspect.signature(function).parameters
    return tuple(setting for setting in settings if setting.name not in names)


def given(settings: Sequence[Setting], values: Sequence[Any]) -> dict[str, Any]:
    """The settings that a caller gave, read by their schema. Raises BadRequest."""
    pairs = zip(settings, values, strict=True)
    return {s.name: s.read(value) for s, value in pairs if value is not None}


TYPES: dict[str, Any] = {
    "number": float | None,
    "whole": int | None,
    "choice": str | None,
    "text": str | None,
    "switch": bool | None,
    "numbers": list | None,
}


def types_of(settings: Iterable[Setting]) -> dict[str, Any]:
    """What the API takes for each setting; None = not given."""
    return {
        s.name: float | str | None if s.kind == "number" and s.choices else TYPES[s.kind]
        for s in settings
    }


def describe(function: Callable[..., Any], types: Mapping[str, Any]) -> None:
    """Gives a function whose last parameter is `*rest` the signature that Gradio reads: `types`, then its request."""
    *own, _ = inspect.signature(function).parameters.values()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    types = {**types, "request": gr.Request}
    more = [inspect.Parameter(n, kind, default=None, annotation=t) for n, t in types.items()]
    whole = inspect.signature(function).replace(parameters=[*own, *more])
    function.__signature__ = whole  # type: ignore[attr-defined]
    hints = {n: t for n, t in function.__annotations__.items() if n != "rest"}
    function.__annotations__ = {
        **{n: t for n, t in hints.items() if n != "return"},
        **types,
        "return": hints["return"],
    }


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose files are called `file`: clients would take a `path` for one of the server's, and fetch it."""

    def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
        return {"file" if name == "path" else name: value for name, value in row.items()}

    out = dict(settings)
    for name in ("loras", "embeddings"):
        if out.get(name):
            out[name] = [renamed(row) for row in out[name]]
    for name in ("control", "ip_adapter"):
        if out.get(name):
            out[name] = renamed(out[name])
    return out


def path_of(row: Mapping[str, Any]) -> str:
    """What a client, or an answer's settings, name as a file. Raises KeyError where there is none."""
    return str(row["file"] if "file" in row else row["path"])


def lora_specs(rows: Any) -> tuple[LoraSpec, ...]:
    try:
        return tuple(
            LoraSpec(path=path_of(row), weight=float(row.get("weight", 1.0))) for row in rows or ()
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadRequest(
            'loras: give a list such as [{"path": "file.safetensors", "weight": 0.8}]'
        ) from error


def embedding_specs(rows: Any) -> tuple[EmbeddingSpec, ...]:
    try:
        return tuple(
            EmbeddingSpec(path=path_of(row), word=str(row.get("word") or "")) for row in rows or ()
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadRequest(
            'embeddings: give a list such as [{"path": "file.safetensors", "word": "mine"}]'
        ) from error


HOLDS = ("strength", "start", "end")


def control_spec(
    studio: Studio, given: Any, image: Any, *, edits: bool = False
) -> ControlSpec | None:
    """A ControlNet and its picture, which an edit may leave out. Raises BadRequest or BadImage with one sentence."""
    if given is None and image is None:
        return None
    path, pixels, values = _steering(
        studio, given, image, ("kind", *HOLDS), 'control: give {"path": "NAME", "kind": "canny", "strength": 0.8}',
        optional=edits,
    )  # fmt: skip
    return ControlSpec(path=path, image=pixels, **values)


def ip_adapter_spec(studio: Studio, given: Any, image: Any) -> IPAdapterSpec | None:
    """An IP-Adapter and its picture. Raises BadRequest or BadImage with one sentence."""
    if given is None and image is None:
        return None
    path, pixels, values = _steering(
        studio, given, image, ("encoder", *HOLDS), 'ip_adapter: give {"path": "NAME", "strength": 0.6}'
    )  # fmt: skip
    if values.get("encoder") and not studio.options.free_paths:
        raise BadRequest("ip_adapter: an encoder is not chosen by path here; leave it out")
    return IPAdapterSpec(path=path, image=pixels, **values)


def _steering(
    studio: Studio,
    given: Any,
    image: Any,
    names: tuple[str, ...],
    example: str,
    *,
    optional: bool = False,
) -> tuple[str, Any, dict[str, Any]]:
    """(path, pixels, the named values) of a dict and the picture that was sent with it."""
    what = example.partition(":")[0]
    if not isinstance(given, Mapping) or not set(given) <= {"file", "path", "picture", *names}:
        raise BadRequest(f"{example} and {what}_image")
    path = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
    if not path and not optional:
        raise BadRequest(f"{what} wants its picture; send {what}_image with handle_file(...)")
    name = studio.controls.allowed(str(given.get("file") or given.get("path") or ""))
    pixels = read_image(path) if path else None
    return name, pixels, {key: given[key] for key in names if key in given}


def finish(studio: Studio, request: Any, http: gr.Request | None) -> events.Done:
    """Run to the end, and return Done; every other end is a StudioError. A client that hangs up ends it."""
    session = str(getattr(http, "session_hash", None) or "")
    owner = owner_of(http, api=True)
    with studio.stops.under_way(session, API) as ticket:
        for event in studio.engine.run(request, cancelled=ticket.stop.is_set, owner=owner):
            if isinstance(event, events.Failed):
                raise StudioError(event.message)
            if isinstance(event, events.Done):
                studio.used.note(request.model)
                return studio.published(event)
    raise StudioError("The request was stopped.")


def files(studio: Studio, done: events.Done, http: Any = None) -> list[dict]:
    """Finished pictures as files that a client downloads, each in a folder nobody can guess."""
    found = []
    for pixels, seed in zip(done.images, done.seeds, strict=True):
        picture = studio.album(owner_of(http)).add(pixels, views.alone(done.settings, seed))
        picture.written.result()
        found.append(file(studio, picture.path, f"lcm-studio-{seed}.png"))
    return found


def file(studio: Studio, source: Path, name: str) -> dict[str, Any]:
    """`source` where Gradio may hand it out, as the dict a client understands."""
    target = studio.handouts.add(source, name)
    meta: Mapping[str, str] = {"_type": "gradio.FileData"}
    return {
        "path": str(target),
        "orig_name": name,
        "mime_type": "image/png",
        "size": target.stat().st_size,
        "meta": meta,
    }
