"""Engine events as the plain values that the page's stage draws (static/stage.js is the other half).

A stage value: ``phase`` idle | queued | loading | running | done | stopped | failed; ``frames``: one dict per
picture (src, seed, label, note, url, settings); ``progress``; ``message`` {kind, text}; ``facts``: label -> text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from lcm_studio.edits import TASKS
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.schema import settings_of
from lcm_studio.web.server.picture_store import FINAL_QUALITY, THUMB, Album, PictureStore, jpeg

if TYPE_CHECKING:
    from lcm_studio.spec.events import Done, Step, Stopped, Working
    from lcm_studio.spec.requests import Pixels

View = dict[str, Any]
_serials = itertools.count()
PREVIEW_SIZE = 512
FORMS: tuple[type[Any], ...] = (Generate, *(task.settings for task in TASKS.values()))
# Names that requests use and no prompt does -> what the page calls them. Of settings those of several words, which no sentence holds.
PAGE_WORDS = {
    "inpaint": "Repaint", "outpaint": "Widen", "superres": "Enlarge", "colorize": "Colour", "interpolate": "Morph",
    "a second picture (image_b)": "another picture (Second picture, above the canvas)", "image_b": "the second picture",
    "kind=prompts": "Between: prompts", "kind=seeds": "Between: seeds",
} | {
    setting.name: setting.title
    for cls in FORMS
    for setting in settings_of(cls)
    if "_" in setting.name
}  # fmt: skip


def idle() -> View:
    return {"phase": "idle", "frames": []}


def message(text: str, kind: str = "error") -> View:
    """Only a message; the pictures on the stage stay as they are."""
    return {"phase": "failed" if kind == "error" else "idle", "message": note(text, kind)}


def note(text: str, kind: str = "error") -> View:
    """A value of `parts.note`; numbered, since the page draws only what differs from the value before."""
    return {"kind": kind, "text": in_page_words(text), "serial": next(_serials)}


def queued(position: int) -> View:
    where = "You are next" if position == 1 else f"Number {position} in the queue"
    return {"phase": "queued", "progress": {"text": where, "position": position}}


def loading(text: str) -> View:
    return {"phase": "loading", "progress": {"text": text}}


def running(event: Step) -> View:
    left = "" if event.remaining is None else f", about {seconds(event.remaining)} left"
    return {
        "phase": "running",
        "frames": [
            {"src": jpeg(p, largest=PREVIEW_SIZE)} | hidden(bad)
            for p, bad in zip_longest(event.previews, event.flagged)
        ]
        or None,
        "progress": {
            "done": event.done,
            "total": event.total,
            "text": f"Step {event.done} of {event.total}, {seconds(event.seconds)}{left}",
        },
    }


def working(event: Working) -> View:
    done = round(100 * event.share)
    text = f"{event.message}, {done} %, {seconds(event.seconds)}"
    return {"phase": "running", "progress": {"done": done, "total": 100, "text": text}}


def done(event: Done, store: PictureStore | Album) -> View:
    """The finished pictures; their PNGs are being written while this is on its way."""
    flagged = event.flagged or (False,) * len(event.images)
    frames = [
        frame(pixels, seed, alone(event.settings, seed), store) | hidden(bad)
        for pixels, seed, bad in zip(event.images, event.seeds, flagged, strict=True)
    ]
    if event.settings.get("task") == "interpolate":
        for number, one in enumerate(frames, 1):
            one["label"] = f"frame {number}"
    value: View = {
        "phase": "done",
        "frames": frames,
        "settings": dict(event.settings),
        "facts": facts(event.timing, event.fidelity),
        "seconds": float(event.timing.get("total", 0.0)),
        "seeds": list(event.seeds),
    }
    denied = event.fidelity.get("denied")
    if event.warnings or denied:
        words = (*([str(denied)] if denied else []), *event.warnings)
        value["message"] = {"kind": "error" if denied else "warning", "text": sentences(words)}
    return value


def stopped(event: Stopped, settings: Mapping[str, Any], store: PictureStore | Album) -> View:
    """What was finished is kept as pictures; otherwise the last clean estimates are, with a remark."""
    frames: list[View] = [
        frame(pixels, seed, alone(settings, seed), store) | hidden(bad)
        for pixels, seed, bad in zip_longest(event.images, event.seeds, event.flagged)
    ]
    kept = len(event.images)
    text = "Stopped." if not kept else f"Stopped; {kept} finished picture{'s' * (kept > 1)} kept."
    if not frames and event.previews:
        first = int(settings.get("seed", 0))
        frames = [
            frame(pixels, first + i, alone(settings, first + i) | {"unfinished": True}, store)
            | {"note": "unfinished"}
            | hidden(bad)
            for i, (pixels, bad) in enumerate(zip_longest(event.previews, event.previews_flagged))
        ]
        text = f"Stopped; {event.note or 'the last estimates are kept, unfinished'}."
    return {
        "phase": "stopped",
        "frames": frames or None,
        "settings": dict(settings) if frames else None,
        "message": {"kind": "info", "text": text},
    }


def hidden(flagged: bool | None) -> View:
    """The note of a picture that the model's safety checker blacked out."""
    return {"note": "hidden by the safety checker"} if flagged else {}


def frame(
    pixels: Pixels, seed: int, settings: Mapping[str, Any], store: PictureStore | Album
) -> View:
    """One finished picture."""
    picture = store.add(pixels, settings)
    return {
        "src": jpeg(pixels, quality=FINAL_QUALITY),
        "thumb": jpeg(pixels, largest=THUMB),
        "seed": seed,
        "url": picture.url,
        "id": picture.id,
        "width": int(pixels.shape[1]),
        "height": int(pixels.shape[0]),
        "settings": dict(settings),
    }


def alone(settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The settings that make the one picture of `seed` again."""
    return {**settings, "seed": seed, "count": 1}


def facts(timing: Mapping[str, float], fidelity: Mapping[str, Any]) -> dict[str, str]:
    """The card under a finished picture: time by part, evaluations, and an edit's fidelity."""
    card: dict[str, str] = {}
    for name, value in fidelity.items():
        card[name.replace("_", " ")] = f"{value:.4g}" if isinstance(value, float) else str(value)
    for name, value in timing.items():
        if value < 0.005 and name != "total":
            continue
        card[name] = f"{value:.0f}" if name == "evaluations" else seconds(float(value))
    return card


def seconds(value: float) -> str:
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min"


def in_page_words(text: str) -> str:
    """A message with the names that the page shows, and a capital letter where it begins with a word."""
    for name, title in PAGE_WORDS.items():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w|\.\w)", title, text)
    first, _, _ = text.partition(" ")
    return text[:1].upper() + text[1:] if first.rstrip(",.:;").isalpha() else text


def sentences(warnings: Sequence[str]) -> str:
    """Warnings as running text."""
    return " ".join(
        in_page_words(text if text.endswith((".", "!", "?")) else text + ".") for text in warnings
    )
