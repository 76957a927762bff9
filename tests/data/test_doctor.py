"""Each fault is planted alone, is named under its code with its file, and has a remedy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lcm_studio.cli import main
from lcm_studio.data.doctor import LONG_CAPTION, Report, examine
from lcm_studio.data.listing import DataError
from lcm_studio.data.report import as_html, as_text
from lcm_studio.data.shards import expand
from lcm_studio.data.sheet import contact_sheet
from tests.data.conftest import picture, png, write_tar

MakeFolder = Callable[..., Path]


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def test_a_good_folder_is_healthy(make_folder: MakeFolder) -> None:
    report = examine(make_folder(110), size=40)
    assert (report.pictures, report.usable, report.captioned) == (110, 110, 110)
    assert report.healthy and report.findings == ()
    assert report.sizes == (("40 x 40", 110),)
    assert "Ready to train on." in as_text(report)


def _truncate(folder: Path) -> None:
    (folder / "bad.png").write_bytes(png(77)[:150])


def _link_out(folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(png(1))
    (folder / "link.png").symlink_to(folder.parent / "secret.png")


def _rows(folder: Path, *rows: str) -> None:
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")


def _bomb(folder: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": ("broken", _truncate, "bad.png"),
    "empty file": ("broken", lambda f: (f / "none.jpg").touch(), "none.jpg"),
    "text as png": ("broken", lambda f: (f / "note.png").write_text("no"), "note.png"),
    "bomb": ("broken", _bomb, "bomb.png"),
    "gif": ("format", lambda f: picture(9).save(f / "old.gif"), "old.gif"),
    "link out": ("outside", _link_out, "link.png"),
    "row out": ("outside", lambda f: _rows(f, '{"file_name": "../x.png", "text": "a"}'), "line 1"),
    "orphan": ("orphan_caption", lambda f: (f / "lost.txt").write_text("a"), "lost.txt"),
    "latin-1": ("caption_encoding", lambda f: (f / "001.txt").write_bytes(b"caf\xe9"), "001.png"),
    "bad row": ("metadata_row", lambda f: _rows(f, "{no"), "line 1"),
    "absent": ("metadata_absent", lambda f: _rows(f, '{"file_name": "x.png", "text": "a"}'), "x.png"),
    "twice": ("duplicate", lambda f: (f / "zz.png").write_bytes(png(0)), "000.png = zz.png"),
    "alike": ("similar", lambda f: picture(0).save(f / "zz.webp", lossless=True), "000.png ~ zz.webp"),
    "flat": ("flat", lambda f: Image.new("RGB", (40, 40), "red").save(f / "red.png"), "red.png"),
    "misnamed": ("misnamed", lambda f: picture(8).save(f / "a.png", "JPEG"), "a.png"),
    "small": ("small", lambda f: picture(8, 20, 30).save(f / "small.png"), "small.png"),
    "long": ("crop", lambda f: picture(8, 200, 40).save(f / "long.png"), "long.png"),
    "alpha": ("converted", lambda f: picture(8).convert("RGBA").save(f / "a.png"), "a.png"),
    "no caption": ("missing_caption", lambda f: (f / "001.txt").unlink(), "001.png"),
    "empty caption": ("empty_caption", lambda f: (f / "001.txt").write_text(" \n"), "001.png"),
    "long caption": (
        "long_caption", lambda f: (f / "001.txt").write_text("word " * LONG_CAPTION), "001.png"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_file_and_a_remedy(
    fault: str, make_folder: MakeFolder
) -> None:
    code, plant, name = FAULTS[fault]
    folder = make_folder()
    before = codes(examine(folder, size=40))
    plant(folder)
    report = examine(folder, size=40)
    assert code not in before
    finding = next(f for f in report.findings if f.code == code)
    assert any(name in example for example in finding.examples)
    assert finding.count == 1 and finding.message and finding.remedy
    assert finding.remedy in as_text(report)


def test_few_pictures_and_no_captions_are_noted(make_folder: MakeFolder) -> None:
    report = examine(make_folder(3, captions=False), size=40)
    assert {"few", "no_captions"} <= codes(report)
    assert report.healthy


def test_captions_come_from_metadata_before_text_files(make_folder: MakeFolder) -> None:
    from lcm_studio.data.listing import list_folder

    folder = make_folder(2)
    _rows(folder, '{"file_name": "000.png", "text": "from metadata", "label": 3}')
    first, second = list_folder(folder).entries
    assert (first.caption, first.label) == ("from metadata", 3)
    assert (second.caption, second.label) == ("caption 1", None)


@pytest.mark.parametrize("place", ["", "nowhere", "a\0b", "000.png", "~nobody/x"])
def test_places_that_are_none_are_one_sentence(
    place: str, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_folder())
    with pytest.raises(DataError) as raised:
        examine(place)
    assert len(str(raised.value).splitlines()) == 1


def test_an_empty_folder_is_an_error_not_a_crash(tmp_path: Path) -> None:
    report = examine(tmp_path)
    assert codes(report) == {"empty"} and not report.healthy


def test_pickles_in_shards_are_named_and_never_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(canary))
    members = {"a.png": png(1), "a.txt": b"one", "b.png": png(2), "b.json": b'{"text": "two"}'}
    hostile = {f"a.{s}": payload for s in ("pkl", "pyd", "pth", "pickle")} | {"c.pkl": payload}
    shard = write_tar(tmp_path / "x-000.tar", members | hostile)
    report = examine(str(shard), size=40)
    assert (report.pictures, report.captioned) == (2, 2)
    finding = next(f for f in report.findings if f.code == "pickle")
    assert finding.count == 5 and not report.healthy
    assert not canary.exists()


def test_broken_shards_are_named(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "x-0.tar", {f"{i}.png": png(i, 200, 200) for i in range(8)})
    (tmp_path / "x-1.tar").write_bytes(whole.read_bytes()[:9000])
    report = examine(str(tmp_path / "x-{0..1}.tar"), size=40)
    assert {"broken_shard", "duplicate"} <= codes(report)


@pytest.mark.parametrize(
    "pattern",
    [
        "pipe:touch canary", "pipe:touch canary #.tar", "https://x/y.tar", "s3://b/x.tar", "file:x.tar",
        "cat x |.tar", "x.tar.gz", "no-{000..002}.tar", "x-{0..999999999}.tar", "x-{.tar", "x-{}.tar",
        "{0..999}{0..999}{0..999}.tar", "x\0.tar", "folder",
    ],
)  # fmt: skip
def test_shard_strings_never_run_or_fetch_anything(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        expand(pattern)
    assert list(tmp_path.iterdir()) == []


def test_braces(tmp_path: Path) -> None:
    for name in ("s-008", "s-009", "s-010", "t"):
        write_tar(tmp_path / f"{name}.tar", {})
    names = [p.stem for p in expand(f"{tmp_path}/s-{{008..010}}.tar")]
    assert names == ["s-008", "s-009", "s-010"]
    assert [p.stem for p in expand(f"{tmp_path}/{{t,s-008}}.tar")] == ["t", "s-008"]


def test_the_contact_sheet_shows_bad_files_too(make_folder: MakeFolder) -> None:
    folder = make_folder()
    _truncate(folder)
    sheet = contact_sheet(folder)
    assert sheet.size == (6 * 156 + 8, 2 * 186 + 8)


def test_file_names_are_escaped_on_the_page(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes(b"no")
    page = as_html(examine(folder, size=40))
    assert "<img" not in page and "&lt;img" in page


def test_the_command(make_folder: MakeFolder, tmp_path: Path, capsys) -> None:
    folder, sheet = make_folder(), tmp_path / "sheet.png"
    assert main(["data", "doctor", str(folder), "--size", "40", "--sheet", str(sheet)]) == 0
    assert "6 of 6 pictures can be used" in capsys.readouterr().out
    assert Image.open(sheet).size[0] > 100
    _truncate(folder)
    assert main(["data", "doctor", str(folder), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is False and said["broken"][0][0] == "bad.png"
    assert main(["data", "doctor", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["data", "doctor", str(folder), "--size", "0"]) == 2


LAYOUTS: dict[str, dict[str, bytes]] = {
    "caption": {"000.caption": b"a lake"},
    "txt wins": {"000.txt": b"a lake", "000.caption": b"another"},
    "utf-8 mark": {"000.txt": b"\xef\xbb\xbfa lake"},
    "utf-16": {"000.txt": "a lake".encode("utf-16")},
    "csv": {"metadata.csv": b"file_name,text\n000.png,a lake\n"},
    "csv of utf-16": {"metadata.csv": "file_name,caption\n000.png,a lake\n".encode("utf-16")},
    "csv with a mark": {"metadata.csv": b"\xef\xbb\xbffile_name, prompt\n000.png, a lake\n"},
    "json rows": {"metadata.json": b'[{"image": "000.png", "description": "a lake"}]'},
    "json by name": {"metadata.json": b'{"000.png": {"caption": "a lake"}}'},
    "json by stem": {"metadata.json": b'{"000": {"tags": "a lake"}}'},
    "json captions": {"metadata.json": b'{"000.png": "a lake"}'},
    "jsonl": {"metadata.jsonl": b'\xef\xbb\xbf{"file_name": "000.png", "text": "a lake"}\n'},
    "jsonl, lists": {"metadata.jsonl": b'{"path": "000.png", "captions": ["a lake", "b"]}\n'},
    "jsonl, image": {"metadata.jsonl": b'{"image": "000.png", "caption": "a lake"}\n'},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_are_read_in_the_layouts_of_other_tools(
    layout: str, make_folder: MakeFolder
) -> None:
    from lcm_studio.data.listing import list_folder

    folder = make_folder(1, captions=False)
    for name, data in LAYOUTS[layout].items():
        (folder / name).write_bytes(data)
    listing = list_folder(folder)
    assert [entry.caption for entry in listing.entries] == ["a lake"]
    assert listing.orphans == listing.bad_rows == listing.absent_rows == ()
    assert listing.wordless_tables == ()


def test_a_linked_picture_has_the_caption_beside_the_link(make_folder: MakeFolder) -> None:
    from lcm_studio.data.listing import list_folder

    folder = make_folder(2)
    (folder / "chosen").mkdir()
    for name in ("000.png", "001.png"):
        (folder / "chosen" / name).symlink_to(folder / name)
    (folder / "chosen" / "000.caption").write_text("beside the link")
    captions = {entry.name: entry.caption for entry in list_folder(folder).entries}
    assert captions["chosen/000.png"] == "beside the link"
    assert captions["chosen/001.png"] == "caption 1"


def test_a_table_without_a_caption_column_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder(1)
    (folder / "metadata.csv").write_text("file_name,beschreibung\n000.png,ein See\n")
    (finding,) = [f for f in examine(folder).findings if f.code == "metadata_columns"]
    assert "beschreibung" in finding.examples[0]
    assert "caption" in finding.remedy


def test_keys_of_shards_may_hold_dots(tmp_path: Path) -> None:
    from lcm_studio.data.shards import index_shards, read_caption

    dotted = {"img.0001.png": png(1), "img.0001.txt": b"one", "img.0002.png": png(2)}
    plain = {"x.jpg": png(3), "x.seg.png": png(4), "x.txt": "three".encode("utf-16")}
    tar = write_tar(tmp_path / "dots.tar", {**dotted, **plain})
    captions = {sample.key: read_caption(sample) for sample in index_shards(str(tar)).samples}
    assert captions == {"img.0001": "one", "img.0002": None, "x": "three"}
