"""Weights that users hand over: what a file is, told from its first bytes, and whole checkpoints into a folder of models."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.models.files import MAX_HEADER
from lcm_studio.spec.errors import ModelError
from lcm_studio.web.server import loras

if TYPE_CHECKING:
    from lcm_studio.engine import Engine

HEAD = MAX_HEADER + 8  # bytes at a file's start that say what it is
SPARE = 2**30  # bytes that stay free on the disk
CHUNK = 2**20
OLD = 24 * 3600.0  # seconds; a file that is under way is written to all the time
MODEL = "model"


class ModelStore:
    """Whole checkpoints. `folder`: of models, where they stay; one of the engine's own. `limit`: bytes of one file.

    `allowed`: whether this studio's users may add models.
    """

    def __init__(self, engine: Engine, folder: Path, *, limit: int, allowed: bool) -> None:
        self.engine, self.folder, self.limit, self.allowed = engine, folder, limit, allowed

    def tell(self, name: str, size: int, head: bytes) -> dict[str, Any]:
        """What a file of `size` bytes that begins with `head` is: {kind: lora, inversion or model, title, bytes}.

        Raises ModelError where it is nothing that the studio takes, before its weights have travelled.
        """
        title = loras.clean(name)
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
        if not 2 <= length <= len(head) - 8 or size < len(head):
            raise ModelError(
                f"{title} is not a whole safetensors file (wrong type or cut short); download it again"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._part(title) as part:
            with part.open("wb") as file:
                file.write(head[: 8 + length])
                file.truncate(
                    size
                )  # the header is checked against the size, and nothing else is looked at
            kind = self._kind(part, title)
        if kind == MODEL:
            self._may(title, size)
        return {"kind": kind, "title": title, "bytes": size}

    async def receive(self, name: str, size: int, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Takes a checkpoint into the folder: {name: the model's id, title, bytes}.

        Raises ModelError for what is none, too large, or cut short. A file of that name and content that is there stays.
        """
        title = loras.clean(name)
        self._may(title, size)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        with self._part(title) as part:
            taken = 0
            with part.open("wb") as file:
                async for piece in _pieces(body):
                    taken += len(piece)
                    if taken > size:
                        raise ModelError(f"{title} is larger than was said; send it again")
                    await asyncio.to_thread(file.write, piece)
            if taken < size:
                raise ModelError(f"{title} came only in part; send it again")
            name = await asyncio.to_thread(self._settle, part, title)
        return {"name": name, "title": title, "bytes": size}

    def _settle(self, part: Path, title: str) -> str:
        """Puts a file that has come into the folder; its name there."""
        if self._kind(part, title) != MODEL:
            raise ModelError(f"{title} is no whole checkpoint; drop it on the page")
        target = self._place(part, title)
        if target is None:
            return title
        part.replace(target)
        return target.name

    def _sweep(self) -> None:
        """Removes what a studio that was killed has left of files under way."""
        for folder in self.folder.glob("part-*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > OLD:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _part(self, title: str) -> Any:
        """A place for a file that is under way, under its own name, for that may say what it is."""
        folder = self.folder / f"part-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder / title
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _kind(self, path: Path, title: str) -> str:
        """lora, inversion or model. Raises ModelError for anything else, by the name of what it is."""
        from lcm_studio.models.files import read_header
        from lcm_studio.models.single import layout_of

        try:
            return "inversion" if "word" in loras.check(path, title) else "lora"
        except ModelError:
            if layout_of(read_header(path).shapes) is None:
                raise
        self.engine.info(str(path))  # with the sentence that says what is missing
        return MODEL

    def _may(self, title: str, size: int) -> None:
        """Raises ModelError where a checkpoint of that size is not taken, with what to do."""
        if not self.allowed:
            raise ModelError(
                f"{title} is a whole model; models are put into the studio's folder by who runs it"
            )
        if size > self.limit:
            raise ModelError(
                f"{title} has {size / 2**30:.1f} GB, and at most {self.limit / 2**30:.1f} GB are taken over the page; put it into "
                "a folder of --models-dir on the studio's machine"
            )
        free = shutil.disk_usage(_there(self.folder)).free
        if size + SPARE > free:
            raise ModelError(
                f"{title} has {size / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free on the studio's disk; make room there"
            )

    def _place(self, part: Path, title: str) -> Path | None:
        """Where the file goes: its name, or that with a number; None where the same one is there."""
        stem, number = title.removesuffix(loras.SUFFIX), 1
        target = self.folder / title
        while target.exists():
            if number == 1 and _same(target, part):
                return None
            number += 1
            target = self.folder / f"{stem}-{number}{loras.SUFFIX}"
        return target


async def _pieces(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of CHUNK at least: each is written on a thread of its own."""
    held = bytearray()
    async for chunk in body:
        held += chunk
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _there(folder: Path) -> Path:
    return folder if folder.exists() else _there(folder.parent)


def _same(a: Path, b: Path) -> bool:
    if a.stat().st_size != b.stat().st_size:
        return False
    with a.open("rb") as one, b.open("rb") as other:
        while chunk := one.read(CHUNK):
            if chunk != other.read(CHUNK):
                return False
    return True
