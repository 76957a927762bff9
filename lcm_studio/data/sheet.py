"""A contact sheet: pictures spread over the data set, what the square crop cuts off dimmed, captions below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw

from lcm_studio.data.listing import list_folder
from lcm_studio.data.pictures import GATE, BrokenPicture, crop_box, open_picture
from lcm_studio.data.shards import index_shards, looks_like_shards, read_caption, read_span
from lcm_studio.spec.regular import read_regular

_CELL, _TEXT, _GAP = 148, 30, 8
_PAPER, _INK, _FAULT = (250, 250, 248), (60, 60, 64), (178, 42, 42)
T = TypeVar("T")


def contact_sheet(where: str | Path, *, count: int = 24, columns: int = 6) -> Image.Image:
    """`count` pictures evenly spread over a folder or shards; raises DataError when there is none."""
    chosen = _choose(where, max(1, count))
    columns = max(1, min(columns, len(chosen)))
    rows = -(-len(chosen) // columns)
    step_x, step_y = _CELL + _GAP, _CELL + _TEXT + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (data, caption) in enumerate(chosen):
        x, y = _GAP + place % columns * step_x, _GAP + place // columns * step_y
        try:
            thumb = _thumb(open_picture(data)[0])
        except BrokenPicture:
            pen.rectangle((x, y, x + _CELL - 1, y + _CELL - 1), outline=_FAULT, width=2)
            pen.text((x + 46, y + 66), "not readable", fill=_FAULT)
            continue
        sheet.paste(thumb, (x + (_CELL - thumb.width) // 2, y + (_CELL - thumb.height) // 2))
        for line, text in enumerate(_wrap(caption or "(no caption)", 25)):
            pen.text((x, y + _CELL + 3 + 12 * line), text, fill=_INK if caption else _FAULT)
    return sheet


def _thumb(image: Image.Image) -> Image.Image:
    """The whole picture small; outside of the square that is trained on it is paler."""
    small = image.copy()
    small.thumbnail((_CELL, _CELL))
    left, top, right, bottom = (round(v) for v in crop_box(*small.size, 1))
    pale = Image.blend(small, Image.new("RGB", small.size, _PAPER), 0.7)
    pale.paste(small.crop((left, top, right, bottom)), (left, top))
    return pale


def _choose(where: str | Path, count: int) -> list[tuple[bytes, str | None]]:
    if looks_like_shards(str(where)):
        samples = _spread(index_shards(str(where)).samples, count)
        return [(read_span(s.shard, s.picture), read_caption(s)) for s in samples]
    entries = _spread(list_folder(where).entries, count)
    return [(_bytes(entry.path), entry.caption) for entry in entries]


def _bytes(path: Path) -> bytes:
    try:
        return read_regular(path, GATE.max_bytes)
    except OSError:
        return b""


def _spread(items: Sequence[T], count: int) -> list[T]:
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _wrap(text: str, width: int, lines: int = 2) -> list[str]:
    rows: list[str] = [""]
    for word in "".join(c if ord(c) < 256 else "?" for c in text).split():
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()[:width]
    if len(rows) > lines:
        rows[lines - 1] = rows[lines - 1][: width - 3] + "..."
    return rows[:lines]
