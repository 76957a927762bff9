"""Pictures and captions out of an uploaded zip: by name and size only, nothing outside the folder, nothing huge."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from lcm_studio.spec.errors import BadRequest

MAX_BYTES = 8 * 2**30
_MAX_MEMBERS = 100_000


def unzip(
    source: Path, folder: Path, *, wanted: Collection[str], most: int, limit: int = MAX_BYTES
) -> int:
    """Writes the members with a suffix in `wanted` into `folder`; returns how many.

    Folders inside become part of the name (a/1.png is a-1.png), but for one that holds everything. Raises
    BadRequest for a broken or encrypted zip, one without pictures, more than `most` files or `limit` bytes.
    """
    name = source.name[:60]
    try:
        with zipfile.ZipFile(source) as archive:
            members = _members(archive, wanted)
            if not members:
                raise BadRequest(f"{name!r} holds no PNG, JPEG or WebP picture")
            if len(members) > most:
                raise BadRequest(
                    f"{name!r} holds {len(members)} files, at most {most} can be uploaded; "
                    "use a folder with --data-dir"
                )
            if sum(info.file_size for info, _ in members) > limit:
                raise BadRequest(
                    f"{name!r} unpacks to more than {limit // 2**20} MB; use a folder with --data-dir"
                )
            for info, target in members:
                with (
                    archive.open(info) as packed,
                    free_name(folder, target).open("xb") as file,
                ):
                    shutil.copyfileobj(packed, file)  # zipfile stops at the size that was checked
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadRequest(
            f"{name!r} cannot be unpacked ({str(error)[:80]}); pack it again without a password"
        ) from None
    return len(members)


def free_name(folder: Path, name: str) -> Path:
    """A path in `folder` that is not taken: `name`, or with a number."""
    plain = Path(name).name
    target, number = folder / plain, 1
    while target.exists():
        target = folder / f"{Path(plain).stem}-{number}{Path(plain).suffix}"
        number += 1
    return target


def _members(
    archive: zipfile.ZipFile, wanted: Collection[str]
) -> list[tuple[zipfile.ZipInfo, str]]:
    """(member, flat name) of what is wanted; none where there is no picture among it."""
    if len(archive.infolist()) > _MAX_MEMBERS:
        raise BadRequest(f"the zip lists {len(archive.infolist())} files; use --data-dir instead")
    found = []
    for info in archive.infolist():
        parts = list(PurePosixPath(info.filename.replace("\\", "/")).parts)
        if info.is_dir() or not parts or parts[-1].startswith(".") or parts[0] == "__MACOSX":
            continue
        if PurePosixPath(parts[-1]).suffix.lower() in wanted:
            found.append((info, [part for part in parts if part not in ("/", "..", ".")]))
    if not any(
        PurePosixPath(parts[-1]).suffix.lower() not in (".txt", ".jsonl") for _, parts in found
    ):
        return []
    while all(len(parts) > 1 for _, parts in found) and len({parts[0] for _, parts in found}) == 1:
        found = [(info, parts[1:]) for info, parts in found]
    return [(info, "-".join(parts).replace("\0", "")) for info, parts in found]
