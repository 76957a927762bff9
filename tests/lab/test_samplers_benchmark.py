"""`python -m benchmarks samplers`: what it reads and writes, without making pictures."""

from __future__ import annotations

import pytest

from benchmarks.samplers import DEFAULT, cells, main, report
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.samplers import sampler_info


def test_cells_name_their_models_and_have_enough_evaluations() -> None:
    systems = cells(DEFAULT, "teacher", "student")
    assert {s.model for s in systems if s.sampler == "consistency"} == {"student"}
    assert {s.model for s in systems if s.sampler != "consistency"} == {"teacher"}
    assert all(s.evaluations >= sampler_info(s.sampler).least for s in systems)


def test_wrong_cells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudioError):
        cells("euler:4", "teacher", "student")
    assert main(["--cells", "euler:4"]) == 2
    assert "ode-euler" in capsys.readouterr().err


def test_the_table_says_how_many_captions_it_is_over() -> None:
    row = {
        "model": "m",
        "sampler": "dpmpp",
        "evaluations": 8.0,
        "fd": 3.0,
        "agreement": 0.9,
        "seconds": 0.5,
    }
    about = {"captions": 7, "reference": 30, "date": "2026-01-01", "machine": {"cpus": 2, "torch": "2", "threads": 1, "device": "cpu", "load": [1.0]}, "size": 128}  # fmt: skip
    text = report([row], about, "samplers")
    assert "7 held-out captions" in text
    assert "`python -m benchmarks samplers --captions 7`" in text
    short = report([row], {**about, "asked": 500, "minutes": 10.0}, "samplers")
    assert "--captions 500 --minutes 10`" in short and "as many as the minutes gave" in short
    assert "| m | dpmpp | 8 | 3.00 | 90.0% | 0.50 |" in text
