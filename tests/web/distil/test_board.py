"""What the timer's look at the jobs sends to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import Job, State
from lcm_studio.jobs.service import Jobs
from lcm_studio.web.distil import board as distil_board
from lcm_studio.web.distil import values as form
from lcm_studio.web.distil import views, watch
from lcm_studio.web.distil.watch import Look, Viewer


def look(chosen: str | None, viewer: Viewer | None = None, beside: str | None = None) -> Look:
    return Look(
        chosen=chosen, choices=(("New", "new"), ("Old", "old")), head=f"<p>{chosen}</p>", strip="", log="",
        outcome="", actions=frozenset(),
    )  # fmt: skip


def picker_of(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, found: str | None
) -> dict[str, Any]:
    monkeypatch.setattr(distil_board, "look", lambda chosen, viewer, beside: look(found))
    update = distil_board.refresh(asked, {}, Viewer())[0]
    assert update["choices"] == [("New", "new"), ("Old", "old")]
    return dict(update)


def test_a_late_look_does_not_take_back_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    # the user has started "new" since this look at "old" began
    assert "value" not in picker_of(monkeypatch, "old", "old")


def test_a_choice_is_made_where_there_is_none_or_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert picker_of(monkeypatch, None, "new")["value"] == "new"
    assert picker_of(monkeypatch, "deleted", "new")["value"] == "new"


def test_what_the_page_shows_already_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil_board, "look", look)
    first = distil_board.refresh("old", {}, Viewer())
    again = distil_board.refresh("old", first[-1], Viewer())
    assert all("value" not in part and "choices" not in part for part in again)


def test_a_log_shows_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil_board, "look", look)
    with gr.Blocks():
        board = distil_board.build_board()
    updates = dict(zip(board.outputs, distil_board.refresh("old", {}, Viewer()), strict=True))
    assert updates[board.logs]["visible"] is False


def test_the_curves_of_two_runs_have_names_and_finite_points(tmp_path: Path) -> None:
    runs = []
    for number, losses in enumerate(([1.0, 0.5], [4.0, float("nan"), 0.1])):
        job = Job(id=f"id-{number}", name="Same", recipe="lcd", device="cpu")
        folder = JobFolder(tmp_path / job.id)
        folder.create()
        rows = [{"event": "step", "step": 10 * i, "loss": v} for i, v in enumerate(losses, 1)]
        folder.events.write_text("".join(json.dumps(row) + "\n" for row in rows))
        runs.append((job, folder))
    one, other = views.curves(runs)["runs"]
    assert one == {"name": "Same · id-0", "loss": [(10, 1.0), (20, 0.5)], "lr": []}
    assert other["name"] == "Same · id-1" and other["loss"] == [(10, 4.0), (30, 0.1)]
    assert views.curves(runs[:1])["runs"][0]["name"] == "Same"


def test_a_run_whose_folder_is_gone_is_told_and_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Jobs(tmp_path, awake=False)
    monkeypatch.setattr(watch, "jobs", lambda: service)
    for end in (State.SUCCEEDED, State.FAILED, State.RUNNING):
        job = Job(id=f"id-{end.value}", name="Mine", recipe="lcd", device="cpu")
        service.store.add(job)
        for state in dict.fromkeys((State.STARTING, State.RUNNING, end)):
            service.store.move(service.store.get(job.id), state)
        job = service.store.get(job.id)
        shown = watch.look(job.id, Viewer())
        assert "folder of this run is gone" in shown.head and not shown.outcome
        assert ("delete" in shown.actions) == job.final and "open" not in shown.actions
    monkeypatch.setattr(service, "list", lambda: Path(tmp_path / "none").read_bytes())
    assert "The runs cannot be read: No such file" in watch.look(None, Viewer()).head


def test_an_empty_number_shows_what_the_preset_has() -> None:
    assert form.hints("lcd-cpu-quick") == {
        "steps": "300", "batch_size": "8", "resolution": "256", "learning_rate": "0.0004",
    }  # fmt: skip
    assert set(form.hints("").values()) == {"the recipe's own"}
