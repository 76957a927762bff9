"""What shows of a finished edit beside its pictures: the read-out, the filmstrip, a morph that moves."""

from __future__ import annotations

import html
from typing import Any

from lcm_studio.edits import TASKS
from lcm_studio.engine.likeness import words_on
from lcm_studio.spec.events import Done
from lcm_studio.web import views
from lcm_studio.web.edit import values as edit_form
from lcm_studio.web.server.picture_store import Album
from lcm_studio.web.studio import Studio


def read_out(task: str, done: Done) -> str:
    """The line under the canvas: what was kept, how exactly, at what price."""
    words = edit_form.read_out(done.fidelity, done.timing, TASKS[task].bound)
    return f'<p class="lcm-about" role="status">{html.escape(words[0].upper() + words[1:])}</p>'


def unlike(studio: Studio, request: Any, done: Done) -> str:
    """A line where the model knows no such pictures, so that what it added is a guess; empty elsewhere."""
    words = words_on(studio.engine, done.images[0], request.model)
    return (
        f'<p class="lcm-note lcm-warning" role="status">{html.escape(views.in_page_words(words))}</p>'
        if words
        else ""
    )


def origin(request: Any, done: Done) -> dict[str, int] | None:
    """Where the picture that was edited lies in the result, in the result's pixels; None of a morph."""
    if request.task == "interpolate":
        return None
    height, width = done.images[0].shape[:2]
    if request.task != "outpaint":
        return {"x": 0, "y": 0, "width": width, "height": height}
    left, top, _, _ = request.options["borders"]
    rows, columns = request.image.shape[:2]
    return {"x": left, "y": top, "width": columns, "height": rows}


def frames(task: str, film: list[str], done: Done, album: Album) -> str:
    """The clean estimates after each step and, of a morph, its frames one after the other."""
    last = views.jpeg(done.images[0], largest=views.PREVIEW_SIZE)
    strip = filmstrip([*film, last], done)
    return moving(done, album) + strip if task == "interpolate" else strip


def moving(done: Done, album: Album) -> str:
    """The frames of a morph one after the other, as GIF and MP4."""
    gif, mp4 = (album.add_video(done.images, done.settings, kind).url for kind in ("gif", "mp4"))
    files = "".join(
        f'<a class="lcm-tool" href="{url}" download="lcm-studio-morph.{url[-3:]}">{url[-3:].upper()}</a>'
        for url in (gif, mp4)
    )
    return (
        f'<figure class="lcm-moving"><img src="{gif}" alt="All frames, one after the other">'
        f'<figcaption class="lcm-tools">{files}</figcaption></figure>'
    )


def filmstrip(film: list[str], done: Done) -> str:
    """The clean estimate after every step, under its noise level, and the finished picture."""
    levels = [f"&sigma; {level:.2g}" for level in done.settings.get("levels", ())]
    if len(film) > len(levels):  # the last estimate becomes the picture: one frame for both
        film = [*film[: len(levels) - 1], film[-1]] if levels else film[-1:]
    words = [f"{i + 1}. {levels[i]}" if i < len(levels) else "result" for i in range(len(film))]
    figures = "".join(
        f'<figure><img src="{src}" alt="After step {i + 1}"><figcaption>{text}</figcaption></figure>'
        for i, (src, text) in enumerate(zip(film, words, strict=True))
    )
    return f'<div class="lcm-film">{figures}</div>'
