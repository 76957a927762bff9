"""Student and teacher side by side: the same prompts and seeds at 1, 2, 4 and 8 steps, with times.

When the pictures are rendered scenes, distances and agreement come from the trainer's own evaluation, run as a
process of its own with a fixed command line; its result is kept in the job's folder.
"""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.data.listing import list_folder
from lcm_studio.jobs.config import environment, project_root
from lcm_studio.spec import events
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Generate
from lcm_studio.web.distil.watch import Viewer, jobs
from lcm_studio.web.server.picture_store import jpeg

if TYPE_CHECKING:
    from lcm_studio.web.studio import Studio

STEPS = (1, 2, 4, 8)
_COUNT = 96
_REFERENCE = 1000
_ROWS = ("real scenes", *(f"{name}-{n}" for name in ("LCM", "DDIM") for n in STEPS))
_SECONDS = 1800
_GUIDANCE = 2.0


def compare(studio: Studio, job_id: str, *, owner: Owner, viewer: Viewer) -> Iterator[str]:
    """HTML of the comparison as it grows."""
    try:
        service = jobs()
        viewer.job(job_id)
        folder, config = service.folder(job_id), service.config(job_id)
        student, teacher = str(folder.output), str(config.get("teacher") or "")
        prompt = _prompt(config)
        rows = [("This model", student), *([("Teacher", teacher)] if teacher else [])]
        cells: dict[tuple[str, int], str] = {}
        yield _table(rows, cells, prompt, "Making pictures ...")
        with studio.stops.under_way(owner.session, "distil") as ticket:
            for name, model in rows:
                for steps in STEPS:
                    if ticket.stop.is_set():
                        return
                    cells[name, steps] = _cell(studio, model, prompt, steps, owner)
                    yield _table(rows, cells, prompt, "Making pictures ...")
        if _scenes(config) and (Path(teacher) / "vae").is_dir():  # it measures latent models
            yield _table(
                rows, cells, prompt, f"Measuring over {_COUNT} held-out scenes: minutes ..."
            )
            figures = _measure(folder.path / "comparison", student, teacher)
            yield _table(rows, cells, prompt, "") + figures
        else:
            yield _table(rows, cells, prompt, "")
    except StudioError as error:
        yield f'<p class="lcm-note lcm-error">{html.escape(str(error))}</p>'


def _cell(studio: Studio, model: str, prompt: str, steps: int, owner: Owner) -> str:
    info = studio.engine.info(model)
    guidance = None if info.guidance == "none" else _GUIDANCE
    request = Generate(
        prompt=prompt if info.takes_prompt else "",
        model=model,
        steps=steps,
        guidance=guidance,
        seed=1,
    )
    for event in studio.engine.run(request, owner=owner):
        if isinstance(event, events.Failed):
            raise StudioError(event.message)
        if isinstance(event, events.Done):
            seconds = float(event.timing.get("total", 0.0))
            return (
                f'<img src="{jpeg(event.images[0], quality=90)}" alt="{steps} steps">'
                f"<figcaption>{seconds:.2f} s</figcaption>"
            )
    return ""


def _table(
    rows: list[tuple[str, str]], cells: dict[tuple[str, int], str], prompt: str, state: str
) -> str:
    head = "".join(f"<th>{n} step{'s' * (n > 1)}</th>" for n in STEPS)
    body = "".join(
        f"<tr><th>{name}</th>"
        + "".join(f"<td><figure>{cells.get((name, steps), '')}</figure></td>" for steps in STEPS)
        + "</tr>"
        for name, _ in rows
    )
    words = f' "{html.escape(prompt)}", seed 1' if prompt else " seed 1"
    return (
        f'<section class="distil-compare"><h3>Against the teacher</h3><p class="lcm-soft">The same words and seed:{words}. '
        f"{state}</p><table><tr><th></th>{head}</tr>{body}</table></section>"
    )


def _prompt(config: dict[str, Any]) -> str:
    """The first caption of the data, or none."""
    data = config.get("data")
    if isinstance(data, dict) and data.get("kind") == "folder":
        captions = (entry.caption for entry in list_folder(str(data.get("path"))).entries)
        return next((caption for caption in captions if caption), "")
    return "sunset, sun on the left, snowy mountains, lake"


def _scenes(config: dict[str, Any]) -> bool:
    """Whether the pictures are rendered scenes: by kind, or by the labels that the renderer writes beside them."""
    data = config.get("data")
    if not isinstance(data, dict):
        return False
    if data.get("kind") == "scenes":
        return True
    rows = Path(str(data.get("path") or "")) / "metadata.jsonl"
    try:
        with rows.open(encoding="utf-8") as lines:
            row = json.loads(lines.readline())
        return isinstance(row, dict) and {"seed", "labels"} <= set(row)
    except (OSError, ValueError):
        return False


def _measure(out: Path, student: str, teacher: str) -> str:
    argv = [
        sys.executable, "-m", "training.scenery.evaluation", "evaluate", "--model", student, "--teacher", teacher,
        "--out", str(out), "--count", str(_COUNT), "--reference", str(_REFERENCE),
        "--batch", "16", "--only", *_ROWS,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            cwd=project_root(), env=environment(), timeout=_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip() or "no reason given").splitlines()[-1]
            return f'<p class="lcm-note lcm-warning">The figures could not be measured: {html.escape(last[:300])}</p>'
        return figures(json.loads((out / "evaluation.json").read_text(encoding="utf-8")))
    except subprocess.TimeoutExpired:
        return '<p class="lcm-note lcm-warning">The measurement took too long; run `python -m training.scenery.evaluation`.</p>'
    except (OSError, ValueError) as error:
        return f'<p class="lcm-note lcm-warning">The figures could not be read: {html.escape(str(error)[:200])}</p>'


def figures(found: dict[str, Any]) -> str:
    """Distance and agreement of every row as a table."""
    rows = [row for row in found.get("rows", []) if isinstance(row, dict)]
    body = "".join(
        f"<tr><th>{html.escape(str(row.get('name')))}</th><td>{_figure(row.get('frechet'))}</td>"
        f"<td>{_figure(row.get('agreement'))}</td></tr>"
        for row in rows
    )
    return (
        '<table class="distil-figures"><tr><th>Pictures</th><th>Distance to real scenes (lower is better)</th>'
        f"<th>Agreement with the words</th></tr>{body}</table>"
    )


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"
