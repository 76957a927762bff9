"""What can be done with a run in the Distil tab: the buttons below it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.web import parts
from lcm_studio.web.distil import values as form
from lcm_studio.web.distil.board import TAB, Board
from lcm_studio.web.distil.compare import compare
from lcm_studio.web.distil.watch import act, jobs, viewer_of
from lcm_studio.web.server.stops import owner_of
from lcm_studio.web.studio import Studio
from lcm_studio.web.views import note as said

_ASK = {
    "stop": "Stop this run? It saves a checkpoint first, and Resume goes on from there.",
    "delete": "Delete this run with its checkpoints and its model?",
}
_OPEN = """(path) => { if (path) import(new URL('studio/static/registry.js', document.baseURI)).then((m) => {
  m.showTab('create');
  m.registry.when('channel', 'restore-create').then((restore) => restore({ model: path }));
}); }"""


def permitted(studio: Studio) -> None:
    """Raises BadRequest where strangers can reach the page: runs cost hours and disk."""
    if not studio.options.free_paths:
        raise BadRequest(
            "runs are off while everyone may use this page; start the studio with --auth USER:PASS"
        )


def ask_first(name: str) -> str | None:
    """JavaScript that lets the button through only when the user says yes."""
    words = _ASK.get(name)
    return f"(id) => confirm({json.dumps(words)}) ? id : ''" if words else None


def wire_finished(studio: Studio, c: dict[str, Any], board: Board) -> None:
    """The buttons below a run."""

    def press(action: str) -> Callable[[str | None, gr.Request], tuple[Any, Any]]:
        def pressed(job_id: str | None, request: gr.Request) -> tuple[Any, Any]:
            if not job_id:
                return gr.skip(), gr.skip()
            try:
                permitted(studio)
            except StudioError as error:
                return gr.skip(), said(str(error))
            shown, sentence = act(action, job_id, viewer_of(studio, request))
            return (gr.skip() if shown == job_id else shown), said(sentence, "info")

        return pressed

    for name in ("stop", "resume", "save", "sample", "delete"):
        board.buttons[name].click(
            press(name), board.picker, [board.picker, board.note], js=ask_first(name), **parts.PRIVATE,
        )  # fmt: skip

    def fill(job_id: str, request: gr.Request) -> list[Any]:
        try:
            job = viewer_of(studio, request).job(job_id)
            config = jobs().config(job_id)
        except StudioError as error:
            return [*([gr.skip()] * len(form.NAMES)), said(str(error))]
        return [
            *form.from_config(job.name, job.recipe, config).values(),
            said("The form holds this run's settings: change some, then start.", "info"),
        ]

    filled = [*(c[name] for name in form.NAMES), board.note]
    board.buttons["duplicate"].click(fill, board.picker, filled, **parts.PRIVATE)

    def opened(job_id: str, request: gr.Request) -> tuple[Any, Any]:
        try:
            permitted(studio)
            viewer_of(studio, request).job(job_id)
            folder = str(jobs().model(job_id))
            studio.engine.info(folder)
        except StudioError as error:
            return "", said(str(error))
        return folder, None

    hidden = gr.Textbox(visible="hidden", elem_id=f"{TAB}-opened")
    board.buttons["open"].click(opened, board.picker, [hidden, board.note], **parts.PRIVATE).then(
        None, hidden, None, js=_OPEN, **parts.PRIVATE
    )

    def side_by_side(job_id: str, request: gr.Request) -> Iterator[Any]:
        viewer = viewer_of(studio, request)
        yield from compare(studio, job_id, owner=owner_of(request), viewer=viewer)

    board.buttons["compare"].click(
        side_by_side, board.picker, board.compared, concurrency_limit=2, **parts.PRIVATE
    )
