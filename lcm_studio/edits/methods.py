"""Which way projected pixels come back into latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcm_studio.edits.problem import Method

if TYPE_CHECKING:
    from lcm_studio.edits.schedule import EditSchedule
    from lcm_studio.edits.task import EditSettings

# from so many levels on, one more encoding is within a twentieth of N predictions, decodings and encodings
ONCE = 7


def method_of(
    settings: EditSettings, schedule: EditSchedule, default: Method | None = None
) -> Method:
    """The user's way back into latents; else `default`; else the best that encodes about once a level."""
    ways: dict[str | None, Method] = {
        "once": "once",
        "plain": "plain",
        "latent": "latent",
        "replace": "replace",
    }
    by_count: Method = "once" if len(schedule.levels) >= ONCE else "plain"
    return ways.get(settings.method, default or by_count)
