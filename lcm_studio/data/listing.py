"""The pictures of a folder and their captions: from metadata.jsonl, from a .txt beside them, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

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
MAX_CAPTION = 4000
_CAPTION_KEYS = ("text", "caption", "prompt")


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
    has_metadata: bool = False


@dataclass
class _Notes:
    unread: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    bad_captions: list[str] = field(default_factory=list)
    bad_rows: list[str] = field(default_factory=list)


def list_folder(folder: str | Path) -> Listing:
    """The listing of `folder` and the folders in it; raises DataError when there is nothing to list."""
    root = _root(folder)
    notes = _Notes()
    paths = list(_walk(root))
    tables = [path for path in paths if path.name == "metadata.jsonl" and _inside(path, root)]
    rows: dict[str, dict[str, Any]] = {}
    for table in tables:
        _metadata(table, table.parent.relative_to(root), rows, notes)
    entries: list[Entry] = []
    texts: set[str] = set()
    for path in paths:
        name = path.relative_to(root).as_posix()
        suffix = path.suffix.lower()
        if suffix == ".txt":
            texts.add(name)
        elif suffix in OTHER_PICTURES:
            notes.unread.append(name)
        elif suffix in PICTURES:
            resolved = path.resolve()
            if resolved.is_relative_to(root):
                entries.append(_entry(name, resolved, rows, notes))
            else:
                notes.outside.append(name)
        if len(entries) > MAX_FILES:
            raise DataError(f"{root} holds more than {MAX_FILES} pictures; use webdataset shards")
    names = {entry.name for entry in entries}
    stems = {str(PurePosixPath(name).with_suffix(".txt")) for name in names}
    return Listing(
        root=root,
        entries=tuple(entries),
        unread=tuple(notes.unread),
        outside=tuple(notes.outside),
        orphans=tuple(sorted(texts - stems)),
        bad_captions=tuple(notes.bad_captions),
        bad_rows=tuple(notes.bad_rows),
        absent_rows=tuple(sorted(set(rows) - names)),
        has_metadata=bool(tables),
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


def _entry(name: str, path: Path, rows: Mapping[str, Mapping[str, Any]], notes: _Notes) -> Entry:
    row = rows.get(name)
    if row is not None:
        text = next((row[key] for key in _CAPTION_KEYS if isinstance(row.get(key), str)), None)
        label = row.get("label")
        label = label if isinstance(label, int) and not isinstance(label, bool) else None
        if text is not None or label is not None:
            return Entry(name=name, path=path, caption=_tidy(text), label=label)
    beside = path.with_suffix(".txt")
    try:
        with open_regular(beside) as file:
            data = file.read(4 * MAX_CAPTION)
        return Entry(name=name, path=path, caption=_tidy(data.decode("utf-8-sig")))
    except FileNotFoundError:
        return Entry(name=name, path=path)
    except (UnicodeDecodeError, OSError):
        notes.bad_captions.append(name)
        return Entry(name=name, path=path)


def _tidy(text: str | None) -> str | None:
    return None if text is None else " ".join(text.split())[:MAX_CAPTION]


def _inside(path: Path, root: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(root)


def _metadata(table: Path, folder: Path, rows: dict[str, dict[str, Any]], notes: _Notes) -> None:
    """Adds the rows of a metadata.jsonl in `folder` by picture; rows that point outside the folder are refused."""
    where = "" if folder == Path() else f"{folder.as_posix()}/metadata.jsonl "
    with table.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name = PurePosixPath(row["file_name"].replace("\\", "/"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                notes.bad_rows.append(f"{where}line {number}")
                continue
            if name.is_absolute() or ".." in name.parts:
                notes.outside.append(f"{where or 'metadata.jsonl '}line {number}")
                continue
            full = str(PurePosixPath(folder.as_posix()) / name)
            if full in rows:
                notes.bad_rows.append(f"{where}line {number} (a second row for {full})")
            else:
                rows[full] = row
