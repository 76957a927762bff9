"""One job, one folder: what lies in it, and how the studio and a running trainer talk through it.

`python -m training RECIPE --config FOLDER/job.yaml --output FOLDER [--resume]` is handed the job's folder:

    job.yaml        the whole validated config; written by the studio, read by the trainer
    log.txt         standard output and error of every attempt
    events.jsonl    one JSON object a line, appended by the trainer: {"event": "step", "step": 10, ...}
    result.json     written last by the trainer: {"state": "succeeded" | "failed" | "stopped",
                    "reason": oom | disk | nan | data | missing_weights | config | crash, "message": "..."}
    samples/        validation pictures, `step-000200.png` ...
    checkpoints/    what --resume goes on from
    output/         the finished diffusers folder
    control/        requests to a running trainer, one empty file each: `save`, `sample`; the trainer
                    looks at every step, removes the file and does it. Stopping is SIGTERM: save, then exit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Request = Literal["save", "sample"]
REQUESTS: tuple[Request, ...] = ("save", "sample")
_TAIL = 64 * 1024


@dataclass(frozen=True)
class JobFolder:
    """The paths of one job below `path`; nothing is created before `create()`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "job.yaml"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def output(self) -> Path:
        return self.path / "output"

    @property
    def control(self) -> Path:
        return self.path / "control"

    def create(self) -> None:
        """The folder with its sub-folders, private to this user, or nothing; FileExistsError where it is there."""
        self.path.mkdir(parents=True, exist_ok=False, mode=0o700)
        try:
            for part in (self.samples, self.checkpoints, self.output, self.control):
                part.mkdir()
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def ask(self, request: Request) -> None:
        """Leaves a request for the running trainer."""
        if request not in REQUESTS:
            raise ValueError(f"request={request!r} is none of {', '.join(REQUESTS)}")
        self.control.mkdir(exist_ok=True)
        (self.control / request).touch()

    def clear_requests(self) -> None:
        """Forgets requests that no trainer took; called before an attempt starts."""
        for request in REQUESTS:
            (self.control / request).unlink(missing_ok=True)

    def read_result(self) -> Mapping[str, Any] | None:
        """What the trainer said when it ended, or None when it did not get to say anything."""
        try:
            said = json.loads(self.result.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return said if isinstance(said, dict) else None

    def read_events(self) -> Iterator[dict[str, Any]]:
        """The events so far; a last line that is still being written is left out."""
        try:
            text = self.events.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event

    def has_checkpoint(self) -> bool:
        """Whether there is anything to resume from; the trainer decides whether it is valid."""
        return self.checkpoints.is_dir() and any(
            child.is_dir() and not child.name.startswith((".", "tmp"))
            for child in self.checkpoints.iterdir()
        )

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log, read from the end."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, 2)
                log.seek(max(0, size - _TAIL))
                text = log.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.replace("\r", "\n").splitlines()[-lines:])
