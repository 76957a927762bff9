"""What the data doctor sees of each picture: its bytes, its caption, what it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.data.listing import Listing
from lcm_studio.data.pictures import GATE, BrokenPicture, Facts, open_picture
from lcm_studio.data.shards import ShardIndex, read_caption, read_span
from lcm_studio.spec.regular import read_regular

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Look:
    """One picture as the doctor saw it. `digest`: of the bytes; `shape`: a 64-bit hash of what it shows."""

    name: str
    digest: str
    caption: str | None
    facts: Facts | None = None
    shape: int = 0
    flat: bool = False
    fault: str = ""
    misnamed: bool = False


Reader = tuple[str, Callable[[], bytes], Callable[[], str | None]]


def folder_readers(listing: Listing) -> list[Reader]:
    def caption(text: str | None) -> Callable[[], str | None]:
        return lambda: text

    def picture(path: Path) -> Callable[[], bytes]:
        return lambda: read_regular(path, GATE.max_bytes)

    return [(entry.name, picture(entry.path), caption(entry.caption)) for entry in listing.entries]


def shard_readers(index: ShardIndex) -> list[Reader]:
    def reader(sample: Any) -> Reader:
        name = f"{sample.shard.name}:{sample.key}"
        return (
            name,
            lambda: read_span(sample.shard, sample.picture),
            lambda: read_caption(sample),
        )

    return [reader(sample) for sample in index.samples]


def looks_of(
    readers: Sequence[Reader], workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[Look]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, look in enumerate(pool.map(lambda reader: _look(*reader), readers), 1):
            if progress is not None:
                progress(done, len(readers))
            yield look


def _look(name: str, read: Callable[[], bytes], caption: Callable[[], str | None]) -> Look:
    try:
        data = read()
        text = caption()
    except OSError as error:
        return Look(
            name=name, digest="", caption=None, fault=f"it cannot be read ({error.strerror})"
        )
    digest = hashlib.sha256(data).hexdigest()
    try:
        image, facts = open_picture(data)
    except BrokenPicture as error:
        return Look(name=name, digest=digest, caption=text, fault=str(error))
    shape, flat = _fingerprint(image)
    suffix = Path(name).suffix.lower()
    expected = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(suffix)
    return Look(
        name=name, digest=digest, caption=text, facts=facts, shape=shape, flat=flat,
        misnamed=expected not in (None, facts.format),
    )  # fmt: skip


def _fingerprint(image: Image.Image) -> tuple[int, bool]:
    """A difference hash (Krawetz 2013): is each of 8 x 8 cells brighter than its right neighbour?"""
    import numpy as np

    small = np.asarray(image.convert("L").resize((9, 8)), dtype=np.int16)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2), bool(np.ptp(small) <= 2)
