"""`lab plane` from a shell: networks, samplers, files, and one sentence for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcm_studio.cli import main

QUICK = ["lab", "plane", "--particles", "150"]


def test_networks_are_trained_and_their_particles_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "plane.csv"
    argv = [*QUICK, "--data", "pair", "--train", "score,cd", "--train-steps", "30"]
    assert main([*argv, "--sampler", "ode-heun:5,consistency", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(s["sampler"], s["network"], s["evaluations"]) for s in told["systems"]] == [
        ("ode-heun", "score", 5), ("consistency", "cd", 1),
    ]  # fmt: skip
    assert set(told["networks"]) == {"score", "cd"}
    rows = out.read_text().splitlines()
    assert rows[0] == "sampler,evaluations,particle,x,y" and len(rows) == 301


def test_an_animation_and_a_picture_of_drawn_points(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("0,0\n1,1\n\n2,0\n")
    for name in ("way.gif", "end.png"):
        out = tmp_path / name
        argv = [*QUICK, "--data", str(points), "--sampler", "sde:4,ode-euler:4"]
        assert main([*argv, "--out", str(out)]) == 0
        assert Image.open(out).size[0] > 600
    page = Image.fromarray(
        np.where(np.arange(64) < 20, 0, 255).astype(np.uint8)[None].repeat(64, 0)
    )
    page.save(tmp_path / "page.png")
    argv = [*QUICK, "--data", str(tmp_path / "page.png"), "--sampler", "ode-euler:3"]
    assert main([*argv, "--out", str(tmp_path / "page.csv")]) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data", "pears"], "no distribution of the plane"),
        (["--data", "nowhere.csv"], "cannot be read"),
        (["--train", "magic"], "no stage"),
        (["--sampler", "magic"], "no sampler of the plane"),
        (["--sampler", "sde:many"], "no whole number"),
        (["--sampler", "rk45:3"], "whole number from"),
        (["--out", "plane.mp3"], "ends in .gif, .png or .csv"),
    ],
)
def test_a_mistake_is_one_sentence(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*QUICK, *argv]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
