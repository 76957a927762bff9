"""The page of a run in the Distil tab: state, curves, buttons, filmstrip, comparison, log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lcm_studio.web import parts
from lcm_studio.web.distil import views
from lcm_studio.web.distil.watch import Viewer, look, viewer_of
from lcm_studio.web.studio import Studio

TAB = "distil"
_TICK = 2.0
NOBODY = ("none", "")
BUTTONS = (
    ("open", "Open in studio", "primary"),
    ("compare", "Compare with teacher", "secondary"),
    ("stop", "Stop", "stop"),
    ("resume", "Resume", "secondary"),
    ("save", "Save now", "secondary"),
    ("sample", "Sample now", "secondary"),
    ("duplicate", "Duplicate with changes", "secondary"),
    ("delete", "Delete", "secondary"),
)


@dataclass(frozen=True, kw_only=True)
class Board:
    """The page of the chosen run. `seen`: marks of what this page shows already."""

    picker: gr.Dropdown
    beside: gr.Dropdown
    head: gr.HTML
    curves: gr.HTML
    buttons: Mapping[str, gr.Button]
    note: gr.HTML
    outcome: gr.HTML
    strip: gr.HTML
    compared: gr.HTML
    log: gr.HTML
    logs: gr.Accordion
    seen: gr.State

    @property
    def outputs(self) -> list[Any]:
        return [
            self.picker,
            self.beside,
            self.head,
            self.strip,
            self.log,
            self.outcome,
            self.curves,
            self.logs,
            *self.buttons.values(),
            self.seen,
        ]


def build_board() -> Board:
    """Picker, state, buttons, filmstrip, log."""
    picker = gr.Dropdown(
        choices=[],
        value=None,
        label="Run",
        elem_id=f"{TAB}-picker",
        allow_custom_value=True,
        visible=False,
    )
    beside = gr.Dropdown(
        choices=[NOBODY],
        value="",
        label="In the same chart",
        elem_id=f"{TAB}-beside",
        visible=False,
    )
    head = parts.html(views.LOOKING, elem_id=f"{TAB}-head")
    curves = parts.mount("curves", TAB)
    with gr.Row(elem_classes="distil-buttons"):
        buttons = {
            name: gr.Button(text, variant=kind, size="sm", visible=False, elem_id=f"{TAB}-{name}")
            for name, text, kind in BUTTONS
        }
    note = parts.note(f"{TAB}-board")
    outcome = parts.html(elem_id=f"{TAB}-outcome")
    compared = parts.html(elem_id=f"{TAB}-compared")
    strip = parts.html(elem_id=f"{TAB}-strip")
    with gr.Accordion("Log", open=False, elem_id=f"{TAB}-logs", visible=False) as logs:
        log = parts.html(elem_id=f"{TAB}-log")
    return Board(
        picker=picker, beside=beside, head=head, curves=curves, buttons=buttons, note=note, outcome=outcome, strip=strip, compared=compared, log=log, logs=logs,
        seen=gr.State({}),
    )  # fmt: skip


def wire_board(studio: Studio, board: Board) -> None:
    """A timer looks at the jobs; only what changed is sent."""

    def tick(
        chosen: str | None, beside: str | None, seen: dict[str, str], request: gr.Request
    ) -> list[Any]:
        return refresh(chosen, seen, viewer_of(studio, request), beside)

    timer = gr.Timer(_TICK)
    inputs = [board.picker, board.beside, board.seen]
    timer.tick(tick, inputs=inputs, outputs=board.outputs, concurrency_limit=4, **parts.PRIVATE)
    for chooser in (board.picker, board.beside):
        chooser.input(tick, inputs=inputs, outputs=board.outputs, **parts.PRIVATE)
    board.picker.change(lambda: "", inputs=None, outputs=board.compared, **parts.PRIVATE)
    board.picker.change(None, board.picker, js="(id) => window.lcm?.run(id)", **parts.PRIVATE)
    parts.on_channel(f"run-{TAB}", lambda id_: str(id_)[:80], outputs=[board.picker])


def refresh(
    chosen: str | None, seen: Mapping[str, str], viewer: Viewer, beside: str | None = None
) -> list[Any]:
    """Updates of `Board.outputs`, skips for what the page shows already.

    A choice is answered only where it has to change: a look that began before the user chose another run, or
    started one, would else set the picker back.
    """
    found = look(chosen, viewer, beside)
    marks = found.marks()
    choice = {} if found.chosen == chosen else {"value": found.chosen}

    def unless_seen(name: str, update: Callable[[], Any]) -> Any:
        return gr.skip() if seen.get(name) == marks[name] else update()

    changed = seen.get("actions") != marks["actions"]
    return [
        unless_seen(
            "picker",
            lambda: gr.update(choices=list(found.choices), visible=bool(found.choices), **choice),
        ),
        unless_seen(
            "picker",
            lambda: gr.update(choices=[NOBODY, *found.choices], visible=len(found.choices) > 1),
        ),
        *(
            unless_seen(name, partial(getattr, found, name))
            for name in ("head", "strip", "log", "outcome", "curves")
        ),
        unless_seen("log", lambda: gr.update(visible=bool(found.log))),
        *(
            gr.update(visible=name in found.actions) if changed else gr.skip()
            for name, _, _ in BUTTONS
        ),
        marks if marks != seen else gr.skip(),
    ]
