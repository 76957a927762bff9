"""Everything that puts a picture on the canvas: files, examples, a white sheet, other tabs, undo, a reload; and restore."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from lcm_studio.edits import TASKS
from lcm_studio.edits.geometry import WHOLE_PIXELS
from lcm_studio.images import Gate, fitted, read_image
from lcm_studio.models.kinds.recognise import with_guided_steps
from lcm_studio.spec.errors import BadRequest, StudioError, TooLarge
from lcm_studio.web import parts, views
from lcm_studio.web.create import controls as create_form
from lcm_studio.web.create import steering_controls, steering_values
from lcm_studio.web.create.offer import offer_of
from lcm_studio.web.edit import controls as edit_controls
from lcm_studio.web.edit import values as edit_form
from lcm_studio.web.edit.controls import TAB, Controls
from lcm_studio.web.edit.values import Desk
from lcm_studio.web.server.picture_store import jpeg, png
from lcm_studio.web.studio import Studio

SHOWN_PIXELS = 16_000_000  # a picture of more is shown smaller: its PNG would be tens of megabytes
SHOWN_SIDE = 2048
OWN = Gate(max_bytes=2**30)  # the studio's own results, as PNG larger than an upload may be


def of_tool(tool: str) -> dict[str, Any]:
    """What the canvas knows of a tool: its name, and whether a mask is painted for it."""
    return {"tool": tool, "masks": TASKS[tool].paints_mask}


def sheet(now: Desk, tool: str) -> dict[str, Any]:
    """The canvas's value for a desk and a tool."""
    if now.picture is None:
        return of_tool(tool)
    height, width = now.picture.shape[:2]
    smaller = height * width > SHOWN_PIXELS
    # exact where it may be: Live, and a reload, send back what the canvas shows
    src = jpeg(now.picture, largest=SHOWN_SIDE) if smaller else png(now.picture)
    size = {"width": width, "height": height, "smaller": smaller}
    return of_tool(tool) | {"src": src, "id": str(now.sheet)} | size


def large(now: Desk) -> str:
    """What is said of a photo that the canvas shows smaller than it is; empty of others."""
    if now.picture is None or now.picture.shape[0] * now.picture.shape[1] <= SHOWN_PIXELS:
        return ""
    height, width = now.picture.shape[:2]
    return (
        f"The canvas shows this photo of {width} x {height} smaller; edits are made on all of it. "
        "It is too large for the browser to keep over a reload."
    )


def masked(now: Desk, tool: str) -> dict[str, Any]:
    """The canvas's value that shows an uploaded mask, white where the picture may change."""
    if now.mask is None:
        return sheet(now, tool)
    src = png(now.mask)
    return sheet(now, tool) | {"mask": {"id": str(hash(src)), "src": src}}


@dataclass(frozen=True)
class Refused:
    """A picture that was too large: to open as it is, the file or its bytes; for a tool, `most` pixels of the one on the canvas."""

    source: str | bytes | None = None
    most: int = 0


def refused(
    c: Controls, too_large: gr.State, error: TooLarge, source: str | bytes
) -> dict[Any, Any]:
    """What is said of a picture that is too large, with the button that opens it smaller."""
    return {
        c["note"]: views.note(str(error)),
        c["fit"]: gr.update(visible=True),
        too_large: Refused(source),
    }


def too_large_for(c: Controls, too_large: gr.State, tool: str, now: Desk) -> dict[Any, Any]:
    """The button that makes the picture on the canvas smaller, where it is too large for this tool alone."""
    picture, task = now.picture, TASKS.get(tool)
    over = picture is not None and picture.shape[0] * picture.shape[1] > WHOLE_PIXELS
    offered = over and task is not None and task.in_one_piece
    asked = Refused(most=WHOLE_PIXELS) if offered else Refused()
    return {c["fit"]: gr.update(visible=offered), too_large: asked}


def wire_files(c: Controls, desk: gr.State, canvas: gr.HTML, too_large: gr.State) -> None:
    """Opening a picture, a second one, a mask, an example; and a picture that is too large, smaller."""
    settled = {c["fit"]: gr.update(visible=False), too_large: Refused()}

    def opened(kind: str, path: str | None, now: Desk, tool: str) -> dict[Any, Any]:
        try:
            if path is None:
                raise BadRequest("no file arrived; choose it again")
            pixels = read_image(path, alpha="keep")
            if kind == "picture":
                now = now.show(pixels)
                note = {c["note"]: views.note(large(now), "info")}
                return {desk: now, canvas: sheet(now, tool)} | note | settled
            if kind == "second":
                words = "The second picture is there. Morph goes from the first to the second."
                return {desk: replace(now, second=pixels), c["note"]: views.note(words, "info")}
            if now.picture is None:
                raise BadRequest("open the picture first, then its mask")
            now = now.cover(np.ascontiguousarray(pixels[..., :3].max(axis=2)))
            words = "The mask is on the canvas: what is red may change."
            return {desk: now, canvas: masked(now, tool), c["note"]: views.note(words, "info")}
        except TooLarge as error:
            if kind != "picture":
                return {c["note"]: views.note(str(error))}
            return refused(c, too_large, error, str(path))
        except StudioError as error:
            return {c["note"]: views.note(str(error))}

    def smaller(asked: Refused, now: Desk, tool: str) -> dict[Any, Any]:
        try:
            if asked.source is not None:
                now = now.show(read_image(asked.source, alpha="keep", fit=True))
            elif asked.most and now.picture is not None:
                now = now.show(fitted(now.picture, Gate(max_pixels=asked.most)))
            else:
                raise BadRequest("no picture is waiting; open it again")
        except StudioError as error:
            return {c["note"]: views.note(str(error))} | settled
        assert now.picture is not None
        height, width = now.picture.shape[:2]
        words = f"It was made smaller, to {width} x {height}. {large(now)}".strip()
        note = {c["note"]: views.note(words, "info")}
        return {desk: now, canvas: sheet(now, tool)} | note | settled

    outputs = [desk, canvas, c["note"], c["fit"], too_large]
    c["fit"].click(smaller, inputs=[too_large, desk, c["tool"]], outputs=outputs, **parts.PRIVATE)
    for kind in ("picture", "second", "mask"):
        c[kind].upload(
            lambda path, now, tool, kind=kind: opened(kind, path, now, tool),
            inputs=[c[kind], desk, c["tool"]], outputs=outputs, **parts.PRIVATE,
        )  # fmt: skip
    for button, path in c["examples"]:
        button.click(
            lambda now, tool, path=path: opened("picture", str(path), now, tool),
            inputs=[desk, c["tool"]], outputs=outputs, **parts.PRIVATE,
        )  # fmt: skip


def wire_blank(studio: Studio, c: Controls, desk: gr.State, canvas: gr.HTML) -> None:
    """A white sheet of the model's size to draw on, with the tool for it."""

    def blank(now: Desk, guidance: float | None, model: str) -> dict[Any, Any]:
        info = create_form.known(studio, model)
        now = now.show(np.full((info.height, info.width, 3), 255, np.uint8))
        return {
            desk: now,
            canvas: sheet(now, "sketch"),
            c["tool"]: "sketch",
            c["guidance"]: edit_form.guidance_of("sketch", guidance, info),
            c["note"]: views.note("Draw on the white sheet; Live follows the hand.", "info"),
        } | edit_controls.shown(c, "sketch", info)

    outputs = [desk, canvas, c["tool"], *edit_controls.groups(c), c["guidance"], c["note"]]
    inputs = [desk, c["guidance"], c["model"]]
    c["blank"].click(blank, inputs=inputs, outputs=outputs, **parts.PRIVATE)


def wire_channels(
    studio: Studio, c: Controls, desk: gr.State, canvas: gr.HTML, too_large: gr.State
) -> None:
    """Pictures sent by the page's own scripts: from another tab or a result, dropped, undone, and after a reload."""
    outputs = [desk, canvas, c["prompt"], c["note"]]
    inputs = [desk, c["tool"]]

    def receive(data: Any, now: Desk, tool: str) -> dict[Any, Any]:
        """{id, settings}: a picture that the studio keeps; with its settings its prompt comes too."""
        try:
            picture = studio.pictures.find(str(data.get("id")))
            if picture is None:
                raise BadRequest("this picture is no longer kept; make it again from its settings")
            picture.written.result()
            pixels = read_image(picture.path, alpha="keep", gate=OWN)
        except (StudioError, AttributeError, OSError) as error:
            return {c["note"]: views.note(str(error))}
        now = now.show(pixels)
        updates = {desk: now, canvas: sheet(now, tool), c["note"]: views.note("")}
        settings = data.get("settings")
        if isinstance(settings, Mapping):
            return updates | {c["prompt"]: str(settings.get("prompt", ""))}
        words = " ".join(("The result is the picture now; choose any tool.", large(now))).strip()
        return updates | {c["note"]: views.note(words, "info")}

    def reopen(data: Any, now: Desk, tool: str) -> dict[Any, Any]:
        """{src, tool, name, again}: the pixels of a picture that the browser has; `again`: from before a reload."""
        try:
            if not isinstance(data, Mapping):
                raise BadRequest("the canvas sent no picture; open it again")
            now = now.show(edit_form.picture_of(str(data.get("src"))))
            tool = data["tool"] if data.get("tool") in TASKS else tool
        except TooLarge as error:
            return refused(c, too_large, error, edit_form.bytes_of(str(data["src"])))
        except StudioError as error:
            return {c["note"]: views.note(str(error))}
        words = f"{data['name']} is open." if data.get("name") else ""
        words = " ".join(part for part in (words, large(now)) if part)
        value = sheet(now, tool) | {"again": bool(data.get("again"))}
        settled = {c["fit"]: gr.update(visible=False), too_large: Refused()}
        return {desk: now, canvas: value, c["note"]: views.note(words, "info")} | settled

    def back(data: Any, now: Desk, tool: str) -> dict[Any, Any]:
        """{id}: undo or redo has put another picture on the canvas."""
        try:
            now = now.back_to(int(data["id"]))
        except (BadRequest, TypeError, KeyError, ValueError):
            return {c["note"]: views.note("This picture is no longer kept; open it again.")}
        return {desk: now, c["note"]: views.note("")}

    parts.on_receive(TAB, receive, inputs=inputs, outputs=outputs)
    more = [*outputs, c["fit"], too_large]
    parts.on_channel(f"reopen-{TAB}", reopen, inputs=inputs, outputs=more)
    parts.on_channel(f"sheet-{TAB}", back, inputs=inputs, outputs=outputs)


def wire_restore(studio: Studio, c: Controls, desk: gr.State, canvas: gr.HTML) -> None:
    """Settings from the history or a dropped PNG fill the tool and all of its controls."""
    names = [*edit_form.names(), "randomize"]

    def restore(settings: Any, now: Desk, model: str) -> dict[Any, Any]:
        try:
            known = edit_form.from_settings(settings)
            info = create_form.known(studio, model)
            known, notes = edit_controls.fit(known, info)
            notes += steering_values.missing(known, studio.controls, edits=True)
            known = steering_values.present(known, studio.controls)
        except BadRequest as error:
            return {c["note"]: views.note(str(error))}
        if now.picture is None:
            notes.append("Now open the picture that they are for.")
        words = " ".join(("Settings restored.", *notes))
        updates = edit_controls.shown(c, known["tool"], info)
        guided = with_guided_steps(info, known["guided_steps"])
        updates[c["guidance"]] = gr.update(visible=guided.guidance != "none")
        filled = {c[name]: known[name] for name in names if name in known}
        return {
            **with_values(updates, filled),
            **{c[name]: html for name, html in steering_controls.previews(studio, known).items()},
            canvas: of_tool(known["tool"]),
            c["note"]: views.note(
                words, "warning" if len(notes) > (now.picture is None) else "info"
            ),
        }

    shows = [c[name] for name in steering_controls.PREVIEWS]
    outputs = [*(c[name] for name in names), *shows, *edit_controls.groups(c), canvas, c["note"]]
    parts.on_channel(
        f"restore-{TAB}", restore, inputs=[desk, c["model"]], outputs=list(dict.fromkeys(outputs))
    )


def with_values(updates: Mapping[Any, Any], values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Updates that also set values; one that is there already keeps what else it says."""
    return {
        **updates,
        **{one: {**updates.get(one, gr.update()), "value": value} for one, value in values.items()},
    }


def wire_form(
    studio: Studio, c: Controls, kept: Mapping[str, Any], current: gr.State, canvas: gr.HTML
) -> None:
    """What the form held before a reload."""

    def again(values: Any) -> dict[Any, Any]:
        if not isinstance(values, Mapping) or values.get("tool") not in TASKS:
            return {c["note"]: views.note("")}
        info = create_form.known(studio, studio.options.model)
        with contextlib.suppress(StudioError):  # a model that is gone: the studio's own
            info = studio.engine.info(studio.allowed_model(str(values.get("model") or "")))
        tool = values["tool"]
        fitted, notes = edit_controls.fit({n: v for n, v in values.items() if v is not None}, info)
        offer = offer_of(studio, info.id)
        info = with_guided_steps(info, int(fitted.get("guided_steps") or 0))
        fitted = steering_values.present(fitted, studio.controls)
        filled = {
            component: fitted[name]
            for name, component in kept.items()
            if name in fitted and name != "model"
        }
        shows = {c[name]: html for name, html in steering_controls.previews(studio, fitted).items()}
        return (
            with_values(edit_controls.follow(c, tool, info, offer), filled)
            | shows
            | {
                canvas: of_tool(tool),
                current: info.id,
                c["note"]: views.note(" ".join(notes), "warning"),
            }
        )

    outputs = [*kept.values(), *edit_controls.groups(c), *edit_controls.of_model(c)]
    outputs += [*(c[name] for name in steering_controls.PREVIEWS), current, canvas, c["note"]]
    parts.on_channel(f"form-{TAB}", again, outputs=list(dict.fromkeys(outputs)))
