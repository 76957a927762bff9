"""Uploads of the Distil tab: what is kept of files and zips, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from lcm_studio.data.listing import list_folder
from lcm_studio.spec.errors import BadRequest
from lcm_studio.web.distil import values as form
from lcm_studio.web.server.unzip import unzip


def png(shade: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(out, format="png")
    return out.getvalue()


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_zip_becomes_a_folder_with_its_captions(tmp_path: Path) -> None:
    members = {"set/a.png": png(), "set/a.txt": b"a lake", "set/deep/b.png": png(9), "set/": b""}
    members |= {"set/deep/b.txt": b"a sea", "__MACOSX/._a.png": b"x", "set/run.exe": b"x"}
    kept = form.keep_uploads([str(pack(tmp_path / "x.zip", members))], tmp_path / "home")
    assert names(kept) == {"a.png", "a.txt", "deep-b.png", "deep-b.txt"}
    assert {e.caption for e in list_folder(kept).entries} == {"a lake", "a sea"}


@pytest.mark.parametrize("zipped", [True, False])
def test_captions_come_along_in_every_file_that_is_read_from_folders(
    zipped: bool, tmp_path: Path
) -> None:
    members = {"a.png": png(), "a.caption": b"a lake", "b.png": png(9)}
    members["metadata.csv"] = b"file_name,text\nb.png,a sea\n"
    for name, data in members.items():
        (tmp_path / name).write_bytes(data)
    files = [pack(tmp_path / "x.zip", members)] if zipped else [tmp_path / name for name in members]
    kept = form.keep_uploads([str(file) for file in files], tmp_path / "home")
    assert names(kept) == set(members)
    assert "a sea" in {e.caption for e in list_folder(kept).entries}


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/etc/evil.png", "..\\evil.png", "a/../../e.png"]
)
def test_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    zipped = pack(tmp_path / "x.zip", {name: png(), "ok.png": png()})
    kept = form.keep_uploads([str(zipped)], home)
    written = list(tmp_path.rglob("*.png"))
    assert len(written) == 2 and all(p.parent == kept for p in written)
    assert not Path("/etc/evil.png").exists()


def test_what_is_no_set_of_pictures_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 no zip")
    cut = pack(tmp_path / "cut.zip", {"a.png": png() * 50})
    data = cut.read_bytes()
    cut.write_bytes(data[:40] + b"\0" * 40 + data[80:])
    empty = pack(tmp_path / "empty.zip", {"a.txt": b"no picture"})
    for zipped, words in ((broken, "cannot be"), (cut, "cannot be"), (empty, "no PNG")):
        with pytest.raises(BadRequest, match=words):
            form.keep_uploads([str(zipped)], tmp_path / "home")
    with pytest.raises(BadRequest, match="no picture"):
        form.keep_uploads([str(tmp_path / "run.exe")], tmp_path / "home")
    assert list((tmp_path / "home" / form.UPLOADS).iterdir()) == []


def test_limits_are_checked_before_anything_is_unpacked(tmp_path: Path) -> None:
    zipped = pack(tmp_path / "x.zip", {f"{i}.png": png() for i in range(4)})
    (tmp_path / "out").mkdir()
    for limits in ({"most": 3}, {"most": 9, "limit": 100}):
        with pytest.raises(BadRequest, match="--data-dir"):
            unzip(zipped, tmp_path / "out", wanted=form.WANTED, **limits)
    assert list((tmp_path / "out").iterdir()) == []


def test_equal_names_are_all_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    zipped = pack(tmp_path / "x.zip", {"a.png": png(2)})
    kept = form.keep_uploads([str(tmp_path / "a.png"), str(zipped)], tmp_path / "home")
    assert names(kept) == {"a.png", "a-1.png"}
