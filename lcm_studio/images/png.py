"""PNG files that carry the settings which made them, and reading those back without decoding a pixel."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import BadImage

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

KEY = "lcm_studio"
COMMON_KEY = "parameters"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
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


def parameters_line(settings: Mapping[str, Any]) -> str:
    """The line that other studios write and read: prompt, negative prompt, then `Key: value` pairs."""
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative"):
        lines.append(f"Negative prompt: {settings['negative']}")
    pairs = {
        "Steps": settings.get("steps"),
        "Sampler": "DDIM" if settings.get("sampler") == "ddim" else "LCM",
        "CFG scale": settings.get("guidance"),
        "Seed": settings.get("seed"),
        "Size": f"{settings['width']}x{settings['height']}" if settings.get("width") else None,
        "Model": settings.get("model"),
    }
    lines.append(", ".join(f"{key}: {value}" for key, value in pairs.items() if value is not None))
    return "\n".join(lines)


def read_settings(source: str | Path | bytes) -> dict[str, Any] | None:
    """The settings in a PNG: ours, else what the common line tells; None where there are none.

    Text chunks alone are read, within limits. Raises BadImage where the file is no PNG.
    """
    if isinstance(source, bytes):
        raw = source
    else:
        path = Path(source)
        try:
            if path.stat().st_size > MAX_FILE:
                raise BadImage("the PNG is over 100 MB; settings are read from smaller files")
            raw = path.read_bytes()
        except (OSError, ValueError) as error:
            raise BadImage(f"{path.name[:80]!r} cannot be read; choose another file") from error
    if not raw.startswith(SIGNATURE):
        raise BadImage("only PNG files carry settings; drop a PNG that the studio has written")
    texts = dict(_texts(raw))
    if KEY in texts:
        try:
            said = json.loads(texts[KEY])
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            return said
    return parse_parameters(texts[COMMON_KEY]) if COMMON_KEY in texts else None


def _texts(raw: bytes) -> Iterator[tuple[str, str]]:
    """(keyword, text) of the tEXt, zTXt and iTXt chunks whose text stays under the limit."""
    position = len(SIGNATURE)
    while position + 12 <= len(raw):
        (length,) = struct.unpack(">I", raw[position : position + 4])
        kind = raw[position + 4 : position + 8]
        data = raw[position + 8 : position + 8 + length]
        position += 12 + length
        if len(data) < length or kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt") and length <= MAX_TEXT:
            keyword, _, rest = data.partition(b"\0")
            text = _text(kind, rest)
            if text is not None:
                yield keyword.decode("latin-1"), text


def _text(kind: bytes, rest: bytes) -> str | None:
    try:
        if kind == b"tEXt":
            return rest.decode("latin-1")
        if kind == b"zTXt":
            return _inflate(rest[1:]).decode("latin-1")
        compressed, rest = rest[0], rest[2:]
        _, _, rest = rest.partition(b"\0")
        _, _, rest = rest.partition(b"\0")
        return (_inflate(rest) if compressed else rest).decode("utf-8")
    except (zlib.error, UnicodeDecodeError, IndexError):
        return None


def _inflate(data: bytes) -> bytes:
    """At most MAX_TEXT bytes; more is a bomb and counts as nothing."""
    stream = zlib.decompressobj()
    text = stream.decompress(data, MAX_TEXT)
    if stream.unconsumed_tail:
        raise zlib.error("too long")
    return text


def parse_parameters(text: str) -> dict[str, Any] | None:
    """Settings of the common "parameters" text, or None where it has no step count and seed."""
    body, _, last = text.rpartition("\n")
    pairs = dict(re.findall(r"([A-Z][\w ]*?): ([^,\n]*)(?:,|$)", last))
    try:
        said: dict[str, Any] = {
            "steps": int(pairs["Steps"]),
            "seed": int(pairs["Seed"]),
        }
        if "CFG scale" in pairs:
            said["guidance"] = float(pairs["CFG scale"])
        if "Size" in pairs:
            said["width"], said["height"] = (int(side) for side in pairs["Size"].split("x"))
    except (KeyError, ValueError):
        return None
    prompt, _, negative = body.partition("\nNegative prompt: ")
    said |= {"prompt": prompt, "negative": negative}
    if "Model" in pairs:
        said["model"] = pairs["Model"].strip()
    return said
