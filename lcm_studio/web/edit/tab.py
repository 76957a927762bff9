"""The Edit tab: one canvas, the tools beside it, and what a result keeps. Composition and wiring only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lcm_studio import bundled
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Edit
from lcm_studio.web import parts, views
from lcm_studio.web.compare import compare
from lcm_studio.web.create import controls as create_form
from lcm_studio.web.create import steering_controls
from lcm_studio.web.create import values as form
from lcm_studio.web.create.offer import offer_of
from lcm_studio.web.edit import api as edit_api
from lcm_studio.web.edit import arrivals, results
from lcm_studio.web.edit import controls as edit_controls
from lcm_studio.web.edit import values as edit_form
from lcm_studio.web.edit.controls import TAB, Controls
from lcm_studio.web.edit.values import Desk
from lcm_studio.web.server.running import page_of
from lcm_studio.web.server.stops import owner_of
from lcm_studio.web.studio import Studio


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the left side shows. `painted`: what the canvas sends along with a request."""

    desk: gr.State
    canvas: gr.HTML
    stage: gr.HTML
    kept: gr.HTML
    film: gr.HTML
    painted: gr.Textbox


def build(studio: Studio) -> None:
    """Everything inside the tab."""
    info = create_form.known(studio, studio.options.model)
    catalog = [model.id for model in studio.engine.catalog()]
    with gr.Row(elem_classes="lcm-split lcm-words-first lcm-edit"):
        with gr.Column(elem_classes="lcm-left", scale=3, min_width=320):
            c = edit_controls.build_files(bundled.EXAMPLES)
            board = build_board()
            parts.history(TAB)
        with gr.Column(elem_classes="lcm-right", scale=2, min_width=320):
            c |= edit_controls.build_tool(info)
            c |= edit_controls.build_options(info, catalog, offer_of(studio, info.id))
            parts.mount("drop", TAB)
    current = gr.State(info.id)
    too_large = gr.State(arrivals.Refused())
    wire_go(studio, c, board, too_large)
    wire_tool(studio, c, board)
    wire_model(studio, c, current)
    wire_kind(studio, c)
    steering_controls.wire(studio, c)
    parts.wire_reuse(c, TAB)
    arrivals.wire_files(c, board.desk, board.canvas, too_large)
    arrivals.wire_blank(studio, c, board.desk, board.canvas)
    arrivals.wire_channels(studio, c, board.desk, board.canvas, too_large)
    arrivals.wire_restore(studio, c, board.desk, board.canvas)
    kept = {name: c[name] for name in (*edit_form.names(), "randomize", "model")}
    parts.keep_form(TAB, kept)
    arrivals.wire_form(studio, c, kept, current, board.canvas)
    edit_api.add_endpoints(studio)


def build_board() -> Board:
    """The canvas, the results below it, and what is known of them."""
    return Board(
        desk=gr.State(Desk()),
        painted=gr.Textbox(visible="hidden", elem_id=f"{TAB}-painted"),
        canvas=paint_canvas(),
        stage=parts.stage(TAB),
        kept=parts.html(elem_id=f"{TAB}-kept"),
        film=parts.html(elem_id=f"{TAB}-film"),
    )


def paint_canvas() -> gr.HTML:
    """The canvas; static/edit/desk.js draws it."""
    return gr.HTML(
        value=arrivals.of_tool("inpaint"),
        html_template='<div class="lcm-mount"></div>',
        js_on_load=(
            "import(new URL('studio/static/edit/desk.js', document.baseURI)).then("
            f"m => m.mountDesk({json.dumps(TAB)}, element.querySelector('.lcm-mount') || element, {{props, watch}}))"
        ),
        apply_default_css=False,
        elem_id="edit-paint",
        elem_classes=["lcm"],
    )


def wire_go(studio: Studio, c: Controls, board: Board, too_large: gr.State) -> None:
    """Apply, variations, and the same edit at several numbers of steps."""
    names = list(edit_form.names())
    inputs = [*(c[n] for n in names), c["randomize"], c["model"], board.desk, board.painted]
    outputs = [board.stage, c["seed"], board.kept, board.film, c["fit"], too_large]

    def read(given: tuple[Any, ...]) -> tuple[dict[str, Any], Desk, str]:
        *values, randomize, model, desk, drawn = given
        said = dict(zip(names, values, strict=True)) | {"model": model, "randomize": randomize}
        if randomize:
            said["seed"] = form.new_seed()
        return said, desk, drawn

    def request_of(said: Mapping[str, Any], desk: Desk, drawn: str, count: int) -> Edit:
        info = form.info_of(studio, said, kind="model_kind")
        return edit_form.to_request(said, desk, drawn, info, count=count, pictures=studio.controls)

    def start_of(said: Mapping[str, Any], desk: Desk) -> dict[Any, Any]:
        """What was known of the request before goes when this one starts, however it ends."""
        seed = {c["seed"]: said["seed"]} if said["randomize"] else {}
        known = {board.kept: "", board.film: ""}
        return seed | known | arrivals.too_large_for(c, too_large, str(said["tool"]), desk)

    def run(count: int, request: gr.Request, given: tuple[Any, ...]) -> Iterator[Any]:
        said, desk, drawn = read(given)
        asked: list[Edit] = []
        ended: dict[Any, Any] = {}
        film: list[str] = []
        finished: list[Done] = []

        def make() -> Edit:
            asked.append(request_of(said, desk, drawn, count))
            return asked[0]

        def on_done(done: Done) -> dict[str, Any]:
            finished.append(done)
            ended[board.kept] = results.read_out(asked[0].task, done)
            ended[board.film] = results.frames(
                asked[0].task, film, done, studio.album(owner_of(request))
            )
            facts = views.facts(done.timing, {})  # the read-out below says the rest
            return {"facts": facts, "origin": results.origin(asked[0], done)}

        start = start_of(said, desk)
        plays = studio.play(
            make, owner=owner_of(request), tab=TAB, page=page_of(request), on_done=on_done
        )
        for view in plays:
            if view["phase"] == "running" and view.get("frames"):
                film.append(view["frames"][0]["src"])
            yield start | {board.stage: view} | ended
            start = {}
        # the picture shows already
        if finished and (words := results.unlike(studio, asked[0], finished[0])):
            yield {board.kept: words + ended[board.kept]}

    def apply(request: gr.Request, *given: Any) -> Iterator[Any]:
        yield from parts.followed(studio, run(1, request, given), request, TAB)

    def vary(request: gr.Request, *given: Any) -> Iterator[Any]:
        yield from parts.followed(studio, run(4, request, given), request, TAB)

    def columns(request: gr.Request, given: tuple[Any, ...]) -> Iterator[Any]:
        said, desk, drawn = read(given)
        yield start_of(said, desk)
        make = lambda: request_of(said, desk, drawn, 1)  # noqa: E731
        plays = compare(studio, make, owner=owner_of(request), tab=TAB, page=page_of(request))
        for view in plays:
            yield {board.stage: view}

    def side_by_side(request: gr.Request, *given: Any) -> Iterator[Any]:
        yield from parts.followed(studio, columns(request, given), request, TAB)

    for button, fn in (
        (c["actions"].go, apply), (c["vary"], vary), (c["compare"], side_by_side),
    ):  # fmt: skip
        event = button.click(
            fn, inputs=inputs, outputs=outputs, trigger_mode="always_last", concurrency_limit=None,
            js="(...v) => [...v.slice(0, -1), window.lcm?.painted?.() || '']", **parts.PRIVATE,
        )  # fmt: skip
        parts.on_failure(event, TAB)
    parts.wire_stop(studio, c["actions"], TAB)
    parts.wire_again(studio, TAB, board.stage, outputs)


def wire_tool(studio: Studio, c: Controls, board: Board) -> None:
    """A tool brings its own controls and its guidance."""

    def choose(tool: str, guidance: float | None, model: str) -> dict[Any, Any]:
        info = create_form.known(studio, model)
        return {
            board.canvas: arrivals.of_tool(tool),
            c["guidance"]: edit_form.guidance_of(tool, guidance, info),
        } | edit_controls.shown(c, tool, info)

    c["tool"].input(
        choose, inputs=[c["tool"], c["guidance"], c["model"]],
        outputs=[board.canvas, *edit_controls.groups(c)], **parts.PRIVATE,
    )  # fmt: skip


def wire_kind(studio: Studio, c: Controls) -> None:
    """Guidance follows the kind that is chosen for a model that may be several, and whether first steps are guided."""
    inputs = [c["model_kind"], c["model"], c["tool"], c["guided_steps"]]

    def choose(kind: str, model: str, tool: str, guided: Any) -> dict[Any, Any]:
        try:
            chosen = {"model": model, "model_kind": kind, "guided_steps": guided}
            info = form.info_of(studio, chosen, kind="model_kind")
        except StudioError as error:
            return {c["note"]: views.note(str(error))}
        updates = edit_controls.follow(c, tool, info)
        names = ("guidance", "guided_steps", "about")
        return {c[name]: updates[c[name]] for name in names} | {
            c["note"]: views.note(f"{info.why}.", "info")
        }

    def guide(kind: str, model: str, tool: str, guided: Any, now: Any) -> dict[Any, Any]:
        updates = choose(kind, model, tool, guided)
        updates.pop(c["about"], None)
        updates.pop(c["guided_steps"], None)  # it is being moved
        if c["guidance"] in updates:
            updates.pop(c["note"])
            if isinstance(now, int | float) and now > 1:
                updates[c["guidance"]].pop("value")  # somebody has set it
        return updates

    c["model_kind"].input(
        choose, inputs=inputs,
        outputs=[c["guidance"], c["guided_steps"], c["about"], c["note"]], **parts.PRIVATE,
    )  # fmt: skip
    c["guided_steps"].input(
        guide, inputs=[*inputs, c["guidance"]], outputs=[c["guidance"], c["note"]],
        trigger_mode="always_last", **parts.PRIVATE,
    )  # fmt: skip


def wire_model(studio: Studio, c: Controls, current: gr.State) -> None:
    """The controls follow a model that is chosen."""

    def choose(model: str | None, before: str, tool: str) -> Iterator[Any]:
        def follow(info: ModelInfo) -> dict[Any, Any]:
            return edit_controls.follow(c, tool, info, offer_of(studio, info.id))

        yield from parts.choose_model(studio, c, current, model, before, follow)

    c["model"].input(
        choose, inputs=[c["model"], current, c["tool"]],
        outputs=[*edit_controls.groups(c), *edit_controls.of_model(c), current, c["note"]],
        concurrency_limit=None, trigger_mode="always_last", **parts.PRIVATE,
    )  # fmt: skip
