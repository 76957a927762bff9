"""PNG files that carry the settings which made them, and reading those back without decoding a pixel."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.images.chunks import SIGNATURE, TEXTS, chunk, chunks, keyword
from lcm_studio.images.parameters import parameters_line, parse_parameters
from lcm_studio.spec.errors import BadImage
from lcm_studio.spec.regular import read_regular

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

KEY = "lcm_studio"
COMMON_KEY = "parameters"
MAX_TEXT = 256 * 1024
MAX_FILE = 100 * 1024 * 1024


def png_bytes(pixels: Pixels, settings: Mapping[str, Any] | None = None) -> bytes:
    """`pixels` `(H, W, 3 or 4)` as a PNG with `settings` in two text chunks: ours (JSON) and the common line."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if settings is not None:
        info.add_text(KEY, json.dumps(dict(settings), ensure_ascii=True, allow_nan=False))
        info.add_text(COMMON_KEY, parameters_line(settings))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", pnginfo=info, compress_level=4)
    return out.getvalue()


def write_png(path: str | Path, pixels: Pixels, settings: Mapping[str, Any] | None = None) -> Path:
    """Writes `png_bytes` to `path` in one move, so that no reader sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".png")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(png_bytes(pixels, settings))
        os.chmod(name, 0o644)  # noqa: PTH101
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def read_settings(source: str | Path | bytes) -> dict[str, Any] | None:
    """The settings in a PNG: ours, else what the common line tells; None where there are none.

    Text chunks alone are read, within limits. Raises BadImage where the file is no PNG.
    """
    if isinstance(source, bytes):
        raw = source
    else:
        path = Path(source)
        try:
            raw = read_regular(path, MAX_FILE)
        except (OSError, ValueError) as error:
            raise BadImage(
                f"{path.name[:80]!r} cannot be read as a PNG under 100 MB; choose another file"
            ) from error
    if not raw.startswith(SIGNATURE):
        raise BadImage("only PNG files carry settings; drop a PNG that the studio has written")
    texts = known_texts(raw)
    if KEY in texts:
        try:
            values = json.loads(texts[KEY], parse_constant=_no_number)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict):
            return values
    return parse_parameters(texts[COMMON_KEY]) if COMMON_KEY in texts else None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def known_texts(raw: bytes) -> dict[str, str]:
    """The texts of our two keywords, the first of each; one that is larger than MAX_TEXT counts as nothing."""
    texts: dict[str, str] = {}
    for kind, data in chunks(raw):
        name = keyword(data).decode("latin-1")
        if (
            kind in TEXTS
            and name in (KEY, COMMON_KEY)
            and name not in texts
            and len(data) <= MAX_TEXT
        ):
            text = _text(kind, bytes(data), name)
            if text is not None:
                texts[name] = text
    return texts


def _text(kind: bytes, data: bytes, name: str) -> str | None:
    """What Pillow makes of one text chunk, in a picture of one pixel; it inflates a megabyte at most."""
    from PIL import Image

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = chunk(b"IDAT", zlib.compress(b"\0\0"))
    small = (chunk(b"IHDR", header), chunk(kind, data), pixel, chunk(b"IEND", b""))
    try:
        with Image.open(io.BytesIO(SIGNATURE + b"".join(small)), formats=("PNG",)) as image:
            text = getattr(image, "text", {}).get(name)
    except (OSError, ValueError, SyntaxError, LookupError, EOFError):
        return None
    if text is None or len(text) > MAX_TEXT:
        return None
    return str(text) if kind == b"iTXt" else _utf8(str(text))


def _utf8(text: str) -> str:
    """The PNG standard says Latin-1 outside iTXt, but several programs write UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
