"""What a run has made is called as the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lcm_studio.jobs.records import State
from lcm_studio.jobs.service import Jobs


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"name": "Dusk"}),
        ({"steps": 4}, {"name": "Dusk", "steps": 4}),
        ({"name": "Its own"}, {"name": "Its own"}),
    ],
)
def test_the_model_of_a_finished_run_bears_its_name(
    tmp_path: Path, before: dict[str, object] | None, after: dict[str, object]
) -> None:
    jobs = Jobs(tmp_path / "jobs", awake=False)
    job = jobs.submit("edm", {"data": {"kind": "scenes"}}, name="Dusk")
    output = jobs.folder(job.id).output
    (output / "model_index.json").write_text("{}")
    if before is not None:
        (output / "studio.json").write_text(json.dumps(before))
    jobs.model(job.id)  # the trainer may still be at work on it
    assert (output / "studio.json").exists() == (before is not None)
    for state in (State.STARTING, State.SUCCEEDED):
        assert jobs.store.move(jobs.get(job.id), state)
    assert jobs.model(job.id) == output
    assert json.loads((output / "studio.json").read_text()) == after


def test_a_damaged_studio_json_is_left_alone(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", awake=False)
    job = jobs.submit("edm", {"data": {"kind": "scenes"}}, name="Dusk")
    output = jobs.folder(job.id).output
    (output / "model_index.json").write_text("{}")
    (output / "studio.json").write_text("{")
    for state in (State.STARTING, State.SUCCEEDED):
        assert jobs.store.move(jobs.get(job.id), state)
    assert jobs.model(job.id) == output
    assert (output / "studio.json").read_text() == "{"
