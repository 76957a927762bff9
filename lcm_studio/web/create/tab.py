"""The Create tab: words to pictures; live, compare, history and restore. Composition and wiring only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Generate, LoraSpec
from lcm_studio.web import parts, views
from lcm_studio.web.compare import compare
from lcm_studio.web.create import controls as create_form
from lcm_studio.web.create import loras, samplers, steering_controls, steering_values
from lcm_studio.web.create import offer as offers
from lcm_studio.web.create import values as form
from lcm_studio.web.create.controls import TAB, Controls
from lcm_studio.web.create.fit import FEW_STEPS, fit, most_steps
from lcm_studio.web.server.running import page_of
from lcm_studio.web.server.stops import owner_of
from lcm_studio.web.studio import Studio

NO_PROMPT = "Without a prompt the model draws whatever it has learned; words, typed or clicked together, steer it."
LIVE_JS = "(...v) => window.lcm && window.lcm.live('create', Object.fromEntries({names}.map((n, i) => [n, v[i]])))"


def build(studio: Studio) -> None:
    """Everything inside the tab."""
    info = create_form.known(studio, studio.options.model)
    with gr.Row(elem_classes="lcm-split lcm-words-first"):
        with gr.Column(elem_classes="lcm-left", scale=3, min_width=320):
            stage = parts.stage(TAB)
            parts.history(TAB)
        with gr.Column(elem_classes="lcm-right", scale=2, min_width=320):
            offer = offers.offer_of(studio, info.id)
            c = create_form.build_prompt(info, offer)
            c |= create_form.build_main(info)
            c |= create_form.build_advanced(studio, info, offer)
            parts.mount("drop", TAB)
    parts.mount("live", TAB, elem_id=f"{TAB}-live-driver")
    current = gr.State(info.id)
    wire_generate(studio, c, stage)
    wire_live(c)
    wire_seed(studio, c, current)
    wire_sampler(c)
    loras.wire(studio, c)
    wire_kind(studio, c)
    wire_guided_steps(studio, c)
    steering_controls.wire(studio, c)
    wire_model(studio, c, current)
    wire_restore(studio, c, current)
    parts.keep_form(TAB, {name: c[name] for name in form.NAMES})


def values(c: Controls, data: Mapping[Any, Any]) -> dict[str, Any]:
    """Component -> value, as Gradio sends a set of inputs, by the form's names."""
    return {name: data.get(c[name]) for name in form.NAMES}


def inputs(c: Controls) -> set[Any]:
    return {c[name] for name in form.NAMES}


def wire_generate(studio: Studio, c: Controls, stage: gr.HTML) -> None:
    """Generate and Compare draw on the stage; a new seed is written into the form, so that what shows is what ran."""

    def ready(data: Mapping[Any, Any]) -> dict[str, Any]:
        said = values(c, data)
        if said["randomize"]:
            said["seed"] = form.new_seed()
        return said

    def request_of(said: Mapping[str, Any]) -> Generate:
        info = form.info_of(studio, said)
        return form.to_request(
            said, info, previews=form.whole(said, "steps") > 1, store=studio.loras,
            steering=steering_values.of_form(said, info, studio.controls),
        )  # fmt: skip

    def go(data: Mapping[Any, Any], request: gr.Request) -> Iterator[Any]:
        said = ready(data)
        plays = studio.play(
            lambda: request_of(said),
            owner=owner_of(request),
            tab=TAB,
            page=page_of(request),
            on_done=lambda done: without_words(studio, done),
        )
        yield from parts.followed(studio, show(plays, said), request, TAB)

    def side_by_side(data: Mapping[Any, Any], request: gr.Request) -> Iterator[Any]:
        said = ready(data)
        plays = compare(
            studio,
            lambda: request_of(said),
            owner=owner_of(request),
            tab=TAB,
            page=page_of(request),
        )
        yield from parts.followed(studio, show(plays, said), request, TAB)

    def show(plays: Iterator[views.View], said: Mapping[str, Any]) -> Iterator[Any]:
        seed = {c["seed"]: said["seed"]} if said["randomize"] else {}
        for view in plays:
            yield seed | {stage: view}  # one message: the browser takes each through every control
            seed = {}

    outputs = [stage, c["seed"]]
    parts.wire_run(studio, c["actions"], go, inputs=inputs(c), outputs=outputs, tab=TAB)
    compared = c["compare"].click(
        side_by_side, inputs=inputs(c), outputs=outputs, concurrency_limit=None, **parts.PRIVATE
    )
    parts.on_failure(compared, TAB)
    parts.wire_again(studio, TAB, stage, outputs)


def without_words(studio: Studio, done: Done) -> views.View:
    """What an empty prompt has done, where the model takes one and nothing else is to be said."""
    silent = not (done.warnings or str(done.settings.get("prompt") or "").strip())
    asked = silent and create_form.known(studio, str(done.settings["model"])).takes_prompt
    return {"message": views.note(NO_PROMPT, "info")} if asked else {}


def wire_live(c: Controls) -> None:
    """Every change goes to live.js in the browser; it asks the server itself, and only for the newest."""
    names = list(form.NAMES)
    watched = [c[name] for name in names if name not in ("model", "more", "live")]
    js = LIVE_JS.replace("{names}", str(names))
    # A Textbox raises `input` on key presses only: not on paste, deletion or a chip.
    listeners = [x.change if isinstance(x, gr.Textbox) else x.input for x in watched]
    gr.on(
        [*listeners, c["live"].change], fn=None, inputs=[c[name] for name in names], js=js,
        trigger_mode="multiple", **parts.PRIVATE,
    )  # fmt: skip


def wire_seed(studio: Studio, c: Controls, current: gr.State) -> None:
    parts.wire_reuse(c, TAB)

    def widen(more: bool, steps: Any, model: str, sampler: str) -> dict[Any, Any]:
        most = most_steps(create_form.known(studio, model), sampler)
        top = most if more else FEW_STEPS
        value = min(max(1, int(steps or 1)), top)
        return {
            c["steps"]: gr.update(maximum=top, value=value),
            c["more"]: gr.update(label=f"up to {most}"),
        }

    gr.on(
        [c["more"].input, c["sampler"].input], widen, inputs=[c["more"], c["steps"], current, c["sampler"]],
        outputs=[c["steps"], c["more"]], queue=False, **parts.PRIVATE,
    )  # fmt: skip


def wire_sampler(c: Controls) -> None:
    """A chosen sampler shows its words and its own settings, at its defaults."""
    names = list(samplers.updates("auto", {}))

    def choose(sampler: Any) -> list[Any]:
        updates = samplers.updates(sampler, {})
        return [updates[name] for name in names]

    c["sampler"].input(
        choose,
        inputs=[c["sampler"]],
        outputs=[c[name] for name in names],
        queue=False,
        **parts.PRIVATE,
    )


def wire_model(studio: Studio, c: Controls, current: gr.State) -> None:
    """The controls follow a model that is chosen in the menu or the list, or that has just come as a file."""
    outputs = [c[name] for name in create_form.follow(create_form.fallback("x"))]

    def follow(info: ModelInfo) -> dict[Any, Any]:
        updates = create_form.follow(info, offer=offers.offer_of(studio, info.id))
        return {c[name]: update for name, update in updates.items()}

    def choose(model: str | None, before: str) -> Iterator[Any]:
        yield from parts.choose_model(studio, c, current, model, before, follow)

    def pick(event: gr.EventData, before: str) -> Iterator[Any]:
        yield from choose(str(event._data), before)

    def added(name: Any, before: str) -> dict[Any, Any]:
        """A checkpoint that has just come is opened."""
        updates: dict[Any, Any] = {}
        for update in choose(str(name), before):
            updates |= update
        return updates

    followed = [*outputs, current, c["note"]]
    for listen, fn, inputs in (
        (c["model"].input, choose, [c["model"], current]),
        (c["models"].pick, pick, [current]),
    ):
        listen(
            fn, inputs=inputs, outputs=followed, concurrency_limit=None,
            trigger_mode="always_last", **parts.PRIVATE,
        )  # fmt: skip
    parts.on_channel(f"model-{TAB}", added, inputs=[current], outputs=followed)


def wire_kind(studio: Studio, c: Controls) -> None:
    """Steps, guidance, negative prompt and eta follow the kind that is chosen, and the LoRAs."""
    names = ["negative", "steps", "more", "guidance", "guidance_start", "eta", "about", "chips"]
    rows = [c[f"lora{i}"] for i in range(form.LORA_ROWS)]

    def choose(data: Mapping[Any, Any]) -> list[Any]:
        said = values(c, data)
        try:
            info = form.info_of(studio, said)
        except StudioError as error:
            return [*([gr.skip()] * len(names)), views.note(str(error))]
        offer = offers.offer_of(studio, info.id, form.loras(said))
        updates = create_form.follow(info, offer=offer)
        return [*(updates[name] for name in names), views.note(f"{info.why}.", "info")]

    gr.on(
        [c["kind"].input, *(row.blur for row in rows), *(row.submit for row in rows)], choose,
        inputs=inputs(c), outputs=[*(c[name] for name in names), c["note"]], queue=False, **parts.PRIVATE,
    )  # fmt: skip


def wire_guided_steps(studio: Studio, c: Controls) -> None:
    """Guidance and the negative prompt are there for a kind without them where its first steps are guided."""

    def choose(data: Mapping[Any, Any]) -> dict[Any, Any]:
        said = values(c, data)
        try:
            info = form.info_of(studio, said)
        except StudioError as error:
            return {c["note"]: views.note(str(error))}
        updates = create_form.follow(info)
        now = said.get("guidance")
        if info.guidance != "none" and isinstance(now, int | float) and now > 1:
            updates["guidance"].pop("value")  # somebody has set it
        return {c[name]: updates[name] for name in ("guidance", "negative")}

    c["guided_steps"].input(
        choose, inputs=inputs(c), outputs=[c["guidance"], c["negative"], c["note"]], queue=False,
        trigger_mode="always_last", **parts.PRIVATE,
    )  # fmt: skip


def wire_restore(studio: Studio, c: Controls, current: gr.State) -> None:
    """Settings of a picture fill the whole form; the model is chosen too where it is at hand."""
    blank = create_form.fallback("x")
    names = list(
        create_form.follow(
            blank, form.from_settings({}, blank) | steering_values.START | {"live": False}
        )
    )
    outputs = [
        *(c[name] for name in names),
        *(c[name] for name in steering_controls.PREVIEWS),
        current,
        c["note"],
    ]

    def followed(info: ModelInfo, values: Mapping[str, Any]) -> dict[Any, Any]:
        files: tuple[LoraSpec, ...] = ()
        with contextlib.suppress(StudioError):
            files = form.loras(values)
        offer = offers.offer_of(studio, info.id, files)
        updates = create_form.follow(info, values, offer)
        updates |= steering_controls.followed(studio, info, values, offer)
        return {c[name]: update for name, update in updates.items()}

    def restore(said: Any) -> dict[Any, Any]:
        try:
            if not isinstance(said, Mapping):
                raise StudioError(
                    "These settings are not the studio's; drop a PNG that it has written."
                )
            info, remark = model_of(said)
            info, kind = as_asked(info, said)
            known = form.from_settings({**said, "model": info.id, "kind": kind}, info)
            values, notes = fit(known, info)
            notes += samplers.unknown(
                str(values["sampler"]), dict(said.get("sampler_settings") or {})
            )
            values |= steering_values.of_settings(said)
            notes += steering_values.missing(values, studio.controls)
            for i in range(form.LORA_ROWS):
                values[f"lora{i}"] = studio.loras.shown(values[f"lora{i}"])
        except (StudioError, ValueError, TypeError, OverflowError, AttributeError) as error:
            text = str(error) if isinstance(error, StudioError) else "These settings are damaged."
            return {c["note"]: views.note(text)}
        updates = followed(info, values)
        text = " ".join(("Settings restored.", *([remark] if remark else []), *notes))
        tone = "warning" if remark or notes else "info"
        return updates | {current: info.id, c["note"]: views.note(text, tone)}

    def model_of(said: Mapping[str, Any]) -> tuple[ModelInfo, str]:
        """The model that made the picture, or the studio's own where it is not at hand, with a remark."""
        wanted = str(said.get("model") or "")
        try:
            return studio.engine.info(studio.allowed_model(wanted)), ""
        except StudioError:
            own = studio.engine.info(studio.options.model)
            return (
                own,
                f"{wanted} is not at hand, so these settings are for {own.called} now; the picture will differ.",
            )

    def as_asked(info: ModelInfo, said: Mapping[str, Any]) -> tuple[ModelInfo, str]:
        """The model as the settings sample it, and their kind; auto where the model cannot be that."""
        kind = str(said.get("kind") or "auto")
        kind = kind if kind in info.kinds else "auto"
        steps = int(said.get("guided_steps") or 0) or None
        return studio.engine.info_as(info.id, kind=kind, guided_steps=steps), kind

    def again(kept: Any) -> dict[Any, Any]:
        """What the form held before a reload."""
        if not isinstance(kept, Mapping):
            return {c["note"]: views.note("")}
        info, remark = model_of(kept)
        with contextlib.suppress(StudioError, ValueError, TypeError, OverflowError):
            info, _ = as_asked(info, kept)
        values, notes = fit({**kept, "model": info.id}, info)
        updates = followed(info, values)
        words = " ".join(([remark] if remark else []) + notes)
        return updates | {current: info.id, c["note"]: views.note(words, "warning")}

    parts.on_restore(TAB, restore, outputs=outputs)
    parts.on_channel(f"form-{TAB}", again, outputs=outputs)
