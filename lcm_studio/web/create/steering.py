"""Blocks of a form for what steers a picture beside its words, a ControlNet and an IP-Adapter: which, its picture, how it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlKind, ControlSpec, IPAdapterSpec
from lcm_studio.web.create import values as form

if TYPE_CHECKING:
    from lcm_studio.web.create.offer import Offer
    from lcm_studio.web.server.control_pictures import ControlPictures
    from lcm_studio.web.studio import Studio

NONE = "none"
OWN = "Follow the picture on the canvas"
PREVIEW = 512  # pixels of its longer side
TITLES = {
    "canny": "Edges (canny)",
    "scribble": "Scribble",
    "depth": "Depth",
    "none": "A map already",
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """`name`: of its first field; the others' names begin with it. `kinds`: whether something is made of its picture.

    `where`: the folder of its files, beside the models. `path`: what such a file is; it may be entered in place of a name. `cost`: what it costs.
    """

    name: str
    title: str
    kinds: bool
    where: str
    path: str
    picture: str
    cost: str

    @property
    def id(self) -> str:
        return self.name.replace("_", "-")

    @property
    def start(self) -> dict[str, Any]:
        """Form values where none is chosen."""
        kind = {f"{self.name}_kind": NONE} if self.kinds else {}
        holds = {"strength": 1.0, "start": 0.0, "end": 1.0}
        return {self.name: NONE, f"{self.name}_picture": "", **kind} | {
            f"{self.name}_{part}": value for part, value in holds.items()
        }


CONTROL = Block(
    name="control", title="ControlNet", kinds=True, where="controlnets/", path="its diffusers folder or .safetensors file",
    picture="Open the picture that it follows", cost="Each step that it holds takes half an evaluation more.",
)  # fmt: skip
IP_ADAPTER = Block(
    name="ip_adapter", title="IP-Adapter: a picture beside the words", kinds=False, where="ip_adapters/",
    path="its .safetensors file", picture="Open the picture", cost="The words alone decide at 0.",
)  # fmt: skip
BLOCKS = (CONTROL, IP_ADAPTER)
START: dict[str, Any] = CONTROL.start | IP_ADAPTER.start
FIELDS = tuple(START)
PREVIEWS = tuple(f"{block.name}_preview" for block in BLOCKS)


def of_form(
    given: Mapping[str, Any],
    info: ModelInfo,
    pictures: ControlPictures | None,
    *,
    edits: bool = False,
) -> dict[str, Any]:
    """The fields `control` and `ip_adapter` of a request. Raises BadRequest with one sentence.

    `edits`: of an edit, whose own picture a ControlNet follows where no other is opened.
    """
    out: dict[str, Any] = {}
    if not info.takes_control or pictures is None:
        return out
    for block in BLOCKS:
        name = form.text(given, block.name)
        if name in ("", NONE):
            continue
        key = form.text(given, f"{block.name}_picture")
        own = edits and block is CONTROL
        if not key and not own:
            raise BadRequest(
                f"there is no {_short(block)} picture yet: open one, or choose none as {_title(block)}"
            )
        hold: dict[str, Any] = {
            part: form.number(given, f"{block.name}_{part}", f"{part} of the {_title(block)}".capitalize())
            for part in ("strength", "start", "end")
        }  # fmt: skip
        image = pictures.find(key) if key else None
        path = pictures.allowed(name)
        if block is CONTROL:
            kind: Any = form.text(given, "control_kind") or NONE
            out[block.name] = ControlSpec(path=path, image=image, kind=kind, **hold)
        else:
            assert image is not None
            out[block.name] = IPAdapterSpec(path=path, image=image, **hold)
    return out


def _title(block: Block) -> str:
    return block.title.partition(":")[0]


def _short(block: Block) -> str:
    return "control" if block is CONTROL else _title(block)


def of_settings(said: Mapping[str, Any]) -> dict[str, Any]:
    """Form values of a picture's settings; as at the start where it followed none."""
    out = dict(START)
    for block in BLOCKS:
        told = said.get(block.name)
        if not isinstance(told, Mapping):
            continue
        out[block.name] = str(told.get("path") or NONE)
        out[f"{block.name}_picture"] = str(told.get("picture") or "")
        if block.kinds:
            kind = str(told.get("kind") or NONE)
            out[f"{block.name}_kind"] = kind if kind in TITLES else NONE
        for part, most in (("strength", limits.MAX_CONTROL), ("start", 1.0), ("end", 1.0)):
            value = told.get(part)
            if isinstance(value, int | float) and value == value:  # a slider takes nothing else
                out[f"{block.name}_{part}"] = min(max(float(value), 0.0), most)
    return out


def present(values: Mapping[str, Any], pictures: ControlPictures) -> dict[str, Any]:
    """`values` without the keys of pictures that are no longer kept."""
    keys = {f"{block.name}_picture" for block in BLOCKS} & values.keys()
    gone = {key: "" for key in keys if not pictures.has(str(values[key] or ""))}
    return {**values, **gone}


def missing(
    values: Mapping[str, Any], pictures: ControlPictures, *, edits: bool = False
) -> list[str]:
    """What is to be opened again: a sentence for each."""
    return [
        f"Open the {_short(block)} picture again."
        for block in BLOCKS
        if values[block.name] != NONE
        and (values[f"{block.name}_picture"] or not edits or block is not CONTROL)
        and not pictures.has(str(values[f"{block.name}_picture"] or ""))
    ]


def build(tab: str, info: ModelInfo, offer: Offer, *, edits: bool = False) -> dict[str, Any]:
    """A closed block for each, there for models that it fits; that of the ControlNet in a `control_place` of its own.

    `edits`: of an edit, whose own picture a ControlNet follows where no other is opened.
    """
    import gradio as gr

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
    import gradio as gr

    from lcm_studio.web import inputs

    c: dict[str, Any] = {}
    name, id_ = block.name, f"{tab}-{block.id}"
    names = names_of(block, offer)
    accordion = gr.Accordion(
        block.title, open=False, visible=shown(info, names, offer.free_paths), elem_id=f"{id_}-block"
    )  # fmt: skip
    with accordion:
        c[name] = gr.Dropdown(
            [NONE, *names], value=NONE, label=_title(block), allow_custom_value=True, elem_id=id_,
            info=about(block, offer, edits=edits),
        )  # fmt: skip
        c[f"{name}_open"] = gr.UploadButton(
            block.picture, file_types=[".png", ".jpg", ".jpeg", ".webp"], type="filepath",
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
        c[f"{name}_preview"] = gr.HTML(elem_id=f"{id_}-preview")
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
    import gradio as gr

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
    import gradio as gr

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
    from lcm_studio.web import parts
    from lcm_studio.web.create.offer import offer_of

    for block in BLOCKS:
        c[f"{block.name}_block"].expand(
            lambda model, block=block: listed(
                block, offer_of(studio, str(model)), edits=f"{CONTROL.name}_own" in c
            ),
            inputs=[c["model"]], outputs=[c[block.name]], **parts.PRIVATE,
        )  # fmt: skip
        _wire(studio, c, block)


def _wire(studio: Studio, c: dict[str, Any], block: Block) -> None:
    import gradio as gr

    from lcm_studio.models.controlnet import kind_by_name
    from lcm_studio.web import parts, views

    picture, shows = c[f"{block.name}_picture"], c[f"{block.name}_preview"]
    size = [c["width"], c["height"]] if "width" in c else []
    kinds = [c[f"{block.name}_kind"]] if block.kinds else []

    def take(path: str | None, *more: Any) -> dict[Any, Any]:
        from lcm_studio.images import read_image

        try:
            key = studio.controls.add(read_image(path or ""))
        except StudioError as error:
            return {c["note"]: views.note(str(error))}
        return {
            picture: key,
            shows: look(key, *more),
            c["note"]: views.note(f"The {_short(block)} picture is open.", "info"),
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
    from lcm_studio.images.control import control_image
    from lcm_studio.web.server.picture_store import jpeg

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
