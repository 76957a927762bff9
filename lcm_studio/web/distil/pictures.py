"""Step 1 of the Distil form: a folder, an upload or example scenes; each ends in the doctor's report with a contact sheet."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from lcm_studio.spec.errors import StudioError
from lcm_studio.web import parts
from lcm_studio.web.distil import values as form
from lcm_studio.web.distil.actions import permitted
from lcm_studio.web.distil.board import TAB
from lcm_studio.web.distil.places import Outside, allowed, choices, places
from lcm_studio.web.distil.watch import data_home
from lcm_studio.web.studio import Studio
from lcm_studio.web.views import note as said

PERMISSION = ("ask", "allow_words", "asked")  # components that ask for a folder
# The folder is another one: what was said of the last, and the question for it, are over. At once, and not by the
# server, whose answer might come after that to the next press.
_CHANGED = """() => {
  for (const tab of NOTES) window.lcm?.quiet(tab);
  return { __type__: "update", visible: false };
}"""


def build_permission(c: dict[str, Any]) -> None:
    """The question whether runs may read a folder; hidden until one is named that they may not."""
    with gr.Column(visible=False, elem_id=f"{TAB}-ask", elem_classes="distil-ask") as c["ask"]:
        c["allow_words"] = parts.html(elem_id=f"{TAB}-allow-words")
        c["allow"] = gr.Button(
            "Let runs read this folder", variant="primary", size="sm", elem_id=f"{TAB}-allow"
        )
    c["asked"] = gr.State("")


def permission(error: Exception | None = None) -> tuple[Any, Any, Any]:
    """Updates of PERMISSION: the question, where `error` is one that a click can change."""
    if not isinstance(error, Outside):
        return gr.update(visible=False), gr.skip(), ""
    words = (
        f"<p>Runs may not read <code>{html.escape(str(error.folder))}</code> yet. If you let them, this page "
        "and its runs may read the pictures and captions in it and in the folders inside, until the studio ends. Hidden "
        "folders and links that lead outside stay closed. Only a page on this machine can be asked.</p>"
    )
    return gr.update(visible=True), words, str(error.folder)


def refusal(error: Exception, *, beside: bool = False) -> Any:
    """The note on an error; of one that a click can change, where the question is, and none `beside` the question."""
    if not isinstance(error, Outside):
        return said(str(error))
    words = f"Runs may not read {error.folder} yet: answer the question under Pictures, then press again."
    return None if beside else said(words, "info")


def wire_data(studio: Studio, c: dict[str, Any], report: gr.HTML, sheet: gr.Image) -> None:
    """Examine, upload, example scenes, and the permission that the first may ask for."""

    def examine(place: str | None, size: str | None) -> Iterator[Any]:
        from lcm_studio.data.doctor import examine as doctor
        from lcm_studio.data.report import as_html
        from lcm_studio.data.sheet import contact_sheet

        try:
            permitted(studio)
            where = allowed(place or "", places(studio))
            looking = '<p class="lcm-soft">Looking at every picture ...</p>'
            yield gr.update(value=looking, visible=True), gr.skip(), gr.skip(), *permission()
            result = doctor(where, size=int(size or 128))
            picture = contact_sheet(where, count=18) if result.pictures else None
        except (StudioError, ValueError, OverflowError) as error:
            hidden = gr.update(visible=False)
            yield hidden, hidden, refusal(error, beside=True), *permission(error)
            return
        yield (
            gr.update(value=as_html(result), visible=True),
            gr.update(value=picture, visible=picture is not None),
            None,
            *permission(),
        )

    def allow(folder: str) -> tuple[Any, ...]:
        try:
            permitted(studio)
            place = studio.grants.allow(Path(folder), studio.options)
        except StudioError as error:
            return gr.skip(), said(str(error)), *permission()
        update = gr.update(choices=choices(places(studio)))
        return update, said(f"Runs may read {place} until the studio ends.", "info"), *permission()

    def upload(files: list[str] | None) -> tuple[Any, Any]:
        try:
            permitted(studio)
            kept = form.keep_uploads(files or [], data_home())
        except StudioError as error:
            return gr.skip(), said(str(error))
        return gr.update(choices=choices(places(studio)), value=str(kept)), None

    def example() -> Iterator[Any]:
        try:
            permitted(studio)
            yield (
                gr.skip(),
                said(f"Rendering {form.EXAMPLE_SCENES} scenes with captions ...", "info"),
            )
            made = form.example_scenes(data_home())
        except StudioError as error:
            yield gr.skip(), said(str(error))
            return
        yield gr.update(choices=choices(places(studio)), value=str(made)), None

    asked = [c[name] for name in PERMISSION]
    look_at = {
        "fn": examine,
        "inputs": [c["folder"], c["resolution"]],
        "outputs": [report, sheet, c["data_note"], *asked],
    }
    c["folder"].change(
        None,
        None,
        c["ask"],
        js=_CHANGED.replace("NOTES", json.dumps([f"{TAB}-data", TAB])),
        **parts.PRIVATE,
    )
    c["examine"].click(**look_at, trigger_mode="always_last", **parts.PRIVATE)
    c["allow"].click(
        allow, c["asked"], [c["folder"], c["data_note"], *asked], **parts.PRIVATE
    ).then(**look_at, **parts.PRIVATE)
    for event, fn, given in (
        (c["files"].upload, upload, c["files"]),
        (c["example"].click, example, None),
    ):
        event(fn, given, [c["folder"], c["data_note"]], **parts.PRIVATE).then(
            **look_at, **parts.PRIVATE
        )
