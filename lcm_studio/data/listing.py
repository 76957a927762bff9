"""The pictures of a folder and their captions: from a table (`captions.TABLES`), from a text beside them, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lcm_studio.data.captions import (
    CAPTION_FILES,
    MAX_CAPTION,
    TABLES,
    Row,
    caption_of,
    decode,
    label_of,
    read_table,
    tidy,
)
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.regular import open_regular

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
OTHER_PICTURES = (
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    ".jp2",
    ".svg",
    ".psd",
)
MAX_FILES = 2_000_000


class DataError(BadRequest):
    """Data that cannot be trained on; the job ends with reason `data`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One picture: `name` relative to the folder with forward slashes, `path` resolved inside it."""

    name: str
    path: Path
    caption: str | None = None
    label: int | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A folder's pictures in a stable order. The other fields are what the doctor reports."""

    root: Path
    entries: tuple[Entry, ...]
    unread: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    bad_captions: tuple[str, ...] = ()
    bad_rows: tuple[str, ...] = ()
    absent_rows: tuple[str, ...] = ()
    wordless_tables: tuple[str, ...] = ()


@dataclass
class _Notes:
    unread: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    bad_captions: list[str] = field(default_factory=list)
    bad_rows: list[str] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)


def list_folder(folder: str | Path) -> Listing:
    """The listing of `folder` and the folders in it; raises DataError when there is nothing to list."""
    root = _root(folder)
    notes = _Notes()
    paths = list(_walk(root))
    tables = [path for path in paths if path.name in TABLES and _inside(path, root)]
    rows: dict[str, Row] = {}
    for table in tables:
        _metadata(table, table.parent.relative_to(root), rows, notes)
    entries: list[Entry] = []
    texts: set[str] = set()
    for path in paths:
        name = path.relative_to(root).as_posix()
        suffix = path.suffix.lower()
        if suffix in CAPTION_FILES:
            texts.add(name)
        elif suffix in OTHER_PICTURES:
            notes.unread.append(name)
        elif suffix in PICTURES:
            if path.resolve().is_relative_to(root):
                entries.append(_entry(name, path, root, rows, notes))
            else:
                notes.outside.append(name)
        if len(entries) > MAX_FILES:
            raise DataError(f"{root} holds more than {MAX_FILES} pictures; use webdataset shards")
    names = {entry.name for entry in entries}
    stems = {_stem(name) for name in names}
    return Listing(
        root=root,
        entries=tuple(entries),
        unread=tuple(notes.unread),
        outside=tuple(notes.outside),
        orphans=tuple(sorted(name for name in texts if _stem(name) not in stems)),
        bad_captions=tuple(notes.bad_captions),
        bad_rows=tuple(notes.bad_rows),
        absent_rows=tuple(sorted(name for name in rows if name not in names | stems)),
        wordless_tables=tuple(notes.wordless),
    )


def _root(folder: str | Path) -> Path:
    text = str(folder)
    if not text.strip() or "\0" in text:
        raise DataError("no folder is given; name a folder of pictures")
    root = Path(text).expanduser()
    try:
        if not root.exists():
            raise DataError(f"there is no folder {root}; check the path")
        if not root.is_dir():
            raise DataError(f"{root} is a file; give the folder that it is in")
        return root.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{text[:200]!r} cannot be opened: {error}") from None


def _walk(root: Path) -> Iterator[Path]:
    """Files in a stable order, without following links to folders or hidden folders."""
    for place, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place) / name


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _entry(name: str, path: Path, root: Path, rows: Mapping[str, Row], notes: _Notes) -> Entry:
    resolved = path.resolve()
    row = rows.get(name, rows.get(_stem(name), {}))  # kohya's tables name pictures without ending
    text, label = caption_of(row), label_of(row)
    if text is None:
        text = _text_beside(name, path, resolved, root, notes)
    return Entry(name=name, path=resolved, caption=text, label=label)


def _text_beside(name: str, path: Path, resolved: Path, root: Path, notes: _Notes) -> str | None:
    """The caption beside the picture, or beside what a link to it points at."""
    for place in dict.fromkeys((path, resolved)):
        for suffix in CAPTION_FILES:
            beside = place.with_suffix(suffix)
            if not beside.is_file():
                continue
            if not beside.resolve().is_relative_to(root):
                notes.outside.append(beside.relative_to(root).as_posix())
                continue
            try:
                with open_regular(beside) as file:
                    data = file.read(4 * MAX_CAPTION)
                return tidy(decode(data))
            except (UnicodeDecodeError, OSError):
                notes.bad_captions.append(name)
                return None
    return None


def _inside(path: Path, root: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(root)


def _metadata(table: Path, folder: Path, rows: dict[str, Row], notes: _Notes) -> None:
    """Adds the rows of a table in `folder` by picture; rows that point outside the folder are refused."""
    title = (folder / table.name).as_posix()
    where = "" if title == "metadata.jsonl" else f"{title} "
    used, words, columns = 0, 0, ""
    for number, picture, row in read_table(table):
        name = PurePosixPath((picture or "").replace("\\", "/"))
        if picture is None:
            notes.bad_rows.append(f"{where}{number}")
            continue
        if name.is_absolute() or ".." in name.parts:
            notes.outside.append(f"{where or 'metadata.jsonl '}{number}")
            continue
        full = str(PurePosixPath(folder.as_posix()) / name)
        if full in rows:
            notes.bad_rows.append(f"{where}{number} (a second row for {full})")
            continue
        rows[full] = row
        used, columns = used + 1, columns or ", ".join(map(str, row))[:80]
        words += caption_of(row) is not None or label_of(row) is not None
    if used and not words:
        notes.wordless.append(f"{title}: its columns are {columns}")
