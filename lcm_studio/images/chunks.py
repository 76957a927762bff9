"""The chunks of a PNG file: what a reader needs is passed on, everything else is not even looked at.

Libraries inflate text and colour profiles when a file is opened, and refuse the whole picture where one of them is
large or damaged. Pixels depend on neither.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# What decides over pixels. An animation's frames are left out: its first picture is what lies in IDAT.
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf")
ROTATION = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # keywords of texts that may hold it
MAX_ROTATION = 64 * 1024


def chunks(raw: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(type, data) of each chunk; a cut-off last one with what is there of it. Checksums are not compared."""
    view = memoryview(raw)
    position = len(SIGNATURE)
    while position + 8 <= len(view):
        (length,) = struct.unpack(">I", view[position : position + 4])
        kind = bytes(view[position + 4 : position + 8])
        yield kind, view[position + 8 : position + 8 + length]
        if kind == b"IEND":
            return
        position += 12 + length


def chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    """One chunk with its length and checksum."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def keyword(data: bytes | memoryview) -> bytes:
    """Of a text chunk; at most 79 bytes, as the format allows."""
    return bytes(data[:80]).partition(b"\0")[0]


def pixels_only(raw: bytes) -> bytes:
    """The PNG `raw` with the chunks that decide over its pixels, their own bytes and checksums included.

    A colour key of 16 bits is brought to the 8 bits that the picture is read with.
    """
    view = memoryview(raw)
    parts: list[bytes | memoryview] = [SIGNATURE]
    position = len(SIGNATURE)
    deep = False
    for kind, data in chunks(raw):
        whole = view[position : position + 12 + _length(view, position)]
        position += 12 + _length(view, position)
        if kind == b"IHDR" and len(data) >= 10:
            deep = data[8] == 16 and data[9] == 2
        if kind == b"tRNS" and deep and len(data) == 6:
            key = struct.unpack(">3H", data)
            parts.append(chunk(kind, struct.pack(">3H", *(value >> 8 for value in key))))
        elif kind in PIXELS or kind == b"IEND":
            parts.append(whole)
        elif kind in TEXTS and len(data) <= MAX_ROTATION and keyword(data) in ROTATION:
            parts.append(chunk(kind, data))
    return b"".join(parts)


def _length(view: memoryview, position: int) -> int:
    length: int = struct.unpack(">I", view[position : position + 4])[0]
    return length
