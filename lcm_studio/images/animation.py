"""GIF and MP4 files that carry the settings which made them: a comment in a GIF, a box of our own at the end of an MP4."""

from __future__ import annotations

import io
import json
import struct
import uuid
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from lcm_studio.images.png import MAX_TEXT

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

SUFFIXES = (".gif", ".mp4")
OURS = uuid.uuid5(
    uuid.NAMESPACE_URL, "lcm-studio/settings"
).bytes  # names our box (ISO/IEC 14496-12, 4.2)
MOST_BOXES = 1000


def text_of(settings: Mapping[str, Any]) -> bytes:
    """Settings as they are written."""
    return json.dumps(dict(settings), ensure_ascii=True, allow_nan=False).encode("ascii")


def box_of(settings: Mapping[str, Any]) -> bytes:
    """What an MP4 ends with; players pass it by."""
    body = OURS + text_of(settings)
    return struct.pack(">I4s", 8 + len(body), b"uuid") + body


def read_animation(file: IO[bytes], suffix: str) -> dict[str, Any]:
    """The settings in an open GIF or MP4; empty where there are none. Raises ValueError for what is neither."""
    text = _comment(file) if suffix == ".gif" else _box(file)
    try:
        values = json.loads(text) if 0 < len(text) <= MAX_TEXT else {}
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _comment(file: IO[bytes]) -> bytes:
    from PIL import Image

    try:
        with Image.open(file, formats=("GIF",)) as image:
            comment = image.info.get("comment", b"")
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError("this is no GIF") from error
    return comment if isinstance(comment, bytes) else b""


def _box(file: IO[bytes]) -> bytes:
    """Goes from box to box without reading them."""
    size = file.seek(0, io.SEEK_END)
    at = 0
    for number in range(MOST_BOXES):
        file.seek(at)
        header = file.read(8)
        if number == 0 and header[4:] != b"ftyp":
            raise ValueError("this is no MP4")
        if len(header) < 8:
            break
        length, kind = struct.unpack(">I4s", header)
        first = 8
        if length == 1:  # a length of 64 bits follows
            large = file.read(8)
            if len(large) < 8:
                break
            (length,), first = struct.unpack(">Q", large), 16
        if length < first or at + length > size:
            break
        if kind == b"uuid" and length <= MAX_TEXT and file.read(16) == OURS:
            return file.read(length - first - 16)
        at += length
    return b""


def first_frame(path: str, suffix: str) -> Pixels:
    """`(H, W, 3)` of a GIF or MP4. Raises ValueError where there is none."""
    import cv2
    import numpy as np
    from PIL import Image

    if suffix == ".gif":
        try:
            with Image.open(path, formats=("GIF",)) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, EOFError) as error:
            raise ValueError("this is no GIF") from error
    video = cv2.VideoCapture(path)
    try:
        there, frame = video.read()
    finally:
        video.release()
    if not there:
        raise ValueError("this MP4 has no frame")
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8)
