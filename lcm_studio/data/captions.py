"""Captions in the layouts that training tools write: a text file beside a picture, or a table of rows."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_CAPTION = 4000
MAX_JSON = 256 * 1024 * 1024
CAPTION_FILES = (".txt", ".caption")  # beside a picture; kohya's scripts write the second
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json")
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "path")
TEXT_COLUMNS = ("text", "caption", "prompt", "description", "captions", "tags")

Row = Mapping[str, Any]


def decode(data: bytes) -> str:
    """UTF-8 with or without its mark, or UTF-16 with one; raises UnicodeDecodeError for other bytes."""
    return data.decode(encoding_of(data))


def encoding_of(start: bytes) -> str:
    """The encoding that the first bytes of a text mark."""
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if marked else "utf-8-sig"


def tidy(text: str) -> str:
    """One line of at most `MAX_CAPTION` characters."""
    return " ".join(text.split())[:MAX_CAPTION]


def caption_of(row: Row) -> str | None:
    """The caption of a row, from the first column that holds text (or a list of it); None without."""
    for name in TEXT_COLUMNS:
        value = row.get(name)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            value = ", ".join(value) if name == "tags" else value[0]
        if isinstance(value, str):
            return tidy(value)
    return None


def label_of(row: Row) -> int | None:
    """The class of a row; None without."""
    value = row.get("label")
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_table(path: Path) -> Iterator[tuple[str, str | None, Row]]:
    """(which row, the picture it is of, the row) of a `TABLES` file; None for one that cannot be used."""
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(4))
        yield from _READERS[path.suffix](path, encoding)
    except (csv.Error, UnicodeError, OSError) as error:
        yield f"from here on ({error})", None, {}


def _jsonl(path: Path, encoding: str) -> Iterator[tuple[str, str | None, Row]]:
    with path.open(encoding=encoding, errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _row(f"line {number}", _json(line))


def _csv(path: Path, encoding: str) -> Iterator[tuple[str, str | None, Row]]:
    with path.open(encoding=encoding, errors="replace", newline="") as lines:
        table = csv.DictReader(lines, skipinitialspace=True)
        for row in table:
            yield _row(f"line {table.line_num}", {str(k).strip(): v for k, v in row.items()})


def _whole_json(path: Path, encoding: str) -> Iterator[tuple[str, str | None, Row]]:
    """A list of rows, or a mapping of pictures to rows or captions, as kohya's scripts write."""
    if path.stat().st_size > MAX_JSON:
        yield f"(over {MAX_JSON // 2**20} MB: write it as metadata.jsonl)", None, {}
        return
    content = _json(path.read_text(encoding=encoding, errors="replace"))
    if isinstance(content, list):
        for number, row in enumerate(content, 1):
            yield _row(f"row {number}", row)
    elif isinstance(content, dict):
        for name, value in content.items():
            row = {"text": value} if isinstance(value, str) else value
            yield _row(f"row {name[:80]}", row, name)
    else:
        yield "(no JSON list or object)", None, {}


_READERS = {".jsonl": _jsonl, ".csv": _csv, ".json": _whole_json}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _row(where: str, row: Any, name: str | None = None) -> tuple[str, str | None, Row]:
    if not isinstance(row, dict):
        return where, None, {}
    if name is None:
        named = (row.get(column) for column in FILE_COLUMNS)
        name = next((value for value in named if isinstance(value, str) and value), None)
    return where, name, row
