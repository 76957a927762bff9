"""Zero-shot edits: an operator, a schedule and a finishing rule, run by the one multistep loop. No torch until one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcm_studio.edits.task import EditTask
from lcm_studio.edits.tasks import TASKS, task_of

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo
    from lcm_studio.spec.requests import Edit


def check(request: Edit, info: ModelInfo) -> tuple[str, ...]:
    """Warnings about an edit. Raises BadRequest for an unknown task or setting, a wrong picture or no mask."""
    from lcm_studio.edits.validate import check_edit

    return check_edit(request, info)


__all__ = ["TASKS", "EditTask", "check", "task_of"]
