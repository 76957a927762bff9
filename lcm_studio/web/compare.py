"""The same request and seed at 1, 2, 4 and 8 steps, side by side with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lcm_studio.spec import events
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Request
from lcm_studio.web import views
from lcm_studio.web.studio import Studio
from lcm_studio.web.views import View

STEPS = (1, 2, 4, 8)


def compare(
    studio: Studio, make: Callable[[], Request], *, owner: Owner, tab: str, page: str = ""
) -> Iterator[View]:
    """Stage values; each column runs alone, so that its time is its own. Stop keeps the finished ones."""
    try:
        request = replace(make(), count=1, timesteps=None, previews=False)
        most = studio.engine.info(request.model).max_steps
        columns = tuple(steps for steps in STEPS if steps <= most)
        studio.engine.validate(request)
    except StudioError as error:
        yield views.message(str(error))
        return
    frames: list[View] = [{"label": words(steps), "note": "..."} for steps in columns]
    finished: list[View] = []
    last: View | None = None
    with studio.stops.under_way(owner.session, tab, page) as ticket:
        for i, steps in enumerate(columns):
            if ticket.stop.is_set():
                break
            yield side_by_side("running", frames, i, len(columns))
            for event in studio.engine.run(
                replace(request, steps=steps), cancelled=ticket.stop.is_set, owner=owner
            ):
                if isinstance(event, events.Loading | events.Queued | events.Failed):
                    yield studio.show(event, request, owner)
                if isinstance(event, events.Failed):
                    return
                if isinstance(event, events.Done):
                    last = views.done(studio.published(event), studio.album(owner))
                    frames[i] = last["frames"][0] | {
                        "label": words(steps), "note": views.seconds(float(event.timing.get("total", 0.0)))
                    }  # fmt: skip
                    finished.append(frames[i])
        yield ending(finished, len(columns), last)


def words(steps: int) -> str:
    return f"{steps} step{'s' * (steps > 1)}"


def side_by_side(phase: str, frames: list[View], done: int, total: int) -> View:
    progress = {"done": done, "total": total, "text": f"{done} of {total} done"}
    return {"phase": phase, "layout": "compare", "frames": list(frames), "progress": progress}


def ending(finished: list[View], total: int, last: View | None) -> View:
    """All columns, or those that were finished when Stop was pressed."""
    if len(finished) == total and last is not None:
        return {
            "phase": "done",
            "layout": "compare",
            "frames": finished,
            "settings": last["settings"],
            "seeds": last["seeds"],
        }
    return {
        "phase": "stopped",
        "layout": "compare",
        "frames": finished or None,
        "settings": last["settings"] if last else None,
        "message": {"kind": "info", "text": f"Stopped; {len(finished)} of {total} finished."},
    }
