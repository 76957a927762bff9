"""Faults that end a run with a reason that the studio and the shell show."""

from __future__ import annotations

REASONS = ("oom", "disk", "nan", "data", "missing_weights", "config", "crash")


class TrainingFault(Exception):
    """Ends a run: `reason` is one of REASONS, the message says what happened and the remedy."""

    def __init__(self, reason: str, message: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason={reason!r} is none of {', '.join(REASONS)}")
        super().__init__(message)
        self.reason = reason
