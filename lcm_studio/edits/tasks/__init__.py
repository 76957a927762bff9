"""The tools by name: one file each, with its settings and its problem. A new task is a new file here and its row below."""

from __future__ import annotations

from lcm_studio.edits.task import EditTask
from lcm_studio.edits.tasks import (
    colorize,
    deblur,
    denoise,
    inpaint,
    morph,
    outpaint,
    sketch,
    superres,
)
from lcm_studio.spec.errors import BadRequest

TASKS: dict[str, EditTask] = {
    module.TASK.name: module.TASK
    for module in (inpaint, outpaint, colorize, superres, denoise, deblur, sketch, morph)
}


def task_of(name: str) -> EditTask:
    """The task of a name. Raises BadRequest for an unknown one, listing them."""
    if name not in TASKS:
        raise BadRequest(f"edit task {name!r} is unknown; use {', '.join(TASKS)}")
    return TASKS[name]
