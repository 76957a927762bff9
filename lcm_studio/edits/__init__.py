"""Zero-shot edits: an operator, a schedule and a finishing rule, run by the one multistep loop."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.check import check
from lcm_studio.edits.registry import TASKS, EditTask, task_of

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Outcome
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Ask
    from lcm_studio.spec.requests import Edit

MOST_ROWS = 16


def session(request: Edit, model: Model) -> Generator[Ask, Any, Outcome]:
    """An edit as a generator of asks: picture i is that of seed + i alone. Imports torch on the first step."""
    from lcm_studio.edits.run import edit_session

    seeds = tuple(request.seed + i for i in range(request.count))
    return (yield from edit_session(request, model, seeds, MOST_ROWS))


__all__ = ["TASKS", "EditTask", "check", "session", "task_of"]
