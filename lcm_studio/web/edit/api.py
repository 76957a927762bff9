"""Named endpoints /edit_inpaint ... /edit_interpolate for ``gradio_client``::

    client.predict(handle_file("a.png"), mask=handle_file("m.png"), prompt="...", api_name="/edit_inpaint")

They return (files, fidelity, settings); fidelity has a `note` where the model knows no such pictures. control, ip_adapter and their
pictures are as in `/generate`; without control_image a ControlNet follows the edited picture. A task's settings are parameters of their own (scale=4), or `options`, e.g. {"scale": 4}.
"""

# No `from __future__ import annotations`: Gradio reads the endpoint's types from real annotations.

from collections.abc import Callable
from typing import Any

import gradio as gr

from lcm_studio.edits import TASKS
from lcm_studio.engine.likeness import words_on
from lcm_studio.images import read_image
from lcm_studio.spec.errors import BadImage, StudioError
from lcm_studio.spec.requests import Edit, Sampling
from lcm_studio.spec.schema import settings_of
from lcm_studio.web.create import api
from lcm_studio.web.create import values as form
from lcm_studio.web.studio import Studio


def add_endpoints(studio: Studio) -> None:
    """One endpoint a task; called inside the page's Blocks."""
    for task in TASKS:
        gr.api(endpoint(studio, task), api_name=f"edit_{task}", concurrency_limit=None)


def endpoint(studio: Studio, task: str) -> Callable[..., Any]:
    """`/edit_TASK`: the request's own parameters, then one per setting of the task."""
    own = settings_of(TASKS[task].settings)

    def edit(
        image: gr.FileData,  # type: ignore[name-defined]
        mask: gr.FileData | None = None,  # type: ignore[name-defined]
        image_b: gr.FileData | None = None,  # type: ignore[name-defined]
        prompt: str = "",
        options: dict | None = None,
        steps: int = 4,
        guidance: float | None = None,
        seed: int | None = None,
        count: int = 1,
        model: str = "",
        *rest: Any,
    ) -> tuple[list[dict], dict, dict]:
        """Edited pictures as PNG files, how exactly the known part was kept, and the settings."""
        *values, request = rest
        mine, steered, shared = (values[part] for part in parts)
        control, control_image, ip_adapter, ip_adapter_image = steered
        named = {s.name: v for s, v in zip(own, mine, strict=True) if v is not None}
        try:
            grey = None if mask is None else opened(mask)[..., :3].max(axis=2)
            wanted = Edit(
                **api.given(further, shared),
                task=task,
                image=opened(image),
                image_b=None if image_b is None else opened(image_b),
                mask=grey,
                options={**(options or {}), **named},
                prompt=prompt,
                steps=steps,
                guidance=guidance,
                seed=form.new_seed() if seed is None else seed,
                count=count,
                model=studio.allowed_model(model),
                control=api.control_spec(studio, control, control_image, edits=True),
                ip_adapter=api.ip_adapter_spec(studio, ip_adapter, ip_adapter_image),
            )
            done = api.finish(studio, wanted, request)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from error
        note = words_on(studio.engine, done.images[0], wanted.model)
        fidelity = dict(done.fidelity) | ({"note": note} if note else {})
        return api.files(studio, done, request), fidelity, api.plain(done.settings)

    edit.__name__ = f"edit_{task}"
    names = {setting.name for setting in own}
    beside = [setting for setting in settings_of(Sampling) if setting.name not in names]
    further = api.settings_beside(edit, beside)
    last = len(own) + len(STEERING)
    parts = slice(len(own)), slice(len(own), last), slice(last, None)
    api.describe(edit, api.types_of(own) | STEERING | api.types_of(further))
    return edit


STEERING: dict[str, Any] = {
    "control": dict | None,
    "control_image": gr.FileData | None,  # type: ignore[attr-defined]
    "ip_adapter": dict | None,
    "ip_adapter_image": gr.FileData | None,  # type: ignore[attr-defined]
}


def opened(file: Any) -> Any:
    """The pixels of an uploaded file. Raises BadImage where there is none."""
    path = file.get("path") if isinstance(file, dict) else getattr(file, "path", None)
    if not path:
        raise BadImage("no picture arrived; send it with handle_file(...)")
    return read_image(path, alpha="keep")
