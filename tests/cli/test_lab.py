"""The Lab from a shell, on tiny models: files are written, numbers are printed, mistakes are one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcm_studio.cli import main
from lcm_studio.images.png import read_settings


@pytest.fixture
def lab(tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """lab(run, ...) -> what `--json` prints."""

    def go(run: str, *more: str) -> Any:
        argv = ["lab", run, *more, "--models-dir", str(tiny_models), "--device", "cpu"]
        assert main([*argv, "--out", str(tmp_path / "out"), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return go


def test_sample_writes_a_picture_with_its_settings_and_a_film(lab: Any) -> None:
    answer = lab(
        "sample", "sunset", "--model", "sd-plain", "--sampler", "rk45", "--evaluations", "14",
        "--set", "tolerance=0.1", "--seed", "3", "--film", "--frames", "5",
    )  # fmt: skip
    picture, strip, film = (Path(f) for f in answer["files"])
    assert answer["evaluations"] <= 14
    settings = read_settings(picture)
    assert settings is not None
    assert settings["sampler"] == "rk45"
    assert settings["sampler_settings"] == {"tolerance": "0.1"}
    assert Image.open(strip).size[0] > 64
    with Image.open(film) as frames:
        assert frames.n_frames > 1  # type: ignore[attr-defined]


def test_compare_writes_sheet_table_and_plot(lab: Any) -> None:
    answer = lab(
        "compare", "sunset", "--samplers", "ode-euler,rk45,consistency", "--evaluations", "2,12",
        "--model", "sd-plain", "--student", "lcm",
    )  # fmt: skip
    sheet, table, plot = (Path(f) for f in answer["files"])
    assert sheet.suffix == plot.suffix == ".png"
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [r["label"] for r in rows] == [
        "ode-euler 2", "ode-euler 12", "rk45 2", "rk45 12", "consistency 2", "consistency 12",
    ]  # fmt: skip
    assert rows[0]["model"] == "sd-plain"
    assert rows[-1]["model"] == "lcm"
    assert "at least 10" in rows[2]["error"]
    assert any("rk45 2" in warning for warning in answer["warnings"])


def test_trace_writes_strip_table_and_plot(lab: Any) -> None:
    answer = lab(
        "trace", "sunset", "--model", "lcm", "--teacher", "sd-plain", "--evaluations", "9", "--points", "4",
    )  # fmt: skip
    assert [Path(f).is_file() for f in answer["files"]] == [True] * 3
    assert len(answer["points"]) == 4
    assert answer["points"][0]["student_to_start"] == 0


def test_invert_cuts_the_picture_to_the_models_multiple(lab: Any, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(np.full((70, 66, 3), 120, np.uint8)).save(source)
    answer = lab(
        "invert", "--image", str(source), "--prompt", "sunset", "--model", "sd-plain",
        "--sampler", "ode-euler", "--evaluations", "6",
    )  # fmt: skip
    assert Image.open(answer["files"][1]).size == (64, 64)
    assert answer["evaluations"] == 10
    assert answer["rmse"] >= 0


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["sample", "--model", "lcm", "--sampler", "sde"], "consistency model"),
        (["sample", "--model", "sd-plain", "--sampler", "rk45", "--evaluations", "4"], "at least 10"),
        (["sample", "--model", "sd-plain", "--sampler", "rk45", "--set", "tolerance=0"], "tolerance"),
        (["sample", "--model", "sd-plain", "--set", "tolerance"], "NAME=VALUE"),
        (["compare", "--samplers", "euler"], "ode-euler"),
        (["compare", "--evaluations", "four"], "whole numbers"),
        (["invert", "--image", "nowhere.png"], "nowhere.png"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    tiny_models: Path, capsys: pytest.CaptureFixture[str], more: list[str], word: str
) -> None:
    assert main(["lab", *more, "--models-dir", str(tiny_models), "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip()
    assert word in said
    assert "Traceback" not in said


def test_a_switch_of_a_sampler_is_a_word_in_the_shell() -> None:
    from lcm_studio.cli.common import parse_settings
    from lcm_studio.spec.samplers import SAMPLERS

    given = parse_settings(["denoise=No", "levels=7"])
    assert SAMPLERS["langevin"].checked(given)["denoise"] is False
    assert SAMPLERS["langevin"].checked(given)["levels"] == 7
