"""The Distil tab: pictures and a teacher to a model of one's own; runs that outlive the page. Composition and wiring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from lcm_studio.jobs.config import rooted
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.web import parts
from lcm_studio.web.distil import values as form
from lcm_studio.web.distil import views
from lcm_studio.web.distil.actions import permitted, wire_finished
from lcm_studio.web.distil.board import TAB, Board, build_board, wire_board
from lcm_studio.web.distil.pictures import (
    PERMISSION,
    build_permission,
    permission,
    refusal,
    wire_data,
)
from lcm_studio.web.distil.places import allowed, choices, confined, places
from lcm_studio.web.distil.watch import data_home, jobs, look, viewer_of
from lcm_studio.web.studio import Studio
from lcm_studio.web.views import note as said

MANY_STEPS = "The diffusion model whose many steps become few."
NO_TEACHER = "No {kind} is at hand. Train one first (recipe “{recipe}”), or type its folder."


def build(studio: Studio) -> None:
    """Everything inside the tab."""
    with gr.Row(elem_classes="lcm-split"):
        with gr.Column(elem_classes="lcm-left", scale=3, min_width=320):
            report = parts.html(visible=False, elem_id=f"{TAB}-report")
            sheet = gr.Image(
                visible=False,
                show_label=False,
                elem_id=f"{TAB}-sheet",
                format="png",
                buttons=[],
                type="pil",
            )
            board = build_board()
        with gr.Column(elem_classes="lcm-right", scale=2, min_width=320):
            c = build_form(studio)
    wire_board(studio, board)
    wire_data(studio, c, report, sheet)
    wire_start(studio, c, board, (report, sheet))
    wire_finished(studio, c, board)
    wire_kept(studio, c)


def build_form(studio: Studio) -> dict[str, Any]:
    """Pictures, teacher and recipe, settings, plan and start."""
    c: dict[str, Any] = {}
    with gr.Group(elem_classes="lcm-card"):
        parts.html('<h2 class="distil-step">1 · Pictures</h2>')
        c["folder"] = gr.Dropdown(
            choices=choices(places(studio)), value=None, label="Folder or shards", allow_custom_value=True,
            info="With a .txt caption beside each picture, metadata.jsonl, or none.", elem_id=f"{TAB}-folder",
        )  # fmt: skip
        with gr.Row(elem_classes="distil-buttons"):
            c["examine"] = gr.Button(
                "Examine", size="sm", elem_id=f"{TAB}-examine", elem_classes="lcm-quiet"
            )
            c["example"] = gr.Button(
                "Use example scenes", size="sm", elem_id=f"{TAB}-example", elem_classes="lcm-quiet"
            )
        c["data_note"] = parts.note(f"{TAB}-data")
        build_permission(c)
        with gr.Accordion("Upload pictures", open=False):
            c["files"] = gr.File(
                file_count="multiple",
                label="Pictures and their .txt captions, or a .zip of them", elem_id=f"{TAB}-files", height=120,
            )  # fmt: skip
    with gr.Group(elem_classes="lcm-card"):
        parts.html('<h2 class="distil-step">2 · What to make</h2>')
        c["recipe"] = gr.Dropdown(
            choices=form.recipes(), value="lcd", label="Recipe", elem_id=f"{TAB}-recipe"
        )
        there = teachers(studio, "lcd")
        c["teacher"] = gr.Dropdown(
            choices=there, value=next(iter(there), None), label="Teacher", allow_custom_value=True,
            info=about_teachers(there, "lcd"), elem_id=f"{TAB}-teacher",
        )  # fmt: skip
        names = form.presets("lcd")
        hints = form.hints(first_preset(names))
        c["preset"] = gr.Dropdown(
            choices=["", *names], value=first_preset(names), label="Preset", elem_id=f"{TAB}-preset"
        )
        c["name"] = gr.Textbox(
            label="Name of the run",
            max_length=80,
            max_lines=1,
            elem_id=f"{TAB}-name",
            placeholder="my model",
        )
        with gr.Row():
            c["steps"] = _small(form.TITLES["steps"], "steps", hints["steps"])
            c["batch_size"] = _small(form.TITLES["batch_size"], "batch", hints["batch_size"])
        with gr.Row():
            c["resolution"] = _small(form.TITLES["resolution"], "size", hints["resolution"])
            c["learning_rate"] = _small(
                form.TITLES["learning_rate"], "rate", hints["learning_rate"]
            )
        c["prompts"] = gr.Textbox(
            label="Validation prompts",
            info="One a line, a column of pictures each. None: the first captions of the data.",
            placeholder="sunset, lake",
            lines=2,
            max_lines=8,
            max_length=9000,
            elem_id=f"{TAB}-prompts",
        )
        with gr.Accordion("All further settings", open=False, elem_id=f"{TAB}-further"):
            c["more"] = gr.Code(
                label="YAML, on top of the preset", language="yaml", lines=5, elem_id=f"{TAB}-more"
            )
    with gr.Group(elem_classes="lcm-card"):
        parts.html('<h2 class="distil-step">3 · Plan and start</h2>')
        with gr.Row(elem_classes="distil-buttons"):
            c["plan"] = gr.Button(
                "Show the plan", size="sm", elem_id=f"{TAB}-plan", elem_classes="lcm-quiet"
            )
            c["go"] = gr.Button(
                "Start the run", variant="primary", elem_id=f"{TAB}-go", elem_classes="lcm-go"
            )
        c["note"] = parts.note(TAB)
        c["planned"] = parts.html(elem_id=f"{TAB}-planned")
        with gr.Accordion("Command and config to copy", open=False, elem_id=f"{TAB}-copy"):
            c["text"] = gr.Code(
                language="yaml", show_label=False, interactive=False, elem_id=f"{TAB}-text"
            )
    return c


def _small(label: str, name: str, hint: str) -> gr.Textbox:
    """A number that may stay empty: then the preset's holds."""
    return gr.Textbox(
        label=label,
        placeholder=hint,
        max_length=20,
        max_lines=1,
        min_width=90,
        elem_id=f"{TAB}-{name}",
    )


def teachers(studio: Studio, recipe: str) -> list[str]:
    """Diffusion models that the recipe can distil: of latents and words, or of pixels."""
    in_words = recipe in form.PROMPTED
    return [
        info.id
        for info in studio.engine.catalog()
        if not info.consistency and info.takes_prompt == in_words
    ]


def of_teacher(studio: Studio, recipe: str, chosen: Any) -> dict[str, Any]:
    """The update of the teacher's menu: what is `chosen` stays where the recipe can distil it."""
    there = teachers(studio, recipe)
    known = {info.id for info in studio.engine.catalog()}
    if not (chosen in there or (chosen and chosen not in known)):  # a path that was typed stays
        chosen = next(iter(there), None)
    visible = recipe in form.NEEDS_TEACHER
    return gr.update(
        choices=there, value=chosen, visible=visible, info=about_teachers(there, recipe)
    )


def about_teachers(there: list[str], recipe: str) -> str:
    """What stands under the menu: what a teacher is, or how to come by one."""
    if there:
        return MANY_STEPS
    if recipe in form.PROMPTED:
        return NO_TEACHER.format(kind="latent diffusion model", recipe=form.LABELS["teacher"])
    return NO_TEACHER.format(kind="pixel diffusion model", recipe=form.LABELS["edm"])


def first_preset(names: tuple[str, ...]) -> str:
    return next(
        (name for name in names if "cpu" in name or "quick" in name), names[0] if names else ""
    )


def wire_start(
    studio: Studio, c: dict[str, Any], board: Board, examined: tuple[gr.HTML, gr.Image]
) -> None:
    """Plan and start: both check the same form the same way. A run that has started takes the place of what was `examined`."""
    fields = {c[name] for name in form.NAMES}
    asked = [c[name] for name in PERMISSION]
    kept = [gr.skip(), gr.skip(), ""]  # what was examined stays; a plan, made or refused, is over

    def read(data: Mapping[Any, Any]) -> tuple[str, dict[str, Any]]:
        permitted(studio)
        values = {name: data.get(c[name]) for name in form.NAMES}
        place = str(values["folder"] or "").strip()
        there = places(studio)
        folder = allowed(place, there) if place else ""
        recipe = str(values["recipe"] or "")
        teacher = str(values["teacher"] or "") if recipe in form.NEEDS_TEACHER else ""
        path = studio.engine.info(studio.allowed_model(teacher)).path if teacher else ""
        recipe, config = form.to_config(values, teacher=path, folder=folder)
        cache = data_home().parent / "cache"
        config = rooted(config, data_home(), cache)
        confined(config, there, cache)
        return recipe, config

    def plan(data: Mapping[Any, Any]) -> Iterator[Any]:
        try:
            recipe, config = read(data)
            yield (
                gr.skip(),
                form.recipe_text(recipe, config),
                said("The trainer works out the plan ...", "info"),
                *permission(),
            )
            found = jobs().plan(recipe, config)
        except StudioError as error:
            yield "", gr.skip(), refusal(error), *permission(error)
            return
        yield views.plan(found.text, found.ok), gr.skip(), None, *permission()

    def start(data: Mapping[Any, Any], request: gr.Request) -> Iterator[Any]:
        try:
            recipe, config = read(data)
            yield (
                gr.skip(),
                form.recipe_text(recipe, config),
                said("Checking the settings ...", "info"),
                *permission(),
                *kept,
            )
            found = jobs().plan(recipe, config, timed=False)
            if not found.ok:
                raise BadRequest(found.text)
            viewer = viewer_of(studio, request)
            name = str(data.get(c["name"]) or "")
            job = jobs().submit(recipe, config, name=name, owner=viewer.user)
        except StudioError as error:
            yield gr.skip(), gr.skip(), refusal(error), *permission(error), *kept
            return
        runs = list(look(job.id, viewer).choices)
        yield (
            gr.update(choices=runs, value=job.id, visible=True),
            gr.skip(),
            said("The run is in the list; this page need not stay open for it.", "info"),
            *permission(),
            *(gr.update(visible=False) for _ in examined),
            "",
        )

    def hints(preset: str | None) -> list[Any]:
        return list(placeholders(preset).values())

    def recipe_chosen(recipe: str, teacher: Any) -> dict[Any, Any]:
        updates = of_recipe(recipe) | {"teacher": of_teacher(studio, recipe, teacher)}
        return {c[name]: update for name, update in updates.items()}

    c["plan"].click(
        plan,
        fields,
        [c["planned"], c["text"], c["note"], *asked],
        trigger_mode="always_last",
        **parts.PRIVATE,
    )
    outputs = [board.picker, c["text"], c["note"], *asked, *examined, c["planned"]]
    started = c["go"].click(start, fields, outputs, **parts.PRIVATE)
    # static/pending.js answers a second press while the first is being checked
    started.then(None, js=f"() => window.lcm.settled('{TAB}-go')", **parts.PRIVATE)
    numbers = [c[name] for name in form.NUMBERS]
    c["recipe"].input(
        recipe_chosen,
        [c["recipe"], c["teacher"]],
        [c["preset"], c["teacher"], c["prompts"], *numbers],
        **parts.PRIVATE,
    )
    c["preset"].input(hints, c["preset"], numbers, **parts.PRIVATE)


def placeholders(preset: str | None) -> dict[str, Any]:
    """Updates of the numbers that may stay empty: they show those of the preset."""
    return {name: gr.update(placeholder=words) for name, words in form.hints(preset or "").items()}


def of_recipe(recipe: str, preset: str | None = None) -> dict[str, Any]:
    """Updates of the controls that go by the recipe, with its own `preset` or its first."""
    names = form.presets(recipe)
    chosen = preset if preset in ("", *names) else first_preset(names)
    return {
        "preset": gr.update(choices=["", *names], value=chosen),
        "prompts": gr.update(visible=recipe in form.PROMPTED),
        **placeholders(chosen),
    }


def wire_kept(studio: Studio, c: dict[str, Any]) -> None:
    """What the form held comes back after a reload."""
    parts.keep_form(TAB, {name: c[name] for name in form.NAMES})

    def again(kept: Any) -> dict[Any, Any]:
        recipes = {name for _, name in form.recipes()}
        if not isinstance(kept, Mapping) or kept.get("recipe") not in recipes:
            return {c["note"]: None}
        updates = of_recipe(kept["recipe"], kept.get("preset"))
        updates["teacher"] = of_teacher(studio, kept["recipe"], kept.get("teacher"))
        for name in form.NAMES:
            if name != "preset" and isinstance(kept.get(name), str):
                updates[name] = {**updates.get(name, gr.update()), "value": kept[name]}
        return {c[name]: update for name, update in updates.items()}

    outputs = [*(c[name] for name in form.NAMES), c["note"]]
    parts.on_channel(f"form-{TAB}", again, outputs=outputs)
