"""A form's blocks for what steers a picture beside its words: a ControlNet and an IP-Adapter, and how they follow the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from lcm_studio.images import read_image
from lcm_studio.images.control import control_image
from lcm_studio.models.controlnet import kind_by_name
from lcm_studio.spec import limits
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlKind, ControlSpec
from lcm_studio.web import inputs, parts, views
from lcm_studio.web.create.offer import Offer, offer_of
from lcm_studio.web.create.steering_values import (
    BLOCKS,
    CONTROL,
    FIELDS,
    IP_ADAPTER,
    NONE,
    TITLES,
    Block,
    present,
)
from lcm_studio.web.server.picture_store import jpeg
from lcm_studio.web.studio import Studio

OWN = "Follow the picture on the canvas"
PREVIEW = 512  # pixels of its longer side
PREVIEWS = tuple(f"{block.name}_preview" for block in BLOCKS)


def build(tab: str, info: ModelInfo, offer: Offer, *, edits: bool = False) -> dict[str, Any]:
    """A closed block for each, there for models that it fits; that of the ControlNet in a `control_place` of its own.

    `edits`: of an edit, whose own picture a ControlNet follows where no other is opened.
    """
    # outside of what is hidden and shown: Gradio would show them with it
    c: dict[str, Any] = {
        f"{block.name}_picture": gr.Textbox(visible="hidden", elem_id=f"{tab}-{block.id}-picture")
        for block in BLOCKS
    }
    with gr.Column(elem_classes="lcm-place") as place:
        c |= _build(CONTROL, tab, info, offer, edits)
    c["control_place"] = place
    return c | _build(IP_ADAPTER, tab, info, offer, edits)


def _build(block: Block, tab: str, info: ModelInfo, offer: Offer, edits: bool) -> dict[str, Any]:
    c: dict[str, Any] = {}
    name, id_ = block.name, f"{tab}-{block.id}"
    names = names_of(block, offer)
    accordion = gr.Accordion(
        block.title, open=False, visible=shown(info, names, offer.free_paths), elem_id=f"{id_}-block"
    )  # fmt: skip
    with accordion:
        c[name] = gr.Dropdown(
            [NONE, *names], value=NONE, label=block.label, allow_custom_value=True, elem_id=id_,
            info=about(block, offer, edits=edits),
        )  # fmt: skip
        c[f"{name}_open"] = gr.UploadButton(
            block.picture, type="filepath",
            size="sm", elem_id=f"{id_}-open", elem_classes="lcm-quiet",
        )  # fmt: skip
        if edits and block is CONTROL:
            c[f"{name}_own"] = gr.Button(
                OWN, size="sm", visible=False, elem_id=f"{id_}-own", elem_classes="lcm-quiet"
            )
        if block.kinds:
            c[f"{name}_kind"] = gr.Radio(
                [(TITLES[kind], kind) for kind in get_args(ControlKind)], value=NONE, label="What is made of it",
                elem_id=f"{id_}-kind",
            )  # fmt: skip
        c[f"{name}_preview"] = parts.html(elem_id=f"{id_}-preview")
        c[f"{name}_strength"] = inputs.Slider(
            0, limits.MAX_CONTROL, value=1.0, step=0.05, label="Strength", elem_id=f"{id_}-strength",
            info=f"{block.cost} From and To are shares of the steps.",
        )  # fmt: skip
        with gr.Row():
            for part, label, value in (("start", "From", 0.0), ("end", "To", 1.0)):
                c[f"{name}_{part}"] = inputs.Slider(
                    0, 1, value=value, step=0.05, label=label,
                    elem_id=f"{id_}-{part}",
                )  # fmt: skip
    return c | {f"{name}_block": accordion}


def names_of(block: Block, offer: Offer) -> tuple[str, ...]:
    """What the studio's folders hold for the model."""
    return offer.controls if block is CONTROL else offer.ip_adapters


def about(block: Block, offer: Offer, *, edits: bool = False) -> str:
    """Where its files come from, in Markdown; with the folder's path on a page that this machine alone can reach."""
    there = names_of(block, offer)
    folder = (
        f"`{Path(offer.folder) / block.where}`"
        if offer.folder
        else f"{block.where} beside the models"
    )
    words = (
        f"From {folder}."
        if there
        else f"None for this model in {folder} yet: put {block.path} there."
    )
    if offer.free_paths:
        words += (
            f" Or enter {'its' if not there else 'another'} path."
            if offer.folder
            else f" Or enter {block.path}."
        )
    if edits and block is CONTROL:
        words += " It follows the picture on the canvas, or one that is opened here."
    return words


def listed(block: Block, offer: Offer, *, edits: bool = False) -> dict[str, Any]:
    """The update of a menu to what lies in the folders now; its choice stays."""
    update: dict[str, Any] = gr.update(
        choices=[NONE, *names_of(block, offer)], info=about(block, offer, edits=edits)
    )
    return update


def shown(info: ModelInfo, names: Sequence[str], free_paths: bool) -> bool:
    """Whether the block has an effect on the model."""
    return info.takes_control and bool(names or free_paths)


def follow(
    info: ModelInfo, values: Mapping[str, Any], offer: Offer, *, edits: bool = False
) -> dict[str, Any]:
    """Updates of the blocks for a model; `values` are kept where given. `edits`: as in `build`."""
    updates: dict[str, Any] = {}
    for block in BLOCKS:
        names = names_of(block, offer)
        chosen = str(values.get(block.name) or NONE)
        there = shown(info, names, offer.free_paths)
        updates[f"{block.name}_block"] = gr.update(visible=there)
        updates[block.name] = {
            **listed(block, offer, edits=edits),
            "value": chosen,
        }
    return updates | {
        name: gr.update(value=values[name])
        for name in FIELDS
        if name not in updates and name in values
    }


def followed(
    studio: Studio, info: ModelInfo, values: Mapping[str, Any], offer: Offer
) -> dict[str, Any]:
    """Updates of the blocks and their previews for values that come from a file or a kept form."""
    values = present(values, studio.controls)
    return follow(info, values, offer) | previews(studio, values)


def previews(studio: Studio, values: Mapping[str, Any]) -> dict[str, str]:
    """HTML of the pictures whose keys the values hold."""
    size = values.get("width"), values.get("height")
    return {
        f"{block.name}_preview": preview(
            studio, values.get(f"{block.name}_picture"), values.get(f"{block.name}_kind"), *size
        )
        for block in BLOCKS
    }


def wire(studio: Studio, c: dict[str, Any]) -> None:
    """A block that is opened lists what its folder holds then; a picture is kept and shown as it is taken; a ControlNet brings its kind."""
    for block in BLOCKS:
        c[f"{block.name}_block"].expand(
            lambda model, block=block: listed(
                block, offer_of(studio, str(model)), edits=f"{CONTROL.name}_own" in c
            ),
            inputs=[c["model"]], outputs=[c[block.name]], **parts.PRIVATE,
        )  # fmt: skip
        _wire(studio, c, block)


def _wire(studio: Studio, c: dict[str, Any], block: Block) -> None:
    picture, shows = c[f"{block.name}_picture"], c[f"{block.name}_preview"]
    size = [c["width"], c["height"]] if "width" in c else []
    kinds = [c[f"{block.name}_kind"]] if block.kinds else []

    def take(path: str | None, *more: Any) -> dict[Any, Any]:
        try:
            key = studio.controls.add(read_image(path or ""))
        except StudioError as error:
            return {c["note"]: views.note(str(error))}
        return {
            picture: key,
            shows: look(key, *more),
            c["note"]: views.note(f"The {block.short} picture is open.", "info"),
        }

    def look(key: Any, *more: Any) -> str:
        kind, *sides = more if block.kinds else (None, *more)
        return preview(studio, key, kind, *sides)

    def choose(name: Any, key: Any, *sides: Any) -> dict[Any, Any]:
        kind = kind_by_name(str(name or "").rstrip("/").rpartition("/")[2])
        return {kinds[0]: kind, shows: preview(studio, key, kind, *sides)}

    c[f"{block.name}_open"].upload(
        take, inputs=[c[f"{block.name}_open"], *kinds, *size], outputs=[picture, shows, c["note"]],
        **parts.PRIVATE,
    )  # fmt: skip
    if (own := c.get(f"{block.name}_own")) is not None:
        own.click(lambda: ("", ""), outputs=[picture, shows], **parts.PRIVATE)
        # a hidden box says so when its value comes from a file, or from before a reload
        picture.change(
            lambda key: gr.update(visible=bool(key)),
            inputs=[picture],
            outputs=[own],
            **parts.PRIVATE,
        )
    if not block.kinds:
        return
    c[block.name].input(
        choose, inputs=[c[block.name], picture, *size], outputs=[*kinds, shows],
        trigger_mode="always_last", **parts.PRIVATE,
    )  # fmt: skip
    kinds[0].input(
        look, inputs=[picture, *kinds, *size], outputs=[shows], trigger_mode="always_last",
        **parts.PRIVATE,
    )  # fmt: skip


def preview(studio: Studio, key: Any, kind: Any, width: Any = None, height: Any = None) -> str:
    """HTML of the picture that is kept by a key, and of a ControlNet's what is made of it; nothing where there is none.

    `kind`: None = the picture as it is.
    """
    if not isinstance(key, str) or not studio.controls.has(key):
        return ""
    try:
        pixels = studio.controls.find(key)
        if kind is not None:
            natural = (pixels.shape[1], pixels.shape[0])
            sides = [
                side if isinstance(side, int) and limits.MIN_SIDE <= side <= limits.MAX_SIDE else own
                for side, own in zip((width, height), natural, strict=True)
            ]  # fmt: skip
            chosen: Any = kind or NONE
            pixels = control_image(ControlSpec(path=NONE, image=pixels, kind=chosen), *sides)
    except StudioError:
        return ""
    words = "What the ControlNet is shown" if kind is not None else "The picture beside the words"
    return f'<img class="lcm-control" src="{jpeg(pixels, largest=PREVIEW)}" alt="{words}">'
