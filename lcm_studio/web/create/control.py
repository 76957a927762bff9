"""The ControlNet block of the Create form: which one, its picture, what is made of it, and how it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlKind, ControlSpec
from lcm_studio.web.create import values as form

if TYPE_CHECKING:
    from lcm_studio.web.server.control_pictures import ControlPictures
    from lcm_studio.web.studio import Studio

NONE = "none"
START: dict[str, Any] = {
    "control": NONE, "control_picture": "", "control_kind": NONE, "control_strength": 1.0, "control_start": 0.0,
    "control_end": 1.0,
}  # fmt: skip
FIELDS = tuple(START)
PREVIEW = 512  # pixels of its longer side
TITLES = {
    "canny": "Edges (canny)",
    "scribble": "Scribble",
    "depth": "Depth",
    "none": "A map already",
}


def of_form(
    given: Mapping[str, Any], info: ModelInfo, pictures: ControlPictures | None
) -> ControlSpec | None:
    """The ControlNet of a form; None where none is chosen. Raises BadRequest with one sentence."""
    name = form.text(given, "control")
    if name in ("", NONE) or not info.takes_control or pictures is None:
        return None
    key = form.text(given, "control_picture")
    if not key:
        raise BadRequest("there is no control picture yet: open one, or choose none as ControlNet")
    kind: Any = form.text(given, "control_kind") or NONE
    return ControlSpec(
        path=pictures.allowed(name),
        image=pictures.find(key),
        kind=kind,
        strength=form.number(given, "control_strength", "Strength of the ControlNet"),
        start=form.number(given, "control_start", "Start of the ControlNet"),
        end=form.number(given, "control_end", "End of the ControlNet"),
    )


def of_settings(said: Mapping[str, Any]) -> dict[str, Any]:
    """Form values of a picture's settings; as at the start where it followed none."""
    control = said.get("control")
    if not isinstance(control, Mapping):
        return dict(START)
    kind = str(control.get("kind") or NONE)
    return {
        "control": str(control.get("path") or NONE),
        "control_picture": str(control.get("picture") or ""),
        "control_kind": kind if kind in TITLES else NONE,
        "control_strength": float(control.get("strength", 1.0)),
        "control_start": float(control.get("start", 0.0)),
        "control_end": float(control.get("end", 1.0)),
    }


def build(tab: str, info: ModelInfo, names: Sequence[str], *, free_paths: bool) -> dict[str, Any]:
    """A closed block, there for models that it fits."""
    import gradio as gr

    from lcm_studio.web import inputs

    c: dict[str, Any] = {}
    more = " Or enter its diffusers folder." if free_paths else ""
    block = gr.Accordion(
        "ControlNet", open=False, visible=shown(info, names, free_paths), elem_id=f"{tab}-control-block"
    )  # fmt: skip
    with block:
        c["control"] = gr.Dropdown(
            [NONE, *names], value=NONE, label="ControlNet", allow_custom_value=True, elem_id=f"{tab}-control",
            info=f"From the folder controlnets/ beside the models.{more}",
        )  # fmt: skip
        c["control_open"] = gr.UploadButton(
            "Open the picture that it follows", file_types=[".png", ".jpg", ".jpeg", ".webp"], type="filepath",
            size="sm", elem_id=f"{tab}-control-open", elem_classes="lcm-quiet",
        )  # fmt: skip
        c["control_picture"] = gr.Textbox(visible="hidden", elem_id=f"{tab}-control-picture")
        c["control_kind"] = gr.Radio(
            [(TITLES[kind], kind) for kind in get_args(ControlKind)], value=NONE, label="What is made of it",
            elem_id=f"{tab}-control-kind",
        )  # fmt: skip
        c["control_preview"] = gr.HTML(elem_id=f"{tab}-control-preview")
        c["control_strength"] = inputs.Slider(
            0, limits.MAX_CONTROL, value=1.0, step=0.05, label="Strength", elem_id=f"{tab}-control-strength",
            info="Each step that it holds takes half an evaluation more.",
        )  # fmt: skip
        with gr.Row():
            for name, label, value in (("start", "From", 0.0), ("end", "To", 1.0)):
                c[f"control_{name}"] = inputs.Slider(
                    0, 1, value=value, step=0.05, label=label, info="Share of the steps.",
                    elem_id=f"{tab}-control-{name}",
                )  # fmt: skip
    return c | {"control_block": block}


def shown(info: ModelInfo, names: Sequence[str], free_paths: bool) -> bool:
    """Whether the block has an effect on the model."""
    return info.takes_control and bool(names or free_paths)


def follow(
    info: ModelInfo, values: Mapping[str, Any], names: Sequence[str], free_paths: bool
) -> dict[str, Any]:
    """Updates of the block for a model; `values` are kept where given."""
    import gradio as gr

    chosen = str(values.get("control") or NONE)
    updates: dict[str, Any] = {
        "control_block": gr.update(visible=shown(info, names, free_paths)),
        "control": gr.update(choices=[NONE, *names], value=chosen),
    }
    updates |= {name: gr.update(value=values[name]) for name in FIELDS[1:] if name in values}
    return updates


def wire(studio: Studio, c: dict[str, Any]) -> None:
    """A picture that is opened is kept and shown as the ControlNet sees it; a ControlNet brings its kind."""
    from lcm_studio.models.controlnet import kind_by_name
    from lcm_studio.web import parts, views

    size = [c["width"], c["height"]]

    def take(path: str | None, kind: Any, width: Any, height: Any) -> dict[Any, Any]:
        from lcm_studio.images import read_image

        try:
            key = studio.controls.add(read_image(path or ""))
        except StudioError as error:
            return {c["note"]: views.note(str(error))}
        return {
            c["control_picture"]: key,
            c["control_preview"]: preview(studio, key, kind, width, height),
            c["note"]: views.note("The control picture is open.", "info"),
        }

    def choose(name: Any, key: Any, width: Any, height: Any) -> dict[Any, Any]:
        kind = kind_by_name(str(name or "").rstrip("/").rpartition("/")[2])
        return {
            c["control_kind"]: kind,
            c["control_preview"]: preview(studio, key, kind, width, height),
        }

    def look(key: Any, kind: Any, width: Any, height: Any) -> str:
        return preview(studio, key, kind, width, height)

    c["control_open"].upload(
        take, inputs=[c["control_open"], c["control_kind"], *size],
        outputs=[c["control_picture"], c["control_preview"], c["note"]], **parts.PRIVATE,
    )  # fmt: skip
    c["control"].input(
        choose, inputs=[c["control"], c["control_picture"], *size],
        outputs=[c["control_kind"], c["control_preview"]], trigger_mode="always_last", **parts.PRIVATE,
    )  # fmt: skip
    c["control_kind"].input(
        look, inputs=[c["control_picture"], c["control_kind"], *size], outputs=[c["control_preview"]],
        trigger_mode="always_last", **parts.PRIVATE,
    )  # fmt: skip


def preview(studio: Studio, key: Any, kind: Any, width: Any, height: Any) -> str:
    """HTML of what the ControlNet is shown; nothing where there is no picture."""
    from lcm_studio.images.control import control_image
    from lcm_studio.web.server.picture_store import jpeg

    if not isinstance(key, str) or not studio.controls.has(key):
        return ""
    sides = [
        side if isinstance(side, int) and limits.MIN_SIDE <= side <= limits.MAX_SIDE else 256
        for side in (width, height)
    ]
    chosen: Any = kind or NONE
    try:
        spec = ControlSpec(path=NONE, image=studio.controls.find(key), kind=chosen)
        pixels = control_image(spec, *sides)
    except StudioError:
        return ""
    return f'<img class="lcm-control" src="{jpeg(pixels, largest=PREVIEW)}" alt="What the ControlNet is shown">'
