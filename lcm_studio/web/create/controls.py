"""The Create tab's controls, and how they follow the model's kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from lcm_studio.models.kinds import kind_of
from lcm_studio.spec import limits
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.web import inputs, parts
from lcm_studio.web.create import own, samplers, steering_controls
from lcm_studio.web.create import values as form
from lcm_studio.web.create.fit import (
    FEW_STEPS,
    LORA_WEIGHT,
    fit,
    guidance_ends,
    most_steps,
    side_ends,
    top_of_steps,
)
from lcm_studio.web.create.offer import FAMILIES, NOTHING, Offer, chips, listed
from lcm_studio.web.fields import Field
from lcm_studio.web.studio import Studio

TAB = "create"

Controls = dict[str, Any]

BESIDE_GUIDANCE = (
    "guided_steps",
    "class_label",
)  # the other settings of some models lie under More

GUIDANCE = {
    "embedded": (
        "Guidance",
        "How closely the picture follows the words. Built into this model: it costs no time.",
    ),
    "cfg": (
        "Guidance",
        "How closely the picture follows the words. Above 1 each step takes two evaluations.",
    ),
    "none": ("Guidance", "This model has none."),
}


INVERSIONS = (
    "One file a line, or WORD = FILE; then write its word in the prompt. "
    "Of those in the studio's folder, under the prompt, the word is enough."
)


def kind_choices(info: ModelInfo) -> list[tuple[str, str]]:
    """(title, name) of the kinds that this model may be."""
    return [("auto", "auto"), *((kind_of(name).title, name) for name in info.kinds)]


def fallback(model: str) -> ModelInfo:
    """Controls to show while no model is known."""
    return ModelInfo(
        id=model, path="", kind="lcm", width=256, height=256, multiple=8, guidance="embedded"
    )


def known(studio: Studio, model: str) -> ModelInfo:
    """The model's info, or a stand-in where it cannot be read (the page says why elsewhere)."""
    try:
        return studio.engine.info(model)
    except StudioError:
        return fallback(model)


def build_prompt(info: ModelInfo, offer: Offer) -> Controls:
    """The prompt, the main buttons and the words the model knows."""
    c: Controls = {}
    c["prompt"] = gr.Textbox(
        label="Prompt", lines=2, max_lines=6, autofocus=True, elem_id=f"{TAB}-prompt", elem_classes="lcm-prompt",
        placeholder="sunset, snowy mountains, lake",
    )  # fmt: skip
    c["negative"] = gr.Textbox(
        label="Negative prompt", info="What to keep out.", lines=1, visible=info.takes_negative,
        elem_id=f"{TAB}-negative",
    )  # fmt: skip
    c["actions"] = parts.action_row(TAB)
    with gr.Row(elem_classes="lcm-modes"):
        c["live"] = gr.Checkbox(
            label="Live: follow my typing", elem_id=f"{TAB}-live", elem_classes="lcm-switch"
        )
        c["compare"] = gr.Button(
            "Compare steps", elem_id=f"{TAB}-compare", size="sm", elem_classes="lcm-quiet"
        )
    c["note"] = parts.note(TAB)
    c["chips"] = parts.mount("chips", TAB, value=chips(info, offer))
    return c


def build_main(info: ModelInfo) -> Controls:
    """Steps, guidance, seed, images and size."""
    c: Controls = {}
    with gr.Group(elem_classes="lcm-card"):
        with gr.Row(elem_classes="lcm-steps"):
            start, _ = fit({"steps": info.steps_default, "guidance": info.guidance_default}, info)
            top = top_of_steps(info, start["steps"])
            c["steps"] = inputs.Slider(
                1, top, value=start["steps"], step=1, label="Steps", elem_id=f"{TAB}-steps", scale=4
            )
            c["more"] = gr.Checkbox(
                label=f"up to {most_steps(info)}", value=top > FEW_STEPS, visible=most_steps(info) > FEW_STEPS,
                elem_id=f"{TAB}-more", scale=1, min_width=96, elem_classes="lcm-mini",
            )  # fmt: skip
        title, hint = GUIDANCE[info.guidance]
        c["guidance"] = inputs.Slider(
            *guidance_ends(info), value=start["guidance"], step=0.1, label=title, info=hint,
            visible=info.guidance != "none", elem_id=f"{TAB}-guidance",
        )  # fmt: skip
        for name in BESIDE_GUIDANCE:
            c[name] = own_control(TAB, own.FIELDS[name], info)
    with gr.Group(elem_classes="lcm-card"):
        c |= parts.seed_row(TAB)
        with gr.Row():
            c["count"] = inputs.Slider(
                1, limits.MAX_COUNT, value=1, step=1, label="Images", elem_id=f"{TAB}-count"
            )
        with gr.Row(elem_classes="lcm-size"):
            for side, value in (("width", info.width), ("height", info.height)):
                c[side] = inputs.Slider(
                    **size_range(info), value=value, label=side.capitalize(), info=made_for(value),
                    elem_id=f"{TAB}-{side}",
                )  # fmt: skip
    return c


def build_advanced(studio: Studio, info: ModelInfo, offer: Offer) -> Controls:
    """Model, decoder, LoRAs, sampler with its settings, explicit timesteps."""
    c: Controls = {}
    catalog = [model.id for model in studio.engine.catalog()]
    more = (
        "; or enter a folder, a .safetensors file or a hub id" if studio.options.free_paths else ""
    )
    c["model"] = gr.Dropdown(
        choices=sorted({*catalog, info.id}), value=info.id, label="Model", info=f"From the studio's folders{more}.",
        allow_custom_value=True, elem_id=f"{TAB}-model",
    )  # fmt: skip
    c["about"] = parts.mount("about", TAB, value=about(info))
    with gr.Accordion(
        "All models: kind, size, licence, last used", open=False, elem_id=f"{TAB}-models-block"
    ):
        c["models"] = parts.mount("models", TAB, value=listed(info, offer), events=["pick"])
    c |= steering_controls.build(TAB, info, offer)
    with gr.Accordion(
        "More: decoder, LoRAs, sampler, timesteps", open=False, elem_id=f"{TAB}-advanced"
    ):
        c["decoder"] = gr.Dropdown(
            choices=list(dict.fromkeys(("default", *studio.engine.decoders()))), value="default", label="Decoder",
            info="A tiny autoencoder decodes faster.", allow_custom_value=True, elem_id=f"{TAB}-decoder",
        )  # fmt: skip
        hint = "path/to/file.safetensors" if studio.options.free_paths else "upload a file below"
        for i in range(form.LORA_ROWS):
            with gr.Row(elem_classes="lcm-lora"):
                c[f"lora{i}"] = gr.Textbox(
                    label=f"LoRA {i + 1}", placeholder=hint, max_lines=1, scale=3, min_width=140,
                    elem_id=f"{TAB}-lora-{i}",
                )  # fmt: skip
                c[f"weight{i}"] = inputs.Slider(
                    -LORA_WEIGHT, LORA_WEIGHT, value=1.0, step=0.05, label="Weight", scale=2, min_width=120,
                    elem_id=f"{TAB}-weight-{i}",
                )  # fmt: skip
        parts.mount(
            "lora", TAB, value={"limit": studio.options.lora_limit, "instead": studio.loras.instead}
        )
        c["embeddings"] = gr.Textbox(
            label="Textual inversions", info=INVERSIONS, lines=1, max_lines=4, visible=info.takes_weights,
            placeholder=hint, elem_id=f"{TAB}-embeddings",
        )  # fmt: skip
        c["kind"] = gr.Dropdown(
            choices=kind_choices(info), value="auto", label="Kind", visible=len(info.kinds) > 1,
            info="How it is sampled. auto goes by the model and its LoRAs; a choice for a file that does not say is remembered.",
            elem_id=f"{TAB}-kind",
        )  # fmt: skip
        for name, field in own.FIELDS.items():
            if name not in BESIDE_GUIDANCE:
                c[name] = own_control(TAB, field, info)
        c |= samplers.build(TAB)
        c["timesteps"] = gr.Textbox(
            label="Timesteps", info="A falling list of the model's levels instead of a number of steps.",
            placeholder="999,499", max_lines=1, elem_id=f"{TAB}-timesteps",
        )  # fmt: skip
    return c


def choices(info: ModelInfo, offer: Offer) -> dict[str, Any]:
    """Those of the menu of models, where the studio has said what is there."""
    names = {str(row["id"]) for row in offer.models}
    return {"choices": sorted({*names, info.id})} if names else {}


def own_control(tab: str, field: Field, info: ModelInfo) -> Any:
    """The control, on a tab, of a setting that only some models have."""
    more = {name: value for name, value in own_update(field, info).items() if name != "__type__"}
    return inputs.control(tab, field, **more)


def own_update(field: Field, info: ModelInfo, value: Any = None) -> dict[str, Any]:
    """How it goes by the model."""
    made: dict[str, Any] = {
        "visible": own.there(field.setting, info),
        "info": own.hint(field, info),
    }
    if field.span:
        made["maximum"] = own.ends(field, info, value)[1]
    elif field.drawn == "text":
        made["placeholder"] = own.native(field.setting, info)
    return gr.update(**made)


def size_range(info: ModelInfo) -> dict[str, int]:
    low, high = side_ends(info)
    return {"minimum": low, "maximum": high, "step": info.multiple}


def made_for(native: float) -> str:
    return f"Made for {native:g}. Larger sizes repeat things; use Enlarge."


def about(info: ModelInfo) -> dict[str, str]:
    """The model's card: what it is, in a line; static/header.js calls the model `id` by `name`, where it has one."""
    size = f"{info.parameters / 1e6:.1f} M parameters" if info.parameters else ""
    line = ", ".join(
        part
        for part in (info.name, FAMILIES[info.kind], f"{info.width} x {info.height}", size)
        if part
    )
    licence = f"Licence: {info.licence}." if info.licence not in ("", "the model's own") else ""
    note = " ".join(
        part for part in (f"{info.why}." if info.why else "", info.note, licence) if part
    )
    return {"text": line, "note": note, "id": info.id, "name": info.name}


def follow(
    info: ModelInfo, values: Mapping[str, Any] | None = None, offer: Offer = NOTHING
) -> dict[str, Any]:
    """Updates of every control for a model; `values` (of `values.from_settings`) are kept where given.

    `offer`: what the studio's folders hold for it.

    What lies outside a control's range is brought into it; `fit` says so in sentences.
    """
    native = {
        "steps": info.steps_default, "guidance": info.guidance_default, "width": info.width, "height": info.height,
    }  # fmt: skip
    values, _ = fit(native | {k: v for k, v in (values or {}).items() if v is not None}, info)
    title, hint = GUIDANCE[info.guidance]
    low, high = guidance_ends(info)
    top = top_of_steps(info, values["steps"], more=bool(values.get("more")))
    updates: dict[str, Any] = {
        "negative": gr.update(visible=info.takes_negative),
        "prompt": gr.update(visible=info.takes_prompt),
        "steps": gr.update(value=values["steps"], maximum=top),
        "more": gr.update(
            value=top > FEW_STEPS, label=f"up to {most_steps(info)}", visible=most_steps(info) > FEW_STEPS
        ),
        "guidance": gr.update(
            minimum=low, maximum=high, value=values["guidance"], label=title, info=hint,
            visible=info.guidance != "none",
        ),
        "chips": chips(info, offer),
        "embeddings": gr.update(visible=info.takes_weights),
        "about": about(info),
        "models": listed(info, offer),
        "kind": gr.update(choices=kind_choices(info), value=values.get("kind", "auto"), visible=len(info.kinds) > 1),
        "model": gr.update(value=info.id, **choices(info, offer)),
    }  # fmt: skip
    for side in ("width", "height"):
        updates[side] = gr.update(
            value=values[side], info=made_for(native[side]), **size_range(info)
        )
    for name, field in own.FIELDS.items():
        updates[name] = own_update(field, info, values.get(name))
    for name in (
        "prompt",
        "negative",
        "seed",
        "randomize",
        "live",
        "count",
        "decoder",
        "embeddings",
        "timesteps",
        *own.FIELDS,
    ):
        if name in values:
            updates[name] = {**updates.get(name, gr.update()), "value": values[name]}
    updates |= steering_controls.follow(info, values, offer)
    if "sampler" in values:
        updates |= samplers.updates(values["sampler"], values)
    for i in range(form.LORA_ROWS):
        for name in (f"lora{i}", f"weight{i}"):
            if name in values:
                updates[name] = gr.update(value=values[name])
    return updates
