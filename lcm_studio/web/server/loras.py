"""LoRA and textual inversion files that users hand over: one gate, a private folder, and the name a form knows them by.

A form names an uploaded file `uploaded/KEY/NAME.safetensors`, so that no path of the server shows. Paths of one's
own are for users that are known (`Options.free_paths`), as with models.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import BadRequest, ModelError, StudioError

if TYPE_CHECKING:
    from lcm_studio.spec.requests import EmbeddingSpec, LoraSpec

PREFIX = "uploaded/"
SUFFIX = ".safetensors"
KEPT = 4 * 1024**3  # bytes of all files together; the oldest make room
NAME = re.compile(r"[^\w.+-]+")


class LoraStore:
    """Uploaded LoRAs and textual inversions of this run. `limit`: bytes of one file."""

    def __init__(self, folder: Path, *, limit: int, free_paths: bool) -> None:
        self.folder, self.limit, self.free_paths = folder, limit, free_paths

    @property
    def instead(self) -> str:
        """What to do with a file that is too large, for this user."""
        if self.free_paths:
            return "put it on the studio's machine and give its path instead"
        return "use a LoRA of lower rank or in half precision"

    async def receive(self, name: str, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Take a file in: {name: what the form says, title, bytes, and layers of a LoRA or word of a textual inversion}.

        Raises ModelError for pickles, files that are too large or not whole, and files that hold something else.
        """
        title = clean(name)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.folder / f"part-{secrets.token_hex(8)}{SUFFIX}"
        digest, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                async for chunk in body:
                    size += len(chunk)
                    if size > self.limit:
                        raise ModelError(
                            f"{title} is larger than {self.limit // 2**20} MB; {self.instead}"
                        )
                    digest.update(chunk)
                    file.write(chunk)
            kind = check(part, title)
            key = digest.hexdigest()[:16]
            target = self.folder / key / title
            target.parent.mkdir(exist_ok=True)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        self._make_room(target.parent)
        return {"name": f"{PREFIX}{key}/{title}", "title": title, "bytes": size, **kind}

    def _make_room(self, newest: Path) -> None:
        folders = sorted(
            (f for f in self.folder.iterdir() if f.is_dir() and f != newest),
            key=lambda f: f.stat().st_mtime,
        )
        sizes = {f: sum(p.stat().st_size for p in f.iterdir()) for f in (*folders, newest)}
        while folders and sum(sizes.values()) > KEPT:
            sizes.pop(folders[0])
            shutil.rmtree(folders.pop(0), ignore_errors=True)

    def resolve(self, loras: tuple[LoraSpec, ...]) -> tuple[LoraSpec, ...]:
        """The files that a form names. Raises BadRequest for one that is gone or not this user's to name."""
        return tuple(replace(lora, path=self._path(lora.path)) for lora in loras)

    def resolve_embeddings(self, specs: tuple[EmbeddingSpec, ...]) -> tuple[EmbeddingSpec, ...]:
        """The same of textual inversions; a word of one in the studio's folder stays as it is."""
        return tuple(
            spec if is_word(spec.path) else replace(spec, path=self._path(spec.path))
            for spec in specs
        )

    def triggers(self, loras: tuple[LoraSpec, ...]) -> tuple[str, ...]:
        """Words that the files were trained with, where they say so; a file that cannot be read says nothing."""
        from lcm_studio.models.lora_file import lora_facts

        words: list[str] = []
        for lora in loras:
            with contextlib.suppress(StudioError, OSError):
                words += lora_facts(Path(self._path(lora.path))).triggers
        return tuple(dict.fromkeys(words))

    def _path(self, said: str) -> str:
        inside = said.startswith(PREFIX)
        path = self.folder / said.removeprefix(PREFIX) if inside else Path(said)
        try:
            ours = path.resolve().is_relative_to(self.folder.resolve())
        except (OSError, ValueError):
            ours = False
        if inside and not (ours and path.is_file()):
            raise BadRequest(f"{PurePosixPath(said).name} is no longer there; upload it again")
        if not (ours or self.free_paths):
            raise BadRequest("files are not chosen by path here; upload the file")
        return str(path)

    def shown(self, path: str) -> str:
        """What a form says for a file that `resolve` has named."""
        root = f"{self.folder}/"
        return PREFIX + path.removeprefix(root) if path.startswith(root) else path


def clean(name: str) -> str:
    """A file name that is safe to use. Raises ModelError where it is no .safetensors file's."""
    from lcm_studio.models.files import PICKLES

    title = PurePosixPath(name.replace("\\", "/")).name
    ending = PurePosixPath(title).suffix.lower()
    if ending in PICKLES:
        raise ModelError(
            f"{title[:80]} holds pickled weights, which can run code; use a .safetensors file"
        )
    if ending != SUFFIX:
        raise ModelError(f"{title[:80] or 'the file'} is no LoRA file; choose a .safetensors file")
    return (NAME.sub("-", title[: -len(SUFFIX)]).strip(".-")[:80] or "lora") + SUFFIX


def is_word(path: str) -> bool:
    """Whether it can only be the word of a textual inversion in a folder, and no file."""
    return PurePath(path).name == path and not path.lower().endswith(SUFFIX)


def check(path: Path, title: str) -> dict[str, Any]:
    """Layers of a LoRA, or word and vectors of a textual inversion.

    Raises ModelError where it is broken or something else, by the name of what it is.
    """
    from lcm_studio.models import inversion_file
    from lcm_studio.models.files import read_header
    from lcm_studio.models.lora_file import facts_of

    try:
        header = read_header(path)
    except ModelError as error:
        raise ModelError(str(error).replace(path.name, title)) from error
    if inversion_file.is_inversion(header.shapes):
        facts = inversion_file.facts_of(path, header, title)
        return {"word": facts.words[0], "vectors": facts.vectors}
    lora = facts_of(header, title)
    return {"layers": len(lora.layers), "triggers": list(lora.triggers)}
