"""The Edit tab's values as an Edit request. No Gradio here: listeners, Live sketch, the API and tests use it."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.edits import task_of
from lcm_studio.images import read_image
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Edit, Priority
from lcm_studio.web.create import own, steering_values
from lcm_studio.web.create import values as form
from lcm_studio.web.edit import fields

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels
    from lcm_studio.web.server.control_pictures import ControlPictures

# "kind" is what a Morph runs between; the model's kind has another name here
REQUEST = (
    "tool",
    "prompt",
    "steps",
    "guidance",
    *own.EDITED,
    "seed",
    "only_strokes",
    "model_kind",
)
MOST_UNDO = 20
KEPT_BYTES = 128 * 2**20
_sheets = itertools.count(1)
BLUR_BOUND = 1.2  # of 255: more is left where a blur is not fitted to the last level
ROUND_STROKES = 6  # pixels around strokes that may change with them


def names() -> tuple[str, ...]:
    """Every value of the form: the request's own, then the settings of all tasks."""
    return (*REQUEST, *steering_values.FIELDS, *fields.names())


@dataclass(frozen=True, kw_only=True, eq=False)
class Desk:
    """What one browser session works on; Gradio hands it from event to event.

    Two events at once both begin with the desk before them, and the last to end leaves its own: so the pictures lie on a
    pile that all desks of a session share, and none is lost.
    """

    picture: Pixels | None = None
    second: Pixels | None = None
    mask: Pixels | None = None
    sheet: int = (
        0  # the number of the picture on the canvas; each one that is put there gets its own
    )
    pile: Pile = field(default_factory=lambda: Pile())  # where undo and redo may go

    def show(self, picture: Pixels) -> Desk:
        """Another picture on the canvas, without a mask."""
        new = Sheet(number=next(_sheets), picture=picture)
        self.pile.put(new)
        return self._on(new)

    def cover(self, mask: Pixels) -> Desk:
        """An uploaded mask over the picture."""
        self.pile.cover(self.sheet, mask)
        return replace(self, mask=mask)

    def back_to(self, number: int) -> Desk:
        """The picture of that number, with its uploaded mask. Raises BadRequest where it is no longer kept."""
        return self._on(self.pile.find(number))

    def _on(self, one: Sheet) -> Desk:
        return replace(self, picture=one.picture, mask=one.mask, sheet=one.number)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """A picture that was on the canvas."""

    number: int
    picture: Pixels
    mask: Pixels | None = None


class Pile:
    """The pictures of one browser session, the newest last."""

    def __init__(self, sheets: tuple[Sheet, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._sheets = sheets

    def __deepcopy__(self, memo: object) -> Pile:
        return Pile(self._sheets)  # how Gradio makes a new session's state from the first value

    def put(self, sheet: Sheet) -> None:
        with self._lock:
            self._sheets = newest((*self._sheets, sheet))

    def cover(self, number: int, mask: Pixels) -> None:
        """An uploaded mask over the picture of that number."""
        with self._lock:
            self._sheets = tuple(
                replace(one, mask=mask) if one.number == number else one for one in self._sheets
            )

    def find(self, number: int) -> Sheet:
        """Raises BadRequest where it is no longer kept."""
        for one in self._sheets:
            if one.number == number:
                return one
        raise BadRequest("this picture is no longer kept; open it again")


def newest(sheets: tuple[Sheet, ...]) -> tuple[Sheet, ...]:
    """As many of the newest as MOST_UNDO and KEPT_BYTES allow, two at least."""
    size = 0
    kept: list[Sheet] = []
    for one in reversed(sheets):
        size += one.picture.nbytes
        if len(kept) >= MOST_UNDO or (len(kept) >= 2 and size > KEPT_BYTES):
            break
        kept.append(one)
    return tuple(reversed(kept))


def picture_of(data_url: str) -> Pixels:
    """The RGBA or RGB pixels of a `data:image/...;base64,` URL. Raises BadRequest for anything else."""
    return read_image(bytes_of(data_url), alpha="keep")


def bytes_of(data_url: str) -> bytes:
    """The file in a `data:image/...;base64,` URL. Raises BadRequest for anything else."""
    head, comma, body = data_url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise BadRequest("the canvas sent no picture; reload the page")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise BadRequest("the canvas sent a damaged picture; reload the page") from error


def alpha_of(pixels: Pixels, height: int, width: int) -> Pixels:
    """Where a transparent layer was painted on, brought to `(height, width)`: touched pixels are 255."""
    import cv2

    if pixels.shape[2] == 3:
        return np.full((height, width), 255, np.uint8)
    alpha = np.ascontiguousarray(pixels[..., 3])
    sized = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
    return np.where(sized > 32, 255, 0).astype(np.uint8)


def over(picture: Pixels, strokes: Pixels) -> Pixels:
    """Strokes (RGBA of any size) laid over a picture; its alpha stays."""
    import cv2

    height, width = picture.shape[:2]
    flat = strokes.astype(np.float32)
    flat[..., :3] *= flat[..., 3:] / 255
    sized = cv2.resize(flat, (width, height), interpolation=cv2.INTER_AREA)
    out = picture.copy()
    out[..., :3] = np.clip(
        np.rint(picture[..., :3] * (1 - sized[..., 3:] / 255) + sized[..., :3]), 0, 255
    )
    return out


def to_request(
    said: Mapping[str, Any],
    desk: Desk,
    painted: str,
    info: ModelInfo,
    *,
    count: int = 1,
    priority: Priority = "normal",
    pictures: ControlPictures | None = None,
) -> Edit:
    """The request of the tab. Raises BadRequest with one sentence. `pictures`: of what steers it (`create.steering_values`)."""
    task = task_of(str(said.get("tool")))
    tool = task.name
    layers = _layers(painted)
    if layers.get("sheet", desk.sheet) not in (0, desk.sheet):
        desk = desk.back_to(layers["sheet"])  # undo has shown it, and its message is on the way
    image, mask = desk.picture, desk.mask
    if image is None and tool == "interpolate" and said.get("kind") != "pictures":
        image = np.zeros((info.height, info.width, 3), np.uint8)
    if image is None:
        raise BadRequest("there is no picture yet: open one, or take an example")
    if (
        layers.get("mask") != "uploaded"
    ):  # the canvas shows the file as it is until somebody paints on it
        mask = None
        if layers.get("mask") and task.paints_mask:
            mask = alpha_of(picture_of(layers["mask"]), *image.shape[:2])
    if task.strokes and layers.get("strokes"):
        strokes = picture_of(layers["strokes"])
        if strokes.shape[2] == 4:
            if said.get("only_strokes"):
                mask = alpha_of(strokes, *image.shape[:2])
            image = over(image, strokes)
    return Edit(
        task=tool,
        image=image,
        image_b=desk.second if tool == "interpolate" else None,
        mask=mask if task.paints_mask or task.strokes else None,
        options=options(tool, said),
        prompt=form.text(said, "prompt"),
        steps=form.whole(said, "steps"),
        guidance=None
        if info.guidance == "none" or said.get("guidance") is None
        else form.number(said, "guidance"),
        **own.values_of(said, info, own.EDITED),
        seed=form.whole(said, "seed"),
        count=1 if tool == "interpolate" else count,
        model=info.id,
        kind=form.text(said, "model_kind") or "auto",
        **steered(tool, said, info, pictures),
        previews=priority == "normal",
        priority=priority,
    )


def steered(
    tool: str, said: Mapping[str, Any], info: ModelInfo, pictures: ControlPictures | None
) -> dict[str, Any]:
    """The fields `control` and `ip_adapter` of a request; without those that the tool does not have."""
    if not task_of(tool).takes_control:
        said = {**said, "control": steering_values.NONE}
    return steering_values.of_form(said, info, pictures, edits=True)


def guidance_of(tool: str, now: float | None, info: ModelInfo) -> float:
    """The guidance scale that the tool starts with; `now` where somebody has set that by hand."""
    usual = {info.guidance_for(), info.guidance_for("inpaint"), *dict(info.guidance_tasks).values()}
    return info.guidance_for(tool) if now is None or now in usual else now


def _layers(painted: str) -> dict[str, Any]:
    try:
        found = json.loads(painted) if painted else {}
    except ValueError as error:
        raise BadRequest("the canvas sent a damaged picture; reload the page") from error
    return found if isinstance(found, dict) else {}


def options(tool: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one tool, from a form that holds those of all."""
    out = fields.options(tool, said)
    if task_of(tool).strokes and said.get("only_strokes"):
        out.setdefault("grow", ROUND_STROKES)
    return out


def from_settings(said: object) -> dict[str, Any]:
    """Values of the tab's controls from an edit's settings. Raises BadRequest where they are no edit's."""
    if not isinstance(said, Mapping) or not isinstance(said.get("task"), str):
        raise BadRequest("these settings are no edit's; drop a PNG that an edit has written")
    tool = task_of(said["task"]).name
    given = said.get("options")
    known: dict[str, Any] = {"tool": tool, "randomize": False, "only_strokes": False}
    for name in ("prompt", "steps", "guidance", "seed"):
        if said.get(name) is not None:
            known[name] = said[name]
    try:
        known |= own.of_settings(said, own.EDITED)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest(f"these settings are no edit's: {error}") from error
    known["model_kind"] = str(said.get("kind") or "auto")
    known |= steering_values.of_settings(said)
    return known | fields.from_options(given if isinstance(given, Mapping) else {})


def read_out(fidelity: Mapping[str, Any], timing: Mapping[str, float], bound: float | None) -> str:
    """One line under a result: what was kept, how exactly, at what price."""
    words = []
    if fidelity.get("known") == "nothing":
        words.append("nothing was held fixed")
    if "kernel" in fidelity:
        found = "found: " if fidelity.get("kernel_estimated") else ""
        words.append(f"blur {found}{fidelity['kernel']}")
        words.append(
            f"blurred again, it differs from your picture by at most {fidelity['max_error']:.2g}/255"
        )
        if fidelity["max_error"] > BLUR_BOUND:
            words[-1] += " (Make it exact: always brings that to 1, where 8 bits can)"
    elif "max_error" in fidelity:
        error = round(fidelity["max_error"], 3)  # less is what float32 leaves of a mean of bytes
        words.append(f"known part kept: max error {error:.2g}/255")
        if bound is not None and fidelity["max_error"] > bound:
            words.append(f"more than {bound:g}: some of it lies outside what 8 bits can hold")
    if "residual_ratio" in fidelity:
        words.append(
            f"removed noise {fidelity['residual']:.3f}, {fidelity['residual_ratio']:.2f} of sigma"
        )
    seam = fidelity.get("seam")
    if isinstance(seam, float) and seam == seam:
        words.append(f"seam score {seam:.2f}")
    words.append(f"{timing.get('evaluations', 0):.0f} evaluations")
    words.append(f"{timing.get('total', 0.0):.2f} s")
    return " · ".join(words)
