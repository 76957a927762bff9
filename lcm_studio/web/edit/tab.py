"""The Edit tab: one canvas, the tools beside it, and what a result keeps. Composition and wiring only."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from lcm_studio.edits import TASKS
from lcm_studio.images import read_image
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.events import Done
from lcm_studio.web import parts, views
from lcm_studio.web.create import controls as create_form
from lcm_studio.web.create import values as form
from lcm_studio.web.edit import api as edit_api
from lcm_studio.web.edit import controls as edit_controls
from lcm_studio.web.edit import values as edit_form
from lcm_studio.web.edit.values import Desk
from lcm_studio.web.server.picture_store import png
from lcm_studio.web.studio import Studio

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

TAB = "edit"
EXAMPLES = Path(__file__).resolve().parents[3] / "assets" / "examples"
PAINTED_JS = "(...v) => [...v.slice(0, -1), window.lcm?.painted?.() || '']"


def build(studio: Studio) -> None:
    """Everything inside the tab."""
    info = create_form.known(studio, studio.options.model)
    desk = gr.State(Desk())
    painted = gr.Textbox(visible="hidden", elem_id="edit-painted")
    with gr.Row(elem_classes="lcm-split"):
        with gr.Column(elem_classes="lcm-left", scale=3, min_width=320):
            opened = edit_controls.build_files(EXAMPLES)
            with gr.Row(elem_classes="lcm-pair"):
                canvas = paint_canvas()
                stage = parts.stage(TAB)
            kept = gr.HTML(elem_id="edit-kept")
            slider = gr.ImageSlider(
                label="Before and after", show_label=False, interactive=False, elem_id="edit-slider",
                visible=False, buttons=[], format="png",
            )  # fmt: skip
            film = gr.HTML(elem_id="edit-film")
            parts.history(TAB)
        with gr.Column(elem_classes="lcm-right", scale=2, min_width=320):
            c = edit_controls.build_tool(info)
            c |= edit_controls.build_options(info)
            parts.mount("drop", TAB)
    shown = {
        "desk": desk,
        "canvas": canvas,
        "stage": stage,
        "kept": kept,
        "slider": slider,
        "film": film,
    }
    wire_go(studio, c, painted, shown)
    wire_files(opened, c, desk, canvas)
    wire_tools(studio, c, desk, canvas, slider)
    wire_blank(studio, opened["blank"], c, desk, canvas)
    wire_arrivals(studio, c, desk, canvas)
    edit_api.add_endpoints(studio)


def paint_canvas() -> gr.HTML:
    """The canvas; static/edit.js draws it."""
    return gr.HTML(
        value={"tool": "inpaint"},
        html_template='<div class="lcm-mount"></div>',
        js_on_load=(
            "import(new URL('studio/static/edit.js', document.baseURI)).then("
            f"m => m.mountPaint({json.dumps(TAB)}, element, {{props, trigger, watch}}))"
        ),
        apply_default_css=False,
        elem_id="edit-paint",
        elem_classes=["lcm"],
    )


def sheet(now: Desk, tool: str) -> dict[str, Any]:
    """The canvas's value for a desk and a tool."""
    if now.picture is None:
        return {"tool": tool}
    height, width = now.picture.shape[:2]
    src = png(now.picture)  # exact: Live sends back what the canvas shows
    return {"tool": tool, "src": src, "id": str(now.sheet), "width": width, "height": height}


def masked(now: Desk, tool: str) -> dict[str, Any]:
    """The canvas's value that shows an uploaded mask, white where the picture may change."""
    if now.mask is None:
        return sheet(now, tool)
    src = png(now.mask)
    return sheet(now, tool) | {"mask": {"id": str(hash(src)), "src": src}}


def wire_go(studio: Studio, c: dict[str, Any], painted: gr.Textbox, shown: dict[str, Any]) -> None:
    """Apply and Variations."""
    names = list(edit_form.NAMES)
    inputs = [*(c[n] for n in names), c["randomize"], shown["desk"], painted]
    outputs = [
        shown["stage"],
        c["seed"],
        shown["desk"],
        shown["kept"],
        shown["slider"],
        shown["film"],
        c["picked"],
    ]

    def run(count: int, request: gr.Request, *given: Any) -> Iterator[Any]:
        *values, randomize, desk, drawn = given
        said = dict(zip(names, values, strict=True))
        if randomize:
            said["seed"] = form.new_seed()
        found: list[Done] = []
        asked: list[Any] = []
        film: list[str] = []

        def make() -> Any:
            info = studio.engine.info(studio.options.model)
            asked.append(edit_form.to_request(said, desk, drawn, info, count=count))
            return asked[0]

        def on_done(done: Done) -> dict[str, Any]:
            found.append(done)
            return {"facts": views.facts(done.timing, {})}  # the read-out below says the rest

        rest = [gr.skip()] * 4
        for view in studio.play(make, owner=request.session_hash, tab=TAB, on_done=on_done):
            if view["phase"] == "failed":
                gr.Warning(view["message"]["text"])
            if view["phase"] == "running" and view.get("frames"):
                film.append(view["frames"][0]["src"])
            if found:
                yield view, said["seed"], *finished(asked[0], found[0], desk, film, studio)
            else:
                yield view, said["seed"], gr.skip(), *rest

    def apply(request: gr.Request, *given: Any) -> Iterator[Any]:
        yield from run(1, request, *given)

    def vary(request: gr.Request, *given: Any) -> Iterator[Any]:
        yield from run(4, request, *given)

    settings = {
        "inputs": inputs,
        "outputs": outputs,
        "js": PAINTED_JS,
        "concurrency_limit": None,
        **parts.PRIVATE,
    }
    c["actions"].go.click(apply, trigger_mode="always_last", **settings)
    c["vary"].click(vary, **settings)
    parts.wire_stop(studio, c["actions"], TAB)


def finished(
    request: Any, done: Done, desk: Desk, film: list[str], studio: Studio
) -> tuple[Any, ...]:
    """(desk, read-out, slider, filmstrip, choice) of a finished edit."""
    words = edit_form.read_out(done.fidelity, done.timing, TASKS[request.task].bound)
    line = f'<p class="lcm-about" role="status">{html.escape(words[0].upper() + words[1:])}</p>'
    first = done.images[0]
    start: Pixels | None = None
    pair: Any = gr.update(visible=False)
    if request.task != "interpolate":
        start = before(request, first)
        pair = gr.update(value=(start, first[..., :3]), visible=True)
    frames = filmstrip([*film, views.jpeg(first, largest=views.PREVIEW_SIZE)], done)
    if request.task == "interpolate":
        frames = moving(done, studio) + frames
    choices = [str(i + 1) for i in range(len(done.images))]
    pick = gr.update(choices=choices, value="1", visible=len(choices) > 1)
    return (
        replace(desk, results=done.images, start=start),
        line,
        pair,
        frames,
        pick,
    )


def moving(done: Done, studio: Studio) -> str:
    """The frames of a morph one after the other, as GIF and MP4."""
    gif, mp4 = (
        studio.pictures.add_video(done.images, done.settings, kind).url for kind in ("gif", "mp4")
    )
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
    frames = "".join(
        f'<figure><img src="{src}" alt="After step {i + 1}"><figcaption>{text}</figcaption></figure>'
        for i, (src, text) in enumerate(zip(film, words, strict=True))
    )
    return f'<div class="lcm-film">{frames}</div>'


def before(request: Any, after: Pixels) -> Pixels:
    """The picture that was edited, at the size of the result; a widened one on grey, where it is in it."""
    import cv2

    height, width = after.shape[:2]
    old = request.image[..., :3]
    if request.task == "outpaint":
        left, top, _, _ = request.options["borders"]
        sheet = np.full((height, width, 3), 127, np.uint8)
        sheet[top : top + old.shape[0], left : left + old.shape[1]] = old
        return sheet
    if old.shape[:2] != (height, width):
        resized: Pixels = cv2.resize(old, (width, height), interpolation=cv2.INTER_CUBIC)
        return resized
    return old


def wire_files(opened: dict[str, Any], c: dict[str, Any], desk: gr.State, canvas: gr.HTML) -> None:
    """Opening a picture, a second one, a mask, an example."""

    def open_as(kind: str, path: str | None, now: Desk, tool: str) -> tuple[Any, ...]:
        try:
            if path is None:
                raise BadRequest("no file arrived; choose it again")
            pixels = read_image(path, alpha="keep")
            if kind == "picture":
                now = now.show(pixels, remember(now))
                return now, sheet(now, tool), views.note("")
            if kind == "second":
                said = "The second picture is there."
                if tool != "interpolate":
                    said += " Morph goes from the first to the second."
                return replace(now, second=pixels), gr.skip(), views.note(said, "info")
            if now.picture is None:
                raise BadRequest("open the picture first, then its mask")
            now = replace(now, mask=np.ascontiguousarray(pixels[..., :3].max(axis=2)))
            said = "The mask is on the canvas: what is red may change."
            return now, masked(now, tool), views.note(said, "info")
        except StudioError as error:
            gr.Warning(str(error))
            return gr.skip(), gr.skip(), views.note(str(error))

    outputs = [desk, canvas, c["note"]]
    for kind in ("picture", "second", "mask"):
        opened[kind].upload(
            lambda path, now, tool, kind=kind: open_as(kind, path, now, tool),
            inputs=[opened[kind], desk, c["tool"]], outputs=outputs, **parts.PRIVATE,
        )  # fmt: skip
    for button, path in opened["examples"]:
        button.click(
            lambda now, tool, path=path: open_as("picture", str(path), now, tool),
            inputs=[desk, c["tool"]], outputs=outputs, **parts.PRIVATE,
        )  # fmt: skip


def wire_blank(
    studio: Studio, button: gr.Button, c: dict[str, Any], desk: gr.State, canvas: gr.HTML
) -> None:
    """A white sheet of the model's size to draw on, with the tool for it."""
    groups = edit_controls.GROUPS

    def blank(now: Desk, guidance: float | None) -> list[Any]:
        info = create_form.known(studio, studio.options.model)
        now = now.show(np.full((info.height, info.width, 3), 255, np.uint8), remember(now))
        return [
            now,
            sheet(now, "sketch"),
            "sketch",
            *(gr.update(visible="sketch" in tools) for tools in groups.values()),
            edit_form.guidance_of("sketch", guidance, info),
            views.note("Draw on the white sheet; Live follows the hand.", "info"),
        ]

    outputs = [desk, canvas, c["tool"], *(c[g] for g in groups), c["guidance"], c["note"]]
    button.click(blank, inputs=[desk, c["guidance"]], outputs=outputs, **parts.PRIVATE)


def remember(desk: Desk) -> tuple[Pixels, ...]:
    """The pictures that Undo goes back through."""
    if desk.picture is None:
        return desk.before
    return (*desk.before, desk.picture)[-edit_form.MOST_UNDO :]


def wire_tools(
    studio: Studio, c: dict[str, Any], desk: gr.State, canvas: gr.HTML, slider: gr.ImageSlider
) -> None:
    """Choosing a tool, going on with a result, undo of edits."""
    groups = edit_controls.GROUPS

    def choose(tool: str, now: Desk, guidance: float | None) -> list[Any]:
        info = create_form.known(studio, studio.options.model)
        return [
            sheet(now, tool),
            *(gr.update(visible=tool in tools) for tools in groups.values()),
            edit_form.guidance_of(tool, guidance, info),
        ]

    outputs = [canvas, *(c[g] for g in groups), c["guidance"]]
    c["tool"].input(
        choose, inputs=[c["tool"], desk, c["guidance"]], outputs=outputs, **parts.PRIVATE
    )

    def go_on(now: Desk, picked: str | None, tool: str) -> tuple[Any, ...]:
        if not now.results:
            return gr.skip(), gr.skip(), views.note("there is no result yet: press Apply first.")
        index = min(int(picked or 1), len(now.results)) - 1
        now = now.show(now.results[index], remember(now))
        return (
            now,
            sheet(now, tool),
            views.note("The result is on the canvas; choose any tool.", "info"),
        )

    def undo(now: Desk, tool: str) -> tuple[Any, ...]:
        if not now.before:
            return gr.skip(), gr.skip(), views.note("there is nothing to undo.", "info")
        now = now.show(now.before[-1], now.before[:-1])
        return now, sheet(now, tool), views.note("")

    outputs = [desk, canvas, c["note"]]

    def pick(now: Desk, picked: str | None) -> Any:
        index = min(int(picked or 1), len(now.results)) - 1
        if now.start is None or index < 0:
            return gr.skip()
        return now.start, now.results[index][..., :3]

    c["picked"].input(pick, inputs=[desk, c["picked"]], outputs=slider, **parts.PRIVATE)
    c["go_on"].click(go_on, inputs=[desk, c["picked"], c["tool"]], outputs=outputs, **parts.PRIVATE)
    c["undo"].click(undo, inputs=[desk, c["tool"]], outputs=outputs, **parts.PRIVATE)


def wire_arrivals(studio: Studio, c: dict[str, Any], desk: gr.State, canvas: gr.HTML) -> None:
    """A picture sent from Create, and settings restored from the history or a dropped PNG."""

    def receive(data: Any, now: Desk, tool: str) -> tuple[Any, ...]:
        try:
            picture = studio.pictures.find(str(data.get("id")))
            if picture is None:
                raise BadRequest("this picture is no longer kept; make it again from its settings")
            picture.written.result()
            pixels = read_image(picture.path, alpha="keep")
        except (StudioError, AttributeError, OSError) as error:
            return gr.skip(), gr.skip(), gr.skip(), views.note(str(error))
        prompt = str((data.get("settings") or {}).get("prompt", ""))
        now = now.show(pixels, remember(now))
        return now, sheet(now, tool), prompt, views.note("")

    parts.on_receive(
        TAB, receive, inputs=[desk, c["tool"]], outputs=[desk, canvas, c["prompt"], c["note"]]
    )
    groups = edit_controls.GROUPS
    names = [*edit_form.NAMES, "randomize"]

    def restore(said: Any, now: Desk) -> list[Any]:
        try:
            known = edit_form.from_settings(said)
        except BadRequest as error:
            rest = len(names) + len(groups) + 1
            return [*([gr.skip()] * rest), views.note(str(error))]
        text = "" if now.picture is not None else "Now open the picture that they are for."
        return [
            *(known.get(name, gr.skip()) for name in names),
            *(gr.update(visible=known["tool"] in tools) for tools in groups.values()),
            sheet(now, known["tool"]),
            views.note(text, "info"),
        ]

    outputs = [*(c[n] for n in names), *(c[g] for g in groups), canvas, c["note"]]
    parts.on_channel(f"restore-{TAB}", restore, inputs=[desk], outputs=outputs)
