"""The Edit tab's controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from lcm_studio.edits import TASKS
from lcm_studio.edits.task import EditTask
from lcm_studio.spec.models import ModelInfo
from lcm_studio.web import inputs, parts
from lcm_studio.web.create import own, steering_controls, steering_values
from lcm_studio.web.create.controls import (
    GUIDANCE,
    about,
    kind_choices,
    own_control,
    own_update,
)
from lcm_studio.web.create.fit import fit as fit_values
from lcm_studio.web.create.fit import guidance_ends
from lcm_studio.web.create.offer import NOTHING, Offer
from lcm_studio.web.edit import fields

TAB = "edit"
Controls = dict[str, Any]

EDIT_STEPS = 16


def shown_for(task: EditTask) -> dict[str, bool]:
    """Which controls a tool has; what does nothing for it is not there."""
    return {
        "mask": task.paints_mask,
        "second": "image_b" in (*task.needs, *task.takes),
        "only_strokes": task.strokes,
        "live": task.strokes,
        "vary": "image_b" not in task.takes,
        "control_place": task.takes_control,
        **{field.name: task.name in field.tools for field in fields.fields()},
        "settings": any(task.name in f.tools and not f.setting.advanced for f in fields.fields()),
    }


def groups(c: Controls) -> list[Any]:
    """The components that `shown` updates."""
    return [
        *(c[name] for name in shown_for(TASKS["inpaint"])),
        c["guidance"],
        *(c[name] for name in own.EDITED),
        c["prompt"],
        c["model_kind"],
    ]


def shown(c: Controls, tool: str, info: ModelInfo) -> dict[Any, Any]:
    """Updates that leave the controls of one tool, and of the model's kind."""
    return {
        **{c[name]: gr.update(visible=there) for name, there in shown_for(TASKS[tool]).items()},
        c["prompt"]: gr.update(visible=info.takes_prompt),
    }


def of_model(c: Controls) -> list[Any]:
    """The components that `follow` updates beside those of `groups`."""
    names = [
        name for block in steering_values.BLOCKS for name in (block.name, f"{block.name}_block")
    ]
    return [c[name] for name in ("model", "about", *names)]


def follow(c: Controls, tool: str, info: ModelInfo, offer: Offer = NOTHING) -> dict[Any, Any]:
    """Updates of every control that goes by the model. `offer`: what the studio's folders hold for it."""
    steers = {
        c[name]: update
        for name, update in steering_controls.follow(info, {}, offer, edits=True).items()
    }
    title, hint = GUIDANCE[info.guidance]
    low, high = guidance_range(info)
    return shown(c, tool, info) | steers | {
        c["guidance"]: gr.update(
            minimum=low, maximum=high, value=min(max(info.guidance_for(tool), low), high), label=title,
            info=hint, visible=info.guidance != "none",
        ),
        c["model"]: gr.update(value=info.id),
        **{c[name]: own_update(field, info) for name, field in own.EDITED.items()},
        c["model_kind"]: gr.update(choices=kind_choices(info), value="auto", visible=len(info.kinds) > 1),
        c["about"]: about(info),
    }  # fmt: skip


def guidance_range(info: ModelInfo) -> tuple[float, float]:
    """Wide enough for what each tool asks of the model."""
    low, high = guidance_ends(info)
    return low, max(high, *(scale for _, scale in info.guidance_tasks), high)


def fit(known: Mapping[str, Any], info: ModelInfo) -> tuple[dict[str, Any], list[str]]:
    """(form values that every control takes, sentences about those that were changed)."""
    out, notes = fit_values(known, info)
    if out.get("model_kind") not in info.kinds:
        out["model_kind"] = "auto"
    ranges: dict[str, tuple[float, float]] = {"steps": (1, EDIT_STEPS)}
    drawn = (*own.EDITED.values(), *fields.fields())
    ranges |= {field.name: field.span for field in drawn if field.span}
    for name, (low, high) in ranges.items():
        value = out.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            out[name] = min(max(value, low), high)
            notes.append(f"{value:g} is out of range for {name}; {out[name]:g} is set.")
    return out, notes


def build_files(examples: Path) -> Controls:
    """Open a picture, a second one, a mask, a white sheet, or an example."""
    c: Controls = {"examples": []}
    with gr.Row(elem_classes="lcm-files"):
        for name, text in (
            ("picture", "Open picture"),
            ("mask", "Upload mask"),
            ("second", "Second picture"),
        ):
            c[name] = gr.UploadButton(
                text,
                type="filepath",
                size="sm",
                elem_id=f"{TAB}-open-{name}",
                elem_classes="lcm-quiet",
                visible=shown_for(TASKS["inpaint"]).get(name, True),
            )
        c["blank"] = gr.Button(
            "White sheet", size="sm", elem_id=f"{TAB}-blank", elem_classes="lcm-quiet"
        )
        for number, path in enumerate(sorted(examples.glob("*.png"))[:4], start=1):
            button = gr.Button(
                path.stem.removeprefix("edit-").replace("-", " ").capitalize(), icon=str(path), size="sm",
                elem_id=f"{TAB}-example-{number}", elem_classes="lcm-example-picture",
            )  # fmt: skip
            c["examples"].append((button, path))
    return c


def build_tool(info: ModelInfo) -> Controls:
    """The tool, the prompt and the main buttons."""
    c: Controls = {}
    c["tool"] = gr.Radio(
        [(task.title, task.name) for task in TASKS.values()],
        value="inpaint",
        label="Tool",
        elem_id=f"{TAB}-tool",
    )
    hints = {task.name: task.hint or f"{task.help}.".capitalize() for task in TASKS.values()}
    parts.mount("tools", TAB, value=hints, visible="hidden")
    c["prompt"] = gr.Textbox(
        label="Prompt", lines=2, max_lines=4, elem_id=f"{TAB}-prompt", visible=info.takes_prompt,
        placeholder="What the picture should show",
    )  # fmt: skip
    c["actions"] = parts.action_row(TAB, "Apply")
    with gr.Row(elem_classes="lcm-modes"):
        c["vary"] = gr.Button(
            "4 variations", size="sm", elem_id=f"{TAB}-vary", elem_classes="lcm-quiet"
        )
        c["compare"] = gr.Button(
            "Compare steps", size="sm", elem_id=f"{TAB}-compare", elem_classes="lcm-quiet"
        )
    c["note"] = parts.note(TAB)
    c["fit"] = gr.Button(
        "Open it smaller", size="sm", visible=False, elem_id=f"{TAB}-fit", elem_classes="lcm-quiet"
    )
    return c


def build_options(info: ModelInfo, catalog: Iterable[str], offer: Offer = NOTHING) -> Controls:
    """Each tool's own settings, sampling, and the schedule editor."""
    c: Controls = {}
    there = shown_for(TASKS["inpaint"])
    with (
        gr.Group(visible=there["settings"], elem_classes="lcm-card") as c["settings"],
        gr.Row(elem_classes="lcm-settings"),
    ):
        for field in fields.fields():
            if not field.setting.advanced:
                c[field.name] = inputs.control(TAB, field, visible=there[field.name])
        for name, label in (
            ("only_strokes", "Only my strokes"),
            ("live", "Live: follow my strokes"),
        ):
            c[name] = gr.Checkbox(
                label=label,
                interactive=True,  # Gradio takes what is only an output for a display
                visible=False,
                elem_id=f"{TAB}-{name.replace('_', '-')}",
                elem_classes="lcm-switch" if name == "live" else "lcm-mini",
            )
    c |= _sampling(info, catalog)
    c |= steering_controls.build(TAB, info, offer, edits=True)
    return c


def _sampling(info: ModelInfo, catalog: Iterable[str]) -> Controls:
    c: Controls = {}
    title, hint = GUIDANCE[info.guidance]
    low, high = guidance_range(info)
    with gr.Group(elem_classes="lcm-card"):
        c["steps"] = inputs.Slider(
            1, EDIT_STEPS, value=4, step=1, label="Steps", elem_id=f"{TAB}-steps"
        )
        c["guidance"] = inputs.Slider(
            low, high, value=min(max(info.guidance_for("inpaint"), low), high), step=0.1, label=title, info=hint,
            visible=info.guidance != "none", elem_id=f"{TAB}-guidance",
        )  # fmt: skip
        c |= {name: own_control(TAB, field, info) for name, field in own.EDITED.items()}
        c |= parts.seed_row(TAB)
    c["model"] = gr.Dropdown(
        choices=sorted({*catalog, info.id}), value=info.id, label="Model", allow_custom_value=True,
        elem_id=f"{TAB}-model",
    )  # fmt: skip
    c["model_kind"] = gr.Dropdown(
        choices=kind_choices(info), value="auto", label="Kind", visible=len(info.kinds) > 1,
        info="What the model was made for, where its file does not say.", elem_id=f"{TAB}-model-kind",
    )  # fmt: skip
    c["about"] = parts.mount("about", TAB, value=about(info))
    with gr.Accordion("Schedule", open=False, elem_id=f"{TAB}-schedule"):
        for field in fields.fields():
            if field.setting.advanced:
                c[field.name] = inputs.control(TAB, field, visible="inpaint" in field.tools)
    return c
