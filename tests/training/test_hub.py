"""Data sets of a hub on the loopback: fetched once, trained on, and read again when the hub is away."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests import tiny
from tests.hub import DROP, Hub, run

COLOURS = ((200, 60, 40), (40, 90, 200), (60, 160, 70), (220, 200, 90))
WORDS = ("sunset", "sea", "tree", "clear sky")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("sd-plain", tmp_path_factory.mktemp("teacher") / "sd-plain")


def png(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    picture = Image.new("RGB", (80, 64), colour)
    picture.paste((255, 255, 255), (20, 20, 40, 40))
    picture.save(out, "PNG")
    return out.getvalue()


def folder_of_pictures(root: Path) -> Path:
    """As the hub's own image folders are: a split with its captions in it, and a script beside it."""
    (root / "train").mkdir(parents=True)
    rows = []
    for i, (colour, words) in enumerate(zip(COLOURS, WORDS, strict=True)):
        (root / "train" / f"{i}.png").write_bytes(png(colour))
        rows.append(json.dumps({"file_name": f"{i}.png", "text": words}))
    (root / "train" / "metadata.jsonl").write_text("\n".join(rows))
    (root / "set.py").write_text("raise SystemExit('the script of the data set ran')")
    return root


def folder_of_shards(root: Path) -> Path:
    """Two shards of two samples, one member of which would run code if somebody unpickled it."""
    root.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(root / f"data-{shard:03d}.tar", "w") as tar:
            for i in (2 * shard, 2 * shard + 1):
                members = {"png": png(COLOURS[i]), "txt": WORDS[i].encode()}
                for suffix, data in {**members, "pkl": pickle.dumps(exit)}.items():
                    about = tarfile.TarInfo(f"{i:05d}.{suffix}")
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
    return root


def train(hub: Hub, root: Path, teacher: Path, **more: str) -> tuple[int, str, Path]:
    """Two steps of `lcd` on the data set ann/pictures: (status, stderr, folder of the run)."""
    config = {
        "teacher": str(teacher), "resolution": 64, "steps": 2, "batch_size": 2, "log_every": 1,
        "device": "cpu", "time_cond_proj_dim": 16,
        "data": {"kind": "huggingface", "path": "ann/pictures", "cache": str(root / "cache")},
    }  # fmt: skip
    (root / "job.yaml").write_text(yaml.safe_dump(config))
    out = root / f"run{len(list(root.glob('run*')))}"
    argv = ("lcd", "--config", str(root / "job.yaml"), "--output", str(out))
    done = run(hub.environment(root / "home", **more), "training", *argv, patient=False)
    return done.returncode, done.stderr, out


def downloads(hub: Hub) -> list[str]:
    return [path for _, path in hub.log if path.startswith("/blobs/")]


def test_pictures_with_captions(hub: Hub, teacher: Path, tmp_path: Path) -> None:
    hub.publish("ann/pictures", folder_of_pictures(tmp_path / "set"), kind="datasets")
    hub.faults["/blobs/"] = DROP
    status, said, out = train(hub, tmp_path, teacher)
    assert status == 1 and "Traceback" not in said, said
    result = json.loads((out / "result.json").read_text())
    assert result["reason"] == "data"
    assert "ann/pictures" in result["message"] and "again" in result["message"]
    assert "\n" not in result["message"]

    hub.faults.clear()
    hub.log.clear()
    status, said, out = train(hub, tmp_path, teacher)
    assert status == 0, said
    assert (out / "output" / "model_index.json").is_file()
    assert len(downloads(hub)) == 4
    assert "set.py" not in hub.fetched()
    cached = tmp_path / "cache" / "hub" / "ann--pictures" / "train"
    assert {path.name for path in cached.glob("*.png")} == {f"{i}.png" for i in range(4)}

    hub.faults["/"] = 503
    hub.log.clear()
    status, said, out = train(hub, tmp_path, teacher)
    assert status == 0, said
    assert (out / "output" / "model_index.json").is_file()
    assert not downloads(hub)


def test_shards_and_a_second_run_offline(hub: Hub, teacher: Path, tmp_path: Path) -> None:
    hub.publish("ann/pictures", folder_of_shards(tmp_path / "set"), kind="datasets")
    status, said, _ = train(hub, tmp_path, teacher)
    assert status == 0, said
    assert len(downloads(hub)) == 2
    asked = len(hub.log)
    status, said, out = train(hub, tmp_path, teacher, HF_HUB_OFFLINE="1")
    assert status == 0, said
    assert (out / "output" / "model_index.json").is_file()
    assert len(hub.log) == asked


def test_captions_of_a_split_reach_the_source(tmp_path: Path) -> None:
    from training.data.files import folder_source

    source = folder_source(folder_of_pictures(tmp_path / "set"), size=16)
    assert [source.item(i).caption for i in range(len(source))] == list(WORDS)
