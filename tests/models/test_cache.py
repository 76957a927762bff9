"""The folder of converted networks: whole entries or none, and nothing else is ever deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lcm_studio.models.backends.cache import ENTRY, Cache

V1 = {"openvino": "1", "format": "1"}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, limit=10_000)


def fill(cache: Cache, key: str, size: int = 100, versions: dict[str, str] = V1) -> Path:
    return cache.store(key, versions, lambda folder: _write(folder, size))


def _write(folder: Path, size: int) -> None:
    (folder / "model.xml").write_text("x")
    (folder / "model.bin").write_bytes(b"w" * size)


def test_what_was_kept_is_found(cache: Cache) -> None:
    assert cache.find("a", V1) is None
    place = fill(cache, "a")
    assert cache.find("a", V1) == place
    assert (place / "model.bin").read_bytes() == b"w" * 100
    assert [p.name for p in cache.folder.iterdir()] == ["a"]


@pytest.mark.parametrize("fault", ["cut", "changed", "missing", "no entry", "nonsense", "version"])
def test_another_is_built_again_with_one_line(
    cache: Cache, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = fill(cache, "a")
    wanted = V1
    match fault:
        case "cut":
            os.truncate(place / "model.bin", 50)
        case "changed":
            (place / "model.xml").write_text("y")
        case "missing":
            (place / "model.bin").unlink()
        case "no entry":
            (place / ENTRY).unlink()
        case "nonsense":
            (place / ENTRY).write_text(json.dumps([1]))
        case "version":
            wanted = {**V1, "openvino": "2"}
    assert cache.find("a", wanted) is None
    assert len(caplog.records) == 1
    assert "built again" in caplog.text
    assert cache.find("a", wanted) is None
    assert len(caplog.records) == 1  # it is gone
    assert fill(cache, "a", versions=wanted) == place
    assert cache.find("a", wanted) == place


def test_the_oldest_go_first(cache: Cache) -> None:
    for age, key in enumerate("abc"):
        os.utime(fill(cache, key, 3000) / ENTRY, (age, age))
    assert cache.find("a", V1)  # used just now
    fill(cache, "d", 3000)
    assert sorted(p.name for p in cache.folder.iterdir()) == ["a", "c", "d"]


def test_one_that_is_larger_than_the_limit_is_kept_alone(cache: Cache) -> None:
    fill(cache, "a")
    fill(cache, "b", 20_000)
    assert [p.name for p in cache.folder.iterdir()] == ["b"]


def test_what_is_no_entry_stays(cache: Cache, tmp_path: Path) -> None:
    fill(cache, "a")
    mine = cache.folder / "holiday"
    mine.mkdir()
    (mine / "picture.png").write_bytes(b"p" * 50_000)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ENTRY).write_text("{}")
    (cache.folder / "link").symlink_to(elsewhere, target_is_directory=True)
    cache.limit = 0
    cache.sweep()
    assert sorted(p.name for p in cache.folder.iterdir()) == ["holiday", "link"]
    assert (elsewhere / ENTRY).is_file()


def test_an_unfinished_one_leaves_nothing(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        (folder / "model.bin").write_bytes(b"w")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.store("a", V1, fail)
    assert not [*cache.folder.iterdir()]
    left = cache.folder / ".unfinished-old"
    left.mkdir()
    os.utime(left, (0, 0))
    cache.sweep()
    assert not left.exists()


def test_a_limit_that_is_no_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LCM_STUDIO_CACHE_GB", "much")
    assert Cache().limit == 20 * 2**30
    assert len(caplog.records) == 1
