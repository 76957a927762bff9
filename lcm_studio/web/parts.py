"""The pieces that tabs are made of: stage, action row, note, history, restore; drawn by static/*.js.

`mount` puts an element on the page that a JavaScript module draws; its template never changes, so Gradio leaves
the drawn elements alone and pictures are replaced without flicker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.web import views
from lcm_studio.web.inputs import Number
from lcm_studio.web.server.boundary import MISFIT
from lcm_studio.web.server.running import Outputs, page_of
from lcm_studio.web.server.stops import user_of
from lcm_studio.web.studio import Studio

# Listeners that are the page's own: not in the API docs, not offered to clients.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def mount(
    kind: str,
    tab: str,
    *,
    value: Any = None,
    events: Iterable[str] = (),
    elem_id: str | None = None,
    **options: Any,
) -> gr.HTML:
    """An element drawn by `static/KIND.js`; it may raise the named `events`, whose data reach the listener."""
    names = json.dumps(list(events))
    return gr.HTML(
        value=value,
        html_template='<div class="lcm-mount"></div>',
        js_on_load=(
            "import(new URL('studio/static/main.js', document.baseURI)).then("
            f"m => m.mount({json.dumps(kind)}, {json.dumps(tab)}, element, {{props, trigger, watch, events: {names}}}))"
        ),
        apply_default_css=False,
        elem_id=elem_id or f"{tab}-{kind}",
        elem_classes=["lcm", f"lcm-{kind}-host"],
        **options,
    )


def html(value: str = "", **options: Any) -> gr.HTML:
    """Markup of the studio's own, in its own styles: Gradio's for prose would take its colours, sizes and margins."""
    return gr.HTML(value, apply_default_css=False, **options)


@dataclass(frozen=True)
class Actions:
    go: gr.Button
    stop: gr.Button


def stage(tab: str) -> gr.HTML:
    """The picture stage of a tab; give it stage values (`views`)."""
    return mount("stage", tab, value=views.idle())


def note(tab: str) -> gr.HTML:
    """Where messages of this tab appear: put it under the button that causes them."""
    return mount("note", tab)


def history(tab: str) -> gr.HTML:
    """Thumbnails of this browser session, newest first; kept by the browser, nothing shared."""
    return mount("history", tab)


def action_row(tab: str, go: str = "Generate") -> Actions:
    """The main button and Stop (Ctrl+Enter and Esc press them)."""
    with gr.Row(elem_classes="lcm-actions"):
        main = gr.Button(go, variant="primary", elem_id=f"{tab}-go", elem_classes="lcm-go")
        stop = gr.Button("Stop", variant="stop", elem_id=f"{tab}-stop", elem_classes="lcm-stop")
    return Actions(main, stop)


def seed_row(tab: str) -> dict[str, Any]:
    """Seed, a new one each time, and back to the last one."""
    c: dict[str, Any] = {}
    with gr.Row(elem_classes="lcm-seed"):
        c["seed"] = Number(
            label="Seed",
            value=0,
            precision=0,
            minimum=0,
            elem_id=f"{tab}-seed",
            scale=3,
            min_width=110,
        )
        c["randomize"] = gr.Checkbox(
            label="New seed each time",
            value=True,
            elem_id=f"{tab}-randomize",
            scale=3,
            min_width=130,
            elem_classes="lcm-mini",
        )
        c["reuse"] = gr.Button(
            "Use last",
            size="sm",
            elem_id=f"{tab}-reuse",
            scale=1,
            min_width=84,
            elem_classes="lcm-quiet",
        )
    return c


def wire_reuse(c: dict[str, Any], tab: str) -> None:
    """ "Use last": the seed of the last picture, and no new one each time."""
    c["reuse"].click(
        None, inputs=[c["seed"], c["randomize"]], outputs=[c["seed"], c["randomize"]], **PRIVATE,
        js=f"(seed, r) => {{ const last = window.lcm?.lastSeed({json.dumps(tab)}); return last === null ? [seed, r] : [last, false]; }}",
    )  # fmt: skip


def choose_model(
    studio: Studio,
    c: Mapping[str, Any],
    current: gr.State,
    model: str | None,
    before: str,
    follow: Callable[[ModelInfo], dict[Any, Any]],
) -> Iterator[dict[Any, Any]]:
    """Loads a model at once; then come the updates that `follow` it. One that cannot be says why, and `before` stays."""
    try:
        wanted = studio.allowed_model(model or "")
        info = studio.engine.info(wanted)
        called = info.name or info.id
        yield {c["note"]: views.note(f"Loading {called} ...", "info")}
        studio.engine.load(wanted)
    except StudioError as error:
        yield {
            c["model"]: gr.update(value=before),
            c["note"]: views.note(f"{error} {before} stays in use."),
        }
        return
    yield follow(info) | {
        current: info.id,
        c["note"]: views.note(f"{called} is ready.", "info"),
    }


def wire_run(
    studio: Studio,
    actions: Actions,
    fn: Callable[..., Iterator[Any]],
    *,
    inputs: set[Any] | list[Any],
    outputs: list[Any],
    tab: str,
) -> None:
    """The main button runs the generator `fn`; Stop raises this session's own flags at once."""
    event = actions.go.click(
        fn,
        inputs=inputs,
        outputs=outputs,
        trigger_mode="always_last",
        concurrency_limit=None,
        **PRIVATE,
    )
    on_failure(event, tab)
    wire_stop(studio, actions, tab)


def on_failure(event: Any, tab: str) -> None:
    """An event that Gradio refuses, or whose connection breaks, ends what the stage shows as under way."""
    event.failure(None, js=f"() => window.lcm.failed({json.dumps(tab)})", **PRIVATE)


def wire_stop(studio: Studio, actions: Actions, tab: str) -> None:
    def stop(request: gr.Request) -> None:
        studio.stops.stop(request.session_hash or "", tab)

    on_failure(actions.stop.click(stop, inputs=None, outputs=None, queue=False, **PRIVATE), tab)


def followed(
    studio: Studio, outputs: Iterator[Outputs], request: gr.Request, tab: str
) -> Iterator[Outputs]:
    """The outputs of a request, which goes on while its page is loaded again."""
    return studio.running.start(outputs, page=page_of(request), tab=tab, user=user_of(request))


LOST = "The request from before the reload is no longer known here; send it again."


def wire_again(studio: Studio, tab: str, stage: gr.HTML, outputs: list[Any]) -> None:
    """A page that was loaded again goes on showing what it had asked for (static/again.js)."""

    def again(request: gr.Request) -> Iterator[Any]:
        page = page_of(request)
        run = studio.running.find(page, tab, user_of(request))
        if run is None:
            yield {stage: views.message(LOST)}
            return
        studio.stops.join(page, request.session_hash or "")
        yield from run.follow()

    wire = mount("wire", f"again-{tab}", events=["message"], visible="hidden")
    event = wire.message(again, inputs=None, outputs=outputs, concurrency_limit=None, **PRIVATE)
    on_failure(event, tab)


def wire_back(studio: Studio) -> None:
    """A page that was loaded again says so at once, whichever of its tabs shows first."""

    def back(request: gr.Request) -> None:
        studio.stops.join(page_of(request), request.session_hash or "")

    mount("wire", "back", events=["message"], visible="hidden").message(back, **PRIVATE)


def keep_form(tab: str, components: Mapping[str, Any]) -> None:
    """The browser keeps what the controls hold (static/forms.js); after a reload it calls `form-TAB` with it."""
    names = json.dumps(list(components))
    gr.on(
        [component.change for component in components.values()], fn=None, inputs=list(components.values()),
        js=f"(...v) => window.lcm?.keep({json.dumps(tab)}, Object.fromEntries({names}.map((n, i) => [n, v[i]])))",
        trigger_mode="multiple", **PRIVATE,
    )  # fmt: skip


def on_channel(
    name: str, fn: Callable[..., Any], *, outputs: list[Any], inputs: Any = None
) -> gr.HTML:
    """Let the page's own scripts call `fn(data, ...)` by `channel(name)(data)`; data is plain JSON.

    A plain function of the data only, or of `(data, *inputs)`. The data travel as text: Gradio would take any
    `{"path": ...}` in them, such as a LoRA's, for an uploaded file and refuse the event.
    """
    wire = mount("wire", name, events=["message"], visible="hidden")

    def listen(event: gr.EventData, *args: Any) -> Any:
        # as text, for Gradio takes every {"path": ...} in an event's data for a file of its own
        try:
            data = json.loads(event._data)
        except (TypeError, ValueError, RecursionError):
            raise gr.Error(MISFIT, print_exception=False) from None
        return fn(data, *args)

    # a message that comes while another is being answered is answered as well, not dropped
    wire.message(listen, inputs=inputs, outputs=outputs, trigger_mode="multiple", **PRIVATE)
    return wire


def on_restore(tab: str, fn: Callable[[Any], Any], *, outputs: list[Any]) -> gr.HTML:
    """`fn(settings)` -> updates of `outputs`, when the history or a dropped PNG asks this tab to restore them."""
    return on_channel(f"restore-{tab}", fn, outputs=outputs)


def on_receive(
    tab: str, fn: Callable[..., Any], *, outputs: list[Any], inputs: Any = None
) -> gr.HTML:
    """`fn({"id": picture id, "settings": ...}, *inputs)` when another tab sends a picture ("Send to Edit")."""
    return on_channel(f"receive-{tab}", fn, outputs=outputs, inputs=inputs)
