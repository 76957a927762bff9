"""`python -m lcm_studio edit ...`: what the files hold, what is said, and what a mistake costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from lcm_studio.cli import main
from lcm_studio.images import read_image, read_settings, write_png

SIDE = 64
rng = np.random.default_rng(0)
PICTURE = cv2.resize(
    rng.integers(0, 256, (8, 8, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
)
HOLE = np.zeros((SIDE, SIDE), np.uint8)
HOLE[20:40, 10:50] = 255


@pytest.fixture(autouse=True)
def models(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCM_STUDIO_MODELS", str(tiny_models))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    other = np.ascontiguousarray(PICTURE[::-1])
    made = {"a": PICTURE, "b": other, "small": PICTURE[::4, ::4], "mask": HOLE}
    made["rgba"] = np.dstack([PICTURE, HOLE])
    found = {name: str(write_png(tmp_path / f"{name}.png", p)) for name, p in made.items()}
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    return found | {"broken": str(broken)}


def edit(capsys: Any, *argv: str) -> dict[str, Any]:
    """What a successful edit prints with --json."""
    assert main(["edit", *argv, "--model", "lcm", "--steps", "2", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", ["a", "rgba"])
def test_inpaint_keeps_every_known_byte(
    name: str, files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "new" / "x.png"
    said = edit(
        capsys, "inpaint", "--image", files[name], "--mask", files["mask"], "--out", str(out)
    )
    before, after = (read_image(Path(p), alpha="keep") for p in (files[name], str(out)))
    assert after.shape == before.shape
    assert np.array_equal(after[HOLE == 0], before[HOLE == 0])
    assert np.array_equal(after[..., 3:], before[..., 3:])
    assert said["files"] == [str(out)] and said["evaluations"] == 2
    assert said["fidelity"]["max_error"] == 0 and said["seconds"]["total"] > 0
    settings = read_settings(out)
    assert settings is not None and settings["task"] == "inpaint"


def test_borders_make_the_picture_larger(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "x.png"
    edit(capsys, "inpaint", "--image", files["a"], "--borders", "0,8,24,0", "--out", str(out))
    after = read_image(out)
    assert after.shape == (SIDE + 8, SIDE + 24, 3)
    assert np.array_equal(after[8:, :SIDE], PICTURE)


@pytest.mark.parametrize(
    ("task", "source", "more", "bound"),
    [
        ("colorize", "a", (), 1),
        ("superres", "small", ("--scale", "4"), 1),
        ("superres", "small", ("--scale", "2", "--operator", "bicubic"), 1),
        ("superres", "small", ("--scale", "4", "--noise-scale", "1", "--relax", "0"), 1),
        ("colorize", "a", ("--relax", "0.3,0.1"), 1),
        ("deblur", "a", ("--kernel", "gaussian:1.0"), None),
        ("denoise", "a", ("--sigma", "auto"), None),
        ("denoise", "a", ("--sigma", "0.2"), None),
        ("sketch", "a", ("--strength", "0.6"), None),
    ],
)
def test_each_tool_writes_its_file_and_says_what_was_kept(
    task: str,
    source: str,
    more: tuple[str, ...],
    bound: float | None,
    files: dict[str, str],
    tmp_path: Path,
    capsys: Any,
) -> None:
    out = tmp_path / "x.png"
    said = edit(capsys, task, "--image", files[source], *more, "--out", str(out))
    scale = int(more[1]) if "--scale" in more else 1
    side = scale * read_image(Path(files[source])).shape[0]
    assert read_image(out).shape == (side, side, 3)
    assert said["fidelity"]["known"]
    if bound is not None:
        assert said["fidelity"]["max_error"] <= bound


def test_interpolate_writes_numbered_frames_and_videos(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    gif, mp4, out = tmp_path / "x.gif", tmp_path / "v" / "x.mp4", tmp_path / "frames"
    pair = ("interpolate", "--image", files["a"], "--image-b", files["b"], "--frames", "3")
    said = edit(capsys, *pair, "--out", str(out), "--video", str(gif), "--video", str(mp4))
    names = [f"0-00{i}.png" for i in (1, 2, 3)]
    assert sorted(p.name for p in out.iterdir()) == names
    assert said["files"] == [*(str(out / n) for n in names), str(gif), str(mp4)]
    assert np.array_equal(read_image(out / names[0]), PICTURE)
    assert np.array_equal(read_image(out / names[2]), PICTURE[::-1])
    assert Image.open(gif).n_frames == 3  # type: ignore[attr-defined]
    assert mp4.read_bytes()[4:8] == b"ftyp"
    edit(capsys, *pair, "--out", str(out))  # a second run loses nothing of the first
    assert len(list(out.iterdir())) == 6
    edit(capsys, *pair, "--out", str(tmp_path / "one.png"))
    assert len(list(tmp_path.glob("one-00?.png"))) == 3


def test_a_folder_goes_on_past_a_bad_file(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "broken", "b"):
        folder.mkdir(exist_ok=True)
        Path(files[name]).rename(folder / f"{name}.png")
    argv = ["edit", "colorize", "--image", str(folder), "--model", "lcm", "--steps", "1"]
    assert main([*argv, "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.png"]
    assert "1/3" in said and "3/3" in said
    (line,) = [line for line in said.splitlines() if line.startswith("not edited: ")]
    assert line.count("broken.png") == 1


def test_each_remark_is_made_once(files: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    whole = write_png(tmp_path / "whole.png", np.full((30, 40), 255, np.uint8))
    out = str(tmp_path / "x.png")
    said = edit(capsys, "inpaint", "--image", files["a"], "--mask", str(whole), "--out", out)
    assert (
        len(said["warnings"]) == len(set(said["warnings"])) == 3
    )  # no numbers of its own; resized; covers everything


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("inpaint", "--image", "{a}"), "mask"),
        (("inpaint", "--image", "{a}", "--mask", "{nothing}"), "empty"),
        (("inpaint", "--image", "{a}", "--mask", "none.png"), "none.png"),
        (("inpaint", "--image", "{broken}", "--mask", "{mask}"), "broken.png"),
        (("inpaint", "--image", "{a}", "--borders", "0,0,0,0"), "borders"),
        (("inpaint", "--image", "{a}", "--borders", "1,2"), "borders"),
        (("colorize", "--image", "{a}", "--eta", "2"), "from 0 to 1"),
        (("colorize", "--image", "{a}", "--emphasis", "9"), "from 0 to 3"),
        (("colorize", "--image", "{a}", "--levels", "1,2"), "levels"),
        (("superres", "--image", "{small}", "--scale", "9"), "scale"),
        (("superres", "--image", "{small}", "--operator", "magic"), "magic"),
        (("denoise", "--image", "{a}", "--sigma", "nan"), "sigma"),
        (("deblur", "--image", "{a}", "--kernel", "gaussian:90"), "sigma 90"),
        (("sketch", "--image", "{a}", "--strength", "0"), "strength"),
        (("interpolate", "--image", "{a}"), "second picture"),
        (("interpolate", "--image", "{a}", "--image-b", "{b}", "--video", "x.avi"), ".gif"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    argv: tuple[str, ...], word: str, files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    nothing = write_png(tmp_path / "nothing.png", np.zeros((SIDE, SIDE), np.uint8))
    out = tmp_path / "out"
    given = [a.format(**files, nothing=nothing) for a in argv]
    assert main(["edit", *given, "--model", "lcm", "--json", "--out", str(out)]) == 2
    caught = capsys.readouterr()
    said = caught.err.strip().splitlines()
    assert len(said) == 1 and word in said[0] and "Traceback" not in said[0]
    assert not caught.out and not out.exists()
