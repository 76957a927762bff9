"""What the Distil tab draws of a job: state, curves, filmstrip, log. Every text from files is escaped."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Sequence
from typing import Any

from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.progress import Point, Progress, duration, progress_of, samples_of
from lcm_studio.jobs.records import Job, State
from lcm_studio.web.distil.values import LABELS

_SHOWN = 24
_WORDS = {
    State.QUEUED: "waiting",
    State.STARTING: "starting",
    State.RUNNING: "running",
    State.STOPPING: "saving and stopping",
    State.SUCCEEDED: "finished",
    State.FAILED: "failed",
    State.CANCELLED: "stopped",
    State.INTERRUPTED: "interrupted",
}

LOOKING = '<div class="distil-empty"><p>Looking up the runs ...</p></div>'
EMPTY = (
    '<div class="distil-empty"><h2>No runs yet</h2><p>Choose pictures, a teacher and a preset, then start the run. '
    "A run goes on when this page is closed, and is found again when the studio restarts.</p></div>"
)


GONE = "The folder of this run is gone, with its model and pictures. Delete takes the run from the list."


def plain(sentence: str) -> str:
    """A board that has nothing to show but this."""
    return f'<div class="distil-empty"><p>{html.escape(sentence)}</p></div>'


def label(job: Job) -> str:
    """A job in the list."""
    return f"{job.name} · {_WORDS[job.state]} · {job.id}"


def head(job: Job, folder: JobFolder, ahead: int = 0) -> str:
    """State, message, numbers and progress bar."""
    progress = progress_of(folder)
    word = _WORDS[job.state]
    if job.state is State.QUEUED and ahead:
        word = f"waiting behind {ahead} on {job.device}"
    text = job.message if folder.path.is_dir() else GONE
    message = f'<p class="distil-message">{html.escape(text)}</p>' if text else ""
    share = 100 * min(1.0, progress.step / progress.steps) if progress.steps else 0
    if job.state is State.SUCCEEDED:
        share = 100
    skipped = f", {progress.bad_samples} pictures skipped" if progress.bad_samples else ""
    return (
        f'<div class="distil-head" data-state="{job.state.value}" data-job="{html.escape(job.id)}">'
        f"<header><h2>{html.escape(job.name)}</h2><span class='distil-badge'>{word}</span></header>"
        f'<p class="lcm-soft">{html.escape(LABELS.get(job.recipe, job.recipe))} on {html.escape(job.device)}'
        f", attempt {job.attempt}{_lasted(job)}{skipped}</p>{message}"
        f'<div class="distil-bar"><i style="width:{share:.1f}%"></i></div>{_numbers(progress, job)}</div>'
    )


def _lasted(job: Job) -> str:
    if not job.started:
        return ""
    return f", {duration((job.ended or time.time()) - job.started)}"


def _numbers(progress: Progress, job: Job) -> str:
    of = f" / {progress.steps}" if progress.steps else ""
    facts = [("Step", f"{progress.step}{of}" if progress.step else "-")]
    if progress.loss is not None:
        facts.append(("Loss", f"{progress.loss:.4g}"))
    if progress.lr is not None:
        facts.append(("Learning rate", f"{progress.lr:.3g}"))
    if progress.steps_per_s:
        facts.append(("Speed", f"{progress.steps_per_s:.3g} steps/s"))
    if progress.images_per_s:
        facts.append(("Pictures", f"{progress.images_per_s:.3g} /s"))
    if progress.eta and job.state in (State.RUNNING, State.STARTING):
        facts.append(("To go", duration(progress.eta)))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<dl class="distil-facts">{cells}</dl>'


def curves(runs: Sequence[tuple[Job, JobFolder]]) -> dict[str, Any]:
    """What static/curves.js draws: of each run its name and, as (step, value), its loss and learning rate."""
    names = [job.name for job, _ in runs]
    drawn = []
    for job, folder in runs:
        progress = progress_of(folder)
        name = job.name if names.count(job.name) == 1 else f"{job.name} · {job.id}"
        drawn.append(
            {"name": name, "loss": _finite(progress.losses), "lr": _finite(progress.rates)}
        )
    return {"runs": drawn}


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def strip(job: Job, folder: JobFolder, prompts: Sequence[str] = ()) -> str:
    """The validation pictures over time, newest last, the teacher's first; `prompts` of its columns, where the config names them."""
    samples = samples_of(folder)
    if not samples:
        return ""
    stride = max(1, -(-len(samples) // _SHOWN))
    shown = [*samples[::stride]]
    if shown[-1] != samples[-1]:
        shown.append(samples[-1])
    frames = []
    if (folder.samples / "teacher.png").is_file():
        frames.append(_frame(job, "teacher.png", "Teacher"))
    frames += [_frame(job, path.name, f"Step {step}") for step, path in shown]
    step, newest = shown[-1]
    last = len(frames) - 1
    return (
        '<section class="distil-strip"><h3>Validation pictures</h3>'
        '<p class="lcm-soft">The same prompts and seeds every time. The slider goes through the steps.</p>'
        f'<figure class="distil-large">{_image(job, newest.name, f"Step {step}")}<figcaption>Step {step}</figcaption></figure>'
        f'<input class="distil-slide" type="range" min="0" max="{last}" value="{last}" aria-label="Step of the large pictures" '
        f'aria-valuetext="Step {step}"><div class="distil-film">{"".join(frames)}</div>{_prompts(prompts)}</section>'
    )


def _prompts(prompts: Sequence[str]) -> str:
    if not prompts:
        return ""
    rows = "".join(f"<li>{html.escape(text)}</li>" for text in prompts)
    return f'<div class="distil-prompts"><p class="lcm-soft">The columns, from left to right:</p><ol>{rows}</ol></div>'


def _image(job: Job, name: str, words: str) -> str:
    return f'<img loading="lazy" src="{_url(job, name)}" alt="{words}">'


def _url(job: Job, name: str) -> str:
    return f"studio/jobs/{html.escape(job.id)}/samples/{html.escape(name)}"


def _frame(job: Job, name: str, words: str) -> str:
    return (
        f'<figure><a href="{_url(job, name)}" target="_blank">{_image(job, name, words)}</a>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def log(folder: JobFolder) -> str:
    """The end of the log."""
    tail = folder.log_tail(14)
    return f'<pre class="distil-log">{html.escape(tail)}</pre>' if tail else ""


def outcome(job: Job, folder: JobFolder) -> str:
    """What can be done with a finished job: download."""
    if job.state is not State.SUCCEEDED or not any(folder.output.glob("*")):
        return ""
    url = f"studio/jobs/{html.escape(job.id)}/output.zip"
    return f'<p class="distil-done"><a class="lcm-tool" href="{url}" download>Download the model (.zip)</a></p>'


def plan(text: str, ok: bool) -> str:
    """The trainer's plan, or why it refuses."""
    words = "The plan" if ok else "This cannot start"
    return f'<div class="distil-plan" data-ok="{int(ok)}"><h3>{words}</h3><pre>{html.escape(text)}</pre></div>'
