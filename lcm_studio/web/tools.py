"""Tools for other programs' language models, by Gradio's own MCP server (`--mcp`).

They are a Blocks of their own under /mcp, which the guard opens to one bearer token. A picture goes in as base64, or by
the id of one that was made here: nothing is read from a path or fetched from an address.
"""

# No `from __future__ import annotations`: Gradio reads a tool's types from real annotations.

import base64
import binascii
from dataclasses import asdict
from typing import Any

import gradio as gr

from lcm_studio.edits import TASKS
from lcm_studio.images import read_image
from lcm_studio.jobs.progress import progress_of, sentence
from lcm_studio.spec import events
from lcm_studio.spec.errors import BadImage, BadRequest, StudioError
from lcm_studio.spec.requests import Edit, Generate
from lcm_studio.web import views
from lcm_studio.web.create import values as form
from lcm_studio.web.create.api import finish
from lcm_studio.web.distil.watch import jobs
from lcm_studio.web.studio import Studio

MOST_JOBS = 50


def build_tools(studio: Studio) -> gr.Blocks:
    """A page without a page: `generate`, `edit`, `edit_tasks`, `models`, `job_status`."""

    def generate(
        prompt: str = "",
        negative: str = "",
        steps: int = 4,
        guidance: float | None = None,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        model: str = "",
    ) -> tuple[dict, dict]:
        """Makes one picture from a prompt. Returns the picture, and its id with the settings that make it again.

        Args:
            prompt: what to draw; `models` lists the words that a model knows.
            negative: what to avoid (models with classifier-free guidance).
            steps: network evaluations, 1 to 8 for consistency models.
            guidance: guidance scale; the model's default where it is left out.
            seed: the same seed gives the same picture; a fresh one where it is left out.
            width: pixels; the model's own where it is left out.
            height: pixels; the model's own where it is left out.
            model: one of `models`; the studio's own where it is left out.
        """
        request = Generate(
            prompt=prompt,
            negative=negative,
            steps=steps,
            guidance=guidance,
            seed=form.new_seed() if seed is None else seed,
            width=width,
            height=height,
            model=offered(studio, model),
        )
        return show(studio, finish(studio, request, None))

    def edit(
        task: str,
        picture: str,
        mask: str = "",
        second: str = "",
        prompt: str = "",
        options: dict | None = None,
        steps: int = 4,
        guidance: float | None = None,
        seed: int | None = None,
        model: str = "",
    ) -> tuple[dict, dict]:
        """Edits a picture; what the task knows of it is kept. Returns the picture, its id, and how exactly that was kept.

        Args:
            task: one of `edit_tasks`.
            picture: the id of a picture made here, or a PNG, JPEG or WebP file as base64.
            mask: for a task that needs one: a picture as above, white where the picture may change.
            second: for interpolation: the other picture, as above.
            prompt: what the picture shows afterwards.
            options: the task's own options, e.g. {"scale": 4}.
            steps: network evaluations.
            guidance: guidance scale; the model's default where it is left out.
            seed: the same seed gives the same picture; a fresh one where it is left out.
            model: one of `models`; the studio's own where it is left out.
        """
        request = Edit(
            task=task,
            image=opened(studio, picture, "picture"),
            mask=opened(studio, mask, "mask")[..., :3].max(axis=2) if mask else None,
            image_b=opened(studio, second, "second") if second else None,
            options=options or {},
            prompt=prompt,
            steps=steps,
            guidance=guidance,
            seed=form.new_seed() if seed is None else seed,
            model=offered(studio, model),
        )
        return show(studio, finish(studio, request, None))

    def edit_tasks() -> dict:
        """The tasks of `edit`: what each keeps of the picture, what it needs beside it, and its options."""
        return {
            name: {
                "title": task.title,
                "keeps": task.known,
                "needs": list(task.needs),
                "options": list(task.options),
            }
            for name, task in TASKS.items()
        }

    def models() -> list[dict]:
        """The models that are offered: sizes, guidance scales, and the words that they were trained on."""
        names = (
            "id", "kind", "width", "height", "guidance", "guidance_default", "guidance_range",
            "steps_default", "max_steps", "takes_prompt", "takes_negative", "classes", "note",
        )  # fmt: skip
        return [
            {name: asdict(info)[name] for name in names}
            | {"vocabulary": {group: list(words) for group, words in info.vocabulary}}
            for info in studio.engine.catalog()
        ]

    def job_status(job: str = "") -> list[dict]:
        """Distillation jobs, the newest first: state and progress.

        Args:
            job: the id of one job; all of them where it is left out.
        """
        service = jobs()
        wanted = (service.get(job),) if job else tuple(reversed(service.list()))[:MOST_JOBS]
        return [
            {
                "id": one.id,
                "name": one.name,
                "recipe": one.recipe,
                "state": one.state.value,
                "message": one.message,
                "progress": sentence(progress_of(service.folder(one.id))),
            }
            for one in wanted
        ]

    with gr.Blocks(title="LCM Studio", analytics_enabled=False) as tools:
        for tool in (generate, edit, edit_tasks, models, job_status):
            gr.api(sentences(tool), api_name=tool.__name__, queue=False)
    return tools


def sentences(tool: Any) -> Any:
    """`tool` whose errors are one sentence for the client, and no traceback."""
    from functools import wraps

    @wraps(tool)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return tool(*args, **kwargs)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return checked


def offered(studio: Studio, model: str) -> str:
    """A model of the catalog, or the studio's own; never a path. Raises BadRequest."""
    wanted = model.strip() or studio.options.model
    names = [info.id for info in studio.engine.catalog()]
    if wanted != studio.options.model and wanted not in names:
        raise BadRequest(f"model {wanted[:80]!r} is not offered; choose one of {', '.join(names)}")
    return wanted


def opened(studio: Studio, text: str, name: str) -> Any:
    """The pixels of a picture made here, by id, or of a file in base64. Raises BadImage."""
    known = studio.pictures.find(text)
    if known is not None:
        known.written.result()
        return read_image(known.path, alpha="keep")
    _, _, code = text.rpartition(";base64,") if text.startswith("data:") else ("", "", text)
    try:
        raw = base64.b64decode("".join(code.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage(
            f"{name}: it is neither the id of a picture made here nor a file in base64; "
            "paths and addresses are not read"
        ) from error
    return read_image(raw, alpha="keep")


def show(studio: Studio, done: events.Done) -> tuple[dict, dict]:
    """The picture (of a sequence, its middle) as Gradio hands it on, and what was made."""
    pictures = [
        studio.pictures.add(pixels, views.alone(done.settings, seed))
        for pixels, seed in zip(done.images, done.seeds, strict=True)
    ]
    shown = pictures[len(pictures) // 2]
    shown.written.result()
    file = {
        "path": str(shown.path),
        "url": shown.url,
        "orig_name": f"{shown.id}.png",
        "mime_type": "image/png",
        "meta": {"_type": "gradio.FileData"},
    }
    made = {
        "picture": shown.id,
        "pictures": [picture.id for picture in pictures],
        "settings": dict(done.settings),
        "fidelity": dict(done.fidelity),
        "warnings": list(done.warnings),
    }
    return file, made
