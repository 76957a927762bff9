"""Form values of what steers a picture beside its words, a ControlNet and an IP-Adapter: which, its picture, how it holds.

From and to a request, and from a picture's settings. No Gradio here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlSpec, IPAdapterSpec
from lcm_studio.web.create import values as form

if TYPE_CHECKING:
    from lcm_studio.web.server.control_pictures import ControlPictures

NONE = "none"
TITLES = {
    "canny": "Edges (canny)",
    "scribble": "Scribble",
    "depth": "Depth",
    "none": "A map already",
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """`name`: of its first field; the others' names begin with it. `short`: what its picture is called after.

    `kinds`: whether something is made of its picture.

    `where`: the folder of its files, beside the models. `path`: what such a file is; it may be entered in place of a name. `cost`: what it costs.
    """

    name: str
    title: str
    short: str
    kinds: bool
    where: str
    path: str
    picture: str
    cost: str

    @property
    def id(self) -> str:
        return self.name.replace("_", "-")

    @property
    def label(self) -> str:
        """What it is called in a line."""
        return self.title.partition(":")[0]

    @property
    def start(self) -> dict[str, Any]:
        """Form values where none is chosen."""
        kind = {f"{self.name}_kind": NONE} if self.kinds else {}
        holds = {"strength": 1.0, "start": 0.0, "end": 1.0}
        return {self.name: NONE, f"{self.name}_picture": "", **kind} | {
            f"{self.name}_{part}": value for part, value in holds.items()
        }


CONTROL = Block(
    name="control", title="ControlNet", short="control", kinds=True, where="controlnets/", path="its diffusers folder or .safetensors file",
    picture="Open the picture that it follows", cost="Each step that it holds takes half an evaluation more.",
)  # fmt: skip
IP_ADAPTER = Block(
    name="ip_adapter", title="IP-Adapter: a picture beside the words", short="IP-Adapter", kinds=False, where="ip_adapters/",
    path="its .safetensors file", picture="Open the picture", cost="The words alone decide at 0.",
)  # fmt: skip
BLOCKS = (CONTROL, IP_ADAPTER)
START: dict[str, Any] = CONTROL.start | IP_ADAPTER.start
FIELDS = tuple(START)


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
                f"there is no {block.short} picture yet: open one, or choose none as {block.label}"
            )
        hold: dict[str, Any] = {
            part: form.number(given, f"{block.name}_{part}", f"{part} of the {block.label}".capitalize())
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
        f"Open the {block.short} picture again."
        for block in BLOCKS
        if values[block.name] != NONE
        and (values[f"{block.name}_picture"] or not edits or block is not CONTROL)
        and not pictures.has(str(values[f"{block.name}_picture"] or ""))
    ]
