"""What the bench on pictures sends and gets: JSON -> requests of `spec.lab`, events of `lcm_studio.lab` -> messages."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.spec import events, lab
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS
from lcm_studio.web.lab.stream import pack

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo
    from lcm_studio.spec.requests import Pixels
    from lcm_studio.web.studio import Studio

STORED = Path(__file__).resolve().parents[3] / "docs" / "results" / "samplers.json"
QUALITY = 90  # of JPEGs on the way
MOST_FILM = 400


def schema(studio: Studio) -> dict[str, Any]:
    """Models, samplers and limits: what the page draws its controls from; and the stored results, where there are any."""
    from lcm_studio.spec.limits import MAX_EVALUATIONS

    return {
        "models": [model_words(info) for info in studio.engine.catalog()],
        "default": {"student": lab.Trace.model, "teacher": lab.TEACHER},
        "samplers": [
            {
                "name": s.name, "title": s.title, "family": s.family, "words": s.words, "formula": s.formula,
                "source": s.source, "least": s.least, "score": s.score,
                "settings": [
                    {"name": x.name, "title": x.title, "help": x.help, "default": x.default, "choices": list(x.choices)}
                    | ({"low": x.low, "high": x.high, "whole": x.kind == "whole"} if x.kind in ("number", "whole") else {})
                    for x in s.settings
                ],
            }
            for s in SAMPLERS.values()
        ],
        "limits": {"evaluations": MAX_EVALUATIONS, "systems": 8, "sweep": 48},
        "stored": stored(),
    }  # fmt: skip


def model_words(info: ModelInfo) -> dict[str, Any]:
    return {
        "id": info.id, "consistency": info.consistency, "guidance": info.guidance, "width": info.width,
        "height": info.height, "default_guidance": info.guidance_default,
    }  # fmt: skip


def stored() -> dict[str, Any]:
    """Results of `python -m benchmarks samplers`, {} where the file is not there or is not what it should be."""
    try:
        value = json.loads(STORED.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("rows"), list) else {}


def conditions(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of lab.Conditions. Raises BadRequest; the engine checks the ranges."""
    guidance = value.get("guidance")
    if guidance is not None and (
        isinstance(guidance, bool) or not isinstance(guidance, int | float)
    ):
        raise BadRequest(f"guidance={guidance!r} is no number; leave it empty for the model's own")
    return {
        "prompt": text(value, "prompt"), "negative": text(value, "negative"),
        "seed": whole(value, "seed", 0), "guidance": guidance,
    }  # fmt: skip


def comparison(studio: Studio, value: Mapping[str, Any]) -> lab.Comparison:
    """Of {prompt, seed, guidance, systems, frames}. Raises BadRequest."""
    rows = value.get("systems")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise BadRequest(
            "choose at least one sampler: systems must be a list of {model, sampler, evaluations}"
        )
    systems = tuple(
        lab.System(
            model=studio.allowed_model(text(row, "model")), sampler=text(row, "sampler"),
            evaluations=whole(row, "evaluations", 16), settings=settings(row),
        )
        for row in rows
    )  # fmt: skip
    return lab.Comparison(
        **conditions(value), systems=systems, frames=whole(value, "frames", 0),
        reference=bool(value.get("reference", True)),
    )  # fmt: skip


def trace(studio: Studio, value: Mapping[str, Any]) -> lab.Trace:
    """Of {prompt, seed, guidance, model, teacher, evaluations, points}. Raises BadRequest."""
    return lab.Trace(
        **conditions(value),
        model=studio.allowed_model(text(value, "model")),
        teacher=studio.allowed_model(text(value, "teacher")),
        evaluations=whole(value, "evaluations", 49),
        points=whole(value, "points", 12),
    )


def inversion(studio: Studio, value: Mapping[str, Any], image: Pixels) -> lab.Inversion:
    """Of {prompt, seed, guidance, model, sampler, evaluations} and a picture. Raises BadRequest."""
    common = conditions(value)
    if common["guidance"] is None:
        common["guidance"] = lab.Inversion.guidance
    return lab.Inversion(
        **common, image=image, model=studio.allowed_model(text(value, "model")), sampler=text(value, "sampler"),
        evaluations=whole(value, "evaluations", 50), settings=settings(value),
    )  # fmt: skip


def settings(value: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a sampler. Raises BadRequest."""
    given = value.get("settings") or {}
    if not isinstance(given, Mapping):
        raise BadRequest("settings of a sampler must be {name: value}")
    return dict(given)


def text(value: Mapping[str, Any], name: str) -> str:
    given = value.get(name, "")
    if not isinstance(given, str):
        raise BadRequest(f"{name} must be text")
    return given


def whole(value: Mapping[str, Any], name: str, default: int) -> int:
    given = value.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int):
        raise BadRequest(f"{name}={given!r} is no whole number")
    return given


def jpeg(pixels: Pixels) -> bytes:
    """For strips."""
    return encoded(pixels, "JPEG", quality=QUALITY)


def png(pixels: Pixels) -> bytes:
    """For finished pictures."""
    return encoded(pixels, "PNG", compress_level=1)


def encoded(pixels: Pixels, kind: str, **options: Any) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels[..., :3]).save(out, kind, **options)
    return out.getvalue()


def message(kind: str, words: Mapping[str, Any], *pictures: bytes) -> bytes:
    """A message whose body is pictures; `sizes` says where each ends."""
    return pack({"kind": kind, **words, "sizes": [len(p) for p in pictures]}, b"".join(pictures))


def messages(run: Iterator[Any]) -> Generator[bytes, None, None]:
    """Each event of a run as a message; what the page does not draw is left out."""
    try:
        for event in run:
            said = of_event(event)
            if said is not None:
                yield said
    finally:
        close = getattr(run, "close", None)
        if close is not None:
            close()


def of_event(event: Any) -> bytes | None:
    words: dict[str, Any]
    match event:
        case events.Queued(position=position):
            return message("progress", {"share": 0, "text": f"{position} before you"})
        case events.Loading(message=said):
            return message("progress", {"share": 0, "text": said})
        case events.Step(done=done, total=total):
            return message(
                "progress",
                {"share": done / max(1, total), "text": f"{done} of {total} evaluations"},
            )
        case events.Failed(message=said):
            return message("failed", {"text": said})
        case events.Stopped():
            return message("stopped", {})
        case lab.Frame():
            words = {"system": event.system, "index": event.index, "evaluations": event.evaluations,
                     "total": event.total, "sigma": event.sigma}  # fmt: skip
            return message("frame", words, jpeg(event.x_t), jpeg(event.x0_hat))
        case lab.Result():
            words = {"system": event.system, "label": event.label, "model": event.model, "sampler": event.sampler,
                     "evaluations": event.evaluations, "seconds": event.seconds, "distance": event.distance,
                     "warnings": list(event.warnings), "error": event.error}  # fmt: skip
            return message("result", words, *([] if event.image is None else [png(event.image)]))
        case lab.Compared():
            names = list(event.references)
            words = {"references": [[n, event.reference_evaluations.get(n, 0)] for n in names]}
            return message("compared", words, *(png(event.references[n]) for n in names))
        case lab.TracePoint():
            words = {"index": event.index, "total": event.total, "sigma": event.sigma,
                     "teacher_to_start": event.teacher_to_start, "teacher_to_end": event.teacher_to_end,
                     "student_to_start": event.student_to_start, "student_to_end": event.student_to_end}  # fmt: skip
            return message(
                "point", words, jpeg(event.x_t), jpeg(event.teacher), jpeg(event.student)
            )
        case lab.Traced():
            return message(
                "traced",
                {"evaluations": event.evaluations, "seconds": event.seconds},
                png(event.end),
            )
        case lab.Inverted():
            words = {"round_trip": dict(event.round_trip), "noise_std": event.noise_std,
                     "evaluations": event.evaluations, "seconds": event.seconds, "warnings": list(event.warnings)}  # fmt: skip
            return message("inverted", words, png(event.noise), png(event.image))
    return None


def animation(frames: list[bytes], *, still: int = 1500, each: int = 160) -> bytes:
    """An endless GIF of pictures of one size, JPEG or PNG. Raises BadRequest."""
    from PIL import Image

    from lcm_studio.images import read_image

    if not 2 <= len(frames) <= MOST_FILM:
        raise BadRequest(f"{len(frames)} pictures are no animation; use 2 to {MOST_FILM}")
    pages = [Image.fromarray(read_image(data)[..., :3]) for data in frames]
    if len({page.size for page in pages}) != 1:
        raise BadRequest("the pictures of an animation must have one size")
    pages = [page.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for page in pages]
    times = [each] * (len(pages) - 1) + [still]
    out = io.BytesIO()
    pages[0].save(out, "GIF", save_all=True, append_images=pages[1:], duration=times, loop=0)
    return out.getvalue()
