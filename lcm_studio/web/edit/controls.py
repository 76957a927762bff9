"""The Edit tab's controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from lcm_studio.edits import TASKS
from lcm_studio.edits.task import METHODS
from lcm_studio.spec import limits
from lcm_studio.spec.models import ModelInfo
from lcm_studio.web import inputs, parts
from lcm_studio.web.create.controls import GUIDANCE, about
from lcm_studio.web.create.fit import fit as fit_values
from lcm_studio.web.create.fit import guidance_ends

TAB = "edit"
Controls = dict[str, Any]

MASKED = ("inpaint", "outpaint", "superres")
PICTURES = tuple(name for name in TASKS if name != "interpolate")
# Which controls belong to which tools; what does nothing for a tool is not there.
GROUPS: dict[str, tuple[str, ...]] = {
    "mask": MASKED,
    "second": ("interpolate",),
    "mask_group": ("inpaint", "outpaint", "sketch"),
    "invert": ("inpaint", "outpaint"),
    "only_strokes": ("sketch",),
    "border_group": ("outpaint",),
    "scale_group": ("superres",),
    "noise_group": ("denoise",),
    "blur_group": ("deblur",),
    "strength_group": ("sketch", "interpolate"),
    "live": ("sketch",),
    "path_group": ("interpolate",),
    "vary": PICTURES,
    "relax": ("colorize", "superres", "denoise", "deblur"),
}
HINTS = {
    "inpaint": "Paint over what should change.",
    "outpaint": "Add picture at the borders.",
    "colorize": "Give a grey picture colours.",
    "superres": "Make it 2, 4 or 8 times as large.",
    "denoise": "Take the noise out.",
    "deblur": "Undo a known blur.",
    "sketch": "Draw; the words turn it into a picture.",
    "interpolate": "Go from one picture to another.",
}
EDIT_STEPS = 16
BORDER = 512
SIDES = {"top": "above", "bottom": "below"}  # words that fit beside their number


def groups(c: Controls) -> list[Any]:
    """The components that `shown` updates."""
    return [*(c[name] for name in GROUPS), c["guidance"], c["prompt"]]


def shown(c: Controls, tool: str, info: ModelInfo) -> dict[Any, Any]:
    """Updates that leave the controls of one tool, and of the model's kind."""
    return {
        **{c[name]: gr.update(visible=tool in tools) for name, tools in GROUPS.items()},
        c["prompt"]: gr.update(visible=info.takes_prompt),
    }


def follow(c: Controls, tool: str, info: ModelInfo) -> dict[Any, Any]:
    """Updates of every control that goes by the model."""
    title, hint = GUIDANCE[info.guidance]
    low, high = guidance_range(info)
    return shown(c, tool, info) | {
        c["guidance"]: gr.update(
            minimum=low, maximum=high, value=min(max(info.guidance_for(tool), low), high), label=title,
            info=hint, visible=info.guidance != "none",
        ),
        c["model"]: gr.update(value=info.id),
        c["about"]: about(info),
    }  # fmt: skip


def guidance_range(info: ModelInfo) -> tuple[float, float]:
    """Wide enough for what each tool asks of the model."""
    low, high = guidance_ends(info)
    return low, max(high, *(scale for _, scale in info.guidance_tasks), high)


def fit(known: Mapping[str, Any], info: ModelInfo) -> tuple[dict[str, Any], list[str]]:
    """(form values that every control takes, sentences about those that were changed)."""
    out, notes = fit_values(known, info)
    ranges = {
        "steps": (1, EDIT_STEPS),
        "grow": (-64, 64),
        "feather": (0, 64),
        "strength": (0.05, 1.0),
        "frames": (2, 32),
    }
    ranges |= dict.fromkeys(("left", "right", "top", "bottom"), (0, BORDER))
    for name, (low, high) in ranges.items():
        value = out.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            out[name] = min(max(value, low), high)
            notes.append(f"{value:g} is out of range for {name}; {out[name]:g} is set.")
    return out, notes


def build_files(examples: Path) -> Controls:
    """Open a picture, a second one, a mask, a white sheet, or an example."""
    c: Controls = {"examples": []}
    kinds = [".png", ".jpg", ".jpeg", ".webp"]
    with gr.Row(elem_classes="lcm-files"):
        for name, text in (
            ("picture", "Open picture"),
            ("mask", "Upload mask"),
            ("second", "Second picture"),
        ):
            c[name] = gr.UploadButton(
                text,
                file_types=kinds,
                type="filepath",
                size="sm",
                elem_id=f"{TAB}-open-{name}",
                elem_classes="lcm-quiet",
                visible="inpaint" in GROUPS.get(name, ("inpaint",)),
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
    parts.mount("tools", TAB, value=HINTS, visible="hidden")
    c["prompt"] = gr.Textbox(
        label="Prompt", lines=2, max_lines=4, elem_id=f"{TAB}-prompt", visible=info.takes_prompt,
        max_length=limits.MAX_PROMPT, placeholder="What the picture should show",
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
    return c


def build_options(info: ModelInfo, catalog: Iterable[str]) -> Controls:
    """Each tool's own settings, sampling, and the schedule editor."""
    c: Controls = {}
    shown = {name: "inpaint" in tools for name, tools in GROUPS.items()}
    with gr.Group(visible=shown["mask_group"], elem_classes="lcm-card") as c["mask_group"]:
        with gr.Row():
            c["grow"] = inputs.Slider(-64, 64, value=0, step=1, label="Grow", elem_id=f"{TAB}-grow")
            c["feather"] = inputs.Slider(
                0, 64, value=0, step=1, label="Soft edge", elem_id=f"{TAB}-feather"
            )
        with gr.Row():
            c["invert"] = gr.Checkbox(
                label="Invert the mask", elem_id=f"{TAB}-invert", elem_classes="lcm-mini"
            )
            c["only_strokes"] = gr.Checkbox(
                label="Only my strokes",
                visible=False,
                elem_id=f"{TAB}-only-strokes",
                elem_classes="lcm-mini",
            )
    with gr.Group(visible=False, elem_classes="lcm-card") as c["border_group"]:
        for sides in (("left", "right"), ("top", "bottom")):
            with gr.Row():
                for side in sides:
                    c[side] = inputs.Slider(
                        0, BORDER, value=32 if side == "right" else 0, step=8, elem_id=f"{TAB}-{side}", min_width=120,
                        label=f"Add {SIDES.get(side, side)}",
                    )  # fmt: skip
    with gr.Row(visible=False, elem_classes="lcm-card") as c["scale_group"]:
        c["scale"] = gr.Radio(
            [("2 x", 2), ("4 x", 4), ("8 x", 8)], value=4, label="Enlarge", elem_id=f"{TAB}-scale",
            scale=3,
        )  # fmt: skip
        c["operator"] = gr.Dropdown(
            ["area", "bicubic", "blur:1.0"], value="area", label="It was shrunk by", allow_custom_value=True,
            elem_id=f"{TAB}-operator", scale=2, min_width=110,
        )  # fmt: skip
    with gr.Group(visible=False, elem_classes="lcm-card") as c["noise_group"]:
        c["sigma"] = gr.Textbox(
            value="auto", label="Noise, for pixels in 0 to 1, or auto", elem_id=f"{TAB}-sigma"
        )
    with gr.Group(visible=False, elem_classes="lcm-card") as c["blur_group"]:
        c["kernel"] = gr.Dropdown(
            ["gaussian:1.0", "gaussian:2.0", "gaussian:3.0", "motion:9,0", "motion:9,30"], value="gaussian:2.0",
            allow_custom_value=True, label="Blur to undo", info="gaussian:SIGMA or motion:LENGTH,ANGLE",
            elem_id=f"{TAB}-kernel",
        )  # fmt: skip
    with gr.Group(visible=False, elem_classes="lcm-card") as c["strength_group"]:
        c["strength"] = inputs.Slider(
            0.05, 1, value=0.6, step=0.05, label="Strength", info="How far it may leave the picture.",
            elem_id=f"{TAB}-strength",
        )  # fmt: skip
        c["live"] = gr.Checkbox(
            label="Live: follow my strokes",
            interactive=True,  # Gradio takes what is only an output for a display
            visible=False,
            elem_id=f"{TAB}-live",
            elem_classes="lcm-switch",
        )
    with gr.Group(visible=False, elem_classes="lcm-card") as c["path_group"]:
        with gr.Row():
            c["kind"] = gr.Radio(
                ["pictures", "prompts", "seeds"],
                value="pictures",
                label="Between",
                elem_id=f"{TAB}-kind",
            )
            c["path"] = gr.Radio(
                ["slerp", "linear"], value="slerp", label="Path", elem_id=f"{TAB}-path"
            )
        with gr.Row():
            c["frames"] = inputs.Slider(
                2, 32, value=9, step=1, label="Frames", elem_id=f"{TAB}-frames"
            )
            c["seed_b"] = gr.Textbox(label="Last seed", max_lines=1, elem_id=f"{TAB}-seed-b")
        c["prompt_b"] = gr.Textbox(
            label="Last prompt", elem_id=f"{TAB}-prompt-b", max_length=limits.MAX_PROMPT
        )
    c |= _sampling(info, catalog)
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
        c |= parts.seed_row(TAB)
    c["model"] = gr.Dropdown(
        choices=sorted({*catalog, info.id}), value=info.id, label="Model", allow_custom_value=True,
        elem_id=f"{TAB}-model",
    )  # fmt: skip
    c["about"] = parts.mount("about", TAB, value=about(info))
    with gr.Accordion("Schedule", open=False, elem_id=f"{TAB}-schedule"):
        c["levels"] = gr.Textbox(
            label="Noise levels",
            info="Falling, e.g. 2.5, 1, 0.4. Empty: the tool's own.",
            elem_id=f"{TAB}-levels",
        )
        c["method"] = gr.Dropdown(
            ["default", *METHODS], value="default", label="How the known part comes back",
            elem_id=f"{TAB}-method",
        )  # fmt: skip
        # texts, for an empty gr.Number turns into a 0 as soon as it is shown
        for name, label, words in (
            ("eta", "Fresh noise (eta)", "0 keeps the noise of the first level, 1 draws all of it anew. Empty: the tool's own."),
            ("noise_scale", "Noise put in", "Of what the network is told of, 0.1 to 1: less keeps more. Empty: the tool's own."),
            ("relax", "Over-relaxation (Colour to Deblur)", "How much farther each level's estimate goes from the start, 0 to 1: 0, 0, 0.3. Empty: the tool's own."),
            ("emphasis", "Prompt emphasis", "Extra weight of the prompt at the first level, 0 to 3. Empty: the model's own."),
        ):  # fmt: skip
            c[name] = gr.Textbox(
                label=label, info=words, max_lines=1, elem_id=f"{TAB}-{name.replace('_', '-')}",
                visible="inpaint" in GROUPS.get(name, ("inpaint",)),
            )  # fmt: skip
    return c
