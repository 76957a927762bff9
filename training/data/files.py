"""Sources over files: a folder of pictures, WebDataset shards, a data set of the Hugging Face hub.

All give RGB uint8 (size, size, 3): a square of the picture, resized. Reading is random access by index, in the
stable order of the listing, so that an order drawn from counters resumes at the exact example.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lcm_studio.data.listing import DataError, Entry, list_folder
from lcm_studio.data.pictures import BrokenPicture, crop_box, fit, open_picture
from lcm_studio.data.shards import Sample, index_shards, read_caption, read_span
from lcm_studio.models.hub import HubError, snapshot, told_offline
from training.data.source import CENTRE, BadSample, Item, View

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_HUB_FILES = (
    "*.png", "*.jpg", "*.jpeg", "*.webp", "*.txt", "*.caption", "*metadata.jsonl", "*metadata.csv",
    "*metadata.json", "*.tar",
)  # fmt: skip


class _Files(Protocol):
    """What the sources share is written against this."""

    def name(self, index: int) -> str: ...
    def read(self, index: int) -> bytes: ...
    def text(self, index: int) -> str | None: ...
    def label(self, index: int) -> int | None: ...


class FileSource:
    """Pictures of `files` cropped and resized to `size`; raises BadSample for one that cannot be used."""

    fixed_captions = True  # the same in every epoch

    def __init__(self, files: _Files, count: int, *, size: int) -> None:
        self._files = files
        self._count = count
        self.size = size

    def __len__(self) -> int:
        return self._count

    def first(self, limit: int) -> FileSource:
        """The first `limit` examples; all of them for 0."""
        count = min(limit, self._count) if limit else self._count
        return FileSource(self._files, count, size=self.size)

    def name(self, index: int) -> str:
        """What the example is called in messages."""
        return self._files.name(index)

    @cached_property
    def key(self) -> str:
        """Changes with any picture, caption or the size: a hash over the content of every file."""
        total = hashlib.sha256(f"centre-{self.size}".encode())
        for index in range(self._count):
            total.update(self.digest(index).encode())
            total.update((self._files.text(index) or "").encode() + b"\0")
        return f"files-{total.hexdigest()[:24]}"

    def digest(self, index: int) -> str:
        """SHA-256 of one picture's bytes, for caches keyed by content; empty when it cannot be read."""
        try:
            return hashlib.sha256(self._files.read(index)).hexdigest()
        except OSError:
            return ""

    def item(self, index: int, view: View = CENTRE) -> Item:
        """The example at `index`; raises BadSample."""
        try:
            image, _ = open_picture(self._files.read(index))
        except BrokenPicture as error:
            raise BadSample(f"{self.name(index)}: {error}") from None
        except OSError as error:
            raise BadSample(f"{self.name(index)}: cannot be read ({error.strerror})") from None
        (width, height), place = image.size, {"across": view.across, "down": view.down}
        left, top, right, _ = crop_box(width, height, self.size, **place)
        scale = self.size / min(width, height)
        before = width - right if view.flip else left
        return Item(
            image=fit(image, self.size, flip=view.flip, **place),
            caption=self._files.text(index) or "",
            label=self._files.label(index),
            original=(height, width),
            corner=(round(top * scale), round(before * scale)),
        )

    def caption(self, index: int, epoch: int) -> str:
        """The caption; the same in every epoch."""
        del epoch
        return self._files.text(index) or ""


class _Folder:
    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries

    def name(self, index: int) -> str:
        return self._entries[index].name

    def read(self, index: int) -> bytes:
        return self._entries[index].path.read_bytes()

    def text(self, index: int) -> str | None:
        return self._entries[index].caption

    def label(self, index: int) -> int | None:
        return self._entries[index].label


class _Shards:
    def __init__(self, samples: tuple[Sample, ...]) -> None:
        self._samples = samples

    def name(self, index: int) -> str:
        return f"{self._samples[index].shard.name}:{self._samples[index].key}"

    def read(self, index: int) -> bytes:
        return read_span(self._samples[index].shard, self._samples[index].picture)

    def text(self, index: int) -> str | None:
        return read_caption(self._samples[index])

    def label(self, index: int) -> int | None:
        del index
        return None


def folder_source(folder: str | Path, *, size: int) -> FileSource:
    """Pictures with their captions, see `lcm_studio.data.listing`; raises DataError."""
    listing = list_folder(folder)
    if not listing.entries:
        raise DataError(f"{listing.root} holds no PNG, JPEG or WebP picture; check the path")
    return FileSource(_Folder(listing.entries), len(listing.entries), size=size)


def shard_source(pattern: str, *, size: int) -> FileSource:
    """Local WebDataset shards by brace pattern; raises DataError."""
    samples = index_shards(pattern).samples
    return FileSource(_Shards(samples), len(samples), size=size)


def hub_source(name: str, *, size: int, cache: Path) -> FileSource:
    """Pictures or shards of a data set on the Hugging Face hub, fetched once into `cache`; no code of it is run."""
    if not _HUB_ID.fullmatch(name):
        raise DataError(f"data set {name[:80]!r} is not like owner/name")
    place = cache / "hub" / name.replace("/", "--")
    try:
        found = snapshot(name, _HUB_FILES, kind="dataset", folder=place, offline=told_offline())
    except HubError as error:
        if told_offline():
            raise DataError(
                f"{name} is on the hub, was not downloaded before and HF_HUB_OFFLINE is set; "
                "unset it, or use a folder"
            ) from None
        raise DataError(f"data set {name} is not available: {error}") from None
    return _downloaded(found, name, size)


def _downloaded(root: Path, name: str, size: int) -> FileSource:
    entries = list_folder(root).entries
    if entries:
        return FileSource(_Folder(entries), len(entries), size=size)
    tars = sorted(root.rglob("*.tar"))
    if tars:
        samples = tuple(s for tar in tars for s in index_shards(str(tar)).samples)
        return FileSource(_Shards(samples), len(samples), size=size)
    raise DataError(f"{name} holds no picture files or .tar shards; export it to a folder first")
