"""What the Distil tab draws of a job: state, curves as SVG, filmstrip, log. Every text from files is escaped."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Sequence

from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.progress import Point, Progress, duration, progress_of, samples_of
from lcm_studio.jobs.records import Job, State
from lcm_studio.web.distil.values import LABELS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 170, 52, 22
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

EMPTY = (
    '<div class="distil-empty"><h2>No runs yet</h2><p>Choose pictures, a teacher and a preset on the right. '
    "A run goes on when this page is closed, and is found again when the studio restarts.</p></div>"
)


def plain(sentence: str) -> str:
    """A board that has nothing to show but this."""
    return f'<div class="distil-empty"><p>{html.escape(sentence)}</p></div>'


def label(job: Job) -> str:
    """A job in the list."""
    return f"{job.name} · {_WORDS[job.state]} · {job.id}"


def head(
    job: Job, folder: JobFolder, ahead: int = 0, beside: tuple[str, JobFolder] | None = None
) -> str:
    """State, message, numbers, progress bar and the curves; `beside`: the name and folder of a run that is drawn with it."""
    progress = progress_of(folder)
    other = None if beside is None else progress_of(beside[1])
    losses, rates = ((), ()) if other is None else (other.losses, other.rates)
    legend = "" if beside is None else _legend(job.name, beside[0])
    word = _WORDS[job.state]
    if job.state is State.QUEUED and ahead:
        word = f"waiting behind {ahead} on {job.device}"
    message = f'<p class="distil-message">{html.escape(job.message)}</p>' if job.message else ""
    share = 100 * min(1.0, progress.step / progress.steps) if progress.steps else 0
    if job.state is State.SUCCEEDED:
        share = 100
    skipped = f", {progress.bad_samples} pictures skipped" if progress.bad_samples else ""
    return (
        f'<div class="distil-head" data-state="{job.state.value}" data-job="{html.escape(job.id)}">'
        f"<header><h2>{html.escape(job.name)}</h2><span class='distil-badge'>{word}</span></header>"
        f'<p class="lcm-soft">{html.escape(LABELS.get(job.recipe, job.recipe))} on {html.escape(job.device)}'
        f", attempt {job.attempt}{_lasted(job)}{skipped}</p>{message}"
        f'<div class="distil-bar"><i style="width:{share:.1f}%"></i></div>{_numbers(progress, job)}'
        f'{legend}<div class="distil-curves">{curve("Loss", progress.losses, losses, log=True)}'
        f"{curve('Learning rate', progress.rates, rates)}</div></div>"
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


def _legend(name: str, beside: str) -> str:
    return f'<p class="distil-legend"><i></i>{html.escape(name)}<i class="beside"></i>{html.escape(beside)}</p>'


def curve(
    title: str, points: Sequence[Point], beside: Sequence[Point] = (), *, log: bool = False
) -> str:
    """A line over steps as inline SVG, and that of a run `beside` it on the same axes.

    `log` scales the values when they span more than a decade.
    """
    lines = [[(s, v) for s, v in line if math.isfinite(v)] for line in (points, beside)]
    lines = [line if len(line) > 1 else [] for line in lines]
    known = [point for line in lines for point in line]
    if not known:
        return ""
    values = [v for _, v in known]
    log = log and min(values) > 0 and max(values) / min(values) > 8
    scale = math.log10 if log else float
    low, high = scale(min(values)), scale(max(values))
    span = (high - low) or 1.0
    first, last = min(s for s, _ in known), max(s for s, _ in known)

    def place(step: float, value: float) -> str:
        x = _LEFT + (step - first) / max(1, last - first) * (_WIDTH - _LEFT - 8)
        y = 10 + (high - scale(value)) / span * (_HEIGHT - _BOTTOM - 14)
        return f"{x:.1f},{y:.1f}"

    drawn = "".join(
        f'<polyline{kind} points="{" ".join(place(s, v) for s, v in line)}"/>'
        for line, kind in zip(lines, ("", ' class="beside"'), strict=True)
        if line
    )
    marks = [(max(values), "top"), (min(values), "bottom")]
    texts = "".join(
        f'<text x="{_LEFT - 8}" y="{14 if where == "top" else _HEIGHT - _BOTTOM - 2}" text-anchor="end">{v:.2g}</text>'
        for v, where in marks
    )
    scale_word = ", log scale" if log else ""
    return (
        f'<figure class="distil-curve"><figcaption>{title}{scale_word}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} over steps {first} to {last}">'
        f'<path class="axis" d="M{_LEFT} 6V{_HEIGHT - _BOTTOM}H{_WIDTH - 8}"/>{texts}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{first}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">step {last}</text>'
        f"{drawn}</svg></figure>"
    )


def strip(job: Job, folder: JobFolder) -> str:
    """The validation pictures over time, newest last, the teacher's first."""
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
        f'aria-valuetext="Step {step}"><div class="distil-film">{"".join(frames)}</div></section>'
    )


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
    if job.state is not State.SUCCEEDED or not any(folder.output.iterdir()):
        return ""
    url = f"studio/jobs/{html.escape(job.id)}/output.zip"
    return f'<p class="distil-done"><a class="lcm-tool" href="{url}" download>Download the model (.zip)</a></p>'


def plan(text: str, ok: bool) -> str:
    """The trainer's plan, or why it refuses."""
    words = "The plan" if ok else "This cannot start"
    return f'<div class="distil-plan" data-ok="{int(ok)}"><h3>{words}</h3><pre>{html.escape(text)}</pre></div>'
