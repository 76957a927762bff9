"""WebDataset shards as random-access files: an index of the tar's headers, no decoding, nothing executed.

Only plain `.tar` files on this machine are read. Of a sample (members KEY.ext) the picture, the `.txt` or
`.caption` and the `.json` are looked at, everything else is counted and left alone: a `.pkl`, `.pyd` or
`.pth` member is never opened.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lcm_studio.data.captions import CAPTION_FILES, MAX_CAPTION, caption_of, decode, tidy
from lcm_studio.data.listing import PICTURES, DataError
from lcm_studio.spec.regular import open_regular

MAX_SHARDS = 100_000
MAX_MEMBER = 256 * 1024 * 1024
_BRACE = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_PICKLES = (".pkl", ".pickle", ".pyd", ".pth", ".pt", ".ckpt", ".bin", ".joblib", ".npy", ".npz")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one member of a shard."""

    start: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One picture of a shard with where its caption is."""

    shard: Path
    key: str
    picture: Span
    text: Span | None = None
    about: Span | None = None


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """All samples in order, and what the doctor reports."""

    shards: tuple[Path, ...]
    samples: tuple[Sample, ...]
    pickles: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    without_picture: tuple[str, ...] = ()


def looks_like_shards(where: str) -> bool:
    """Whether a data setting names tar files rather than a folder."""
    return where.endswith((".tar", ".tar.gz", ".tgz")) or "{" in where or where.startswith("pipe:")


def expand(pattern: str) -> tuple[Path, ...]:
    """`scene-{000..009}.tar`, `{a,b}.tar`: local paths, all of which exist; raises DataError."""
    text = pattern.strip()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text) or "|" in text or "\0" in text:
        raise DataError(
            f"shards {text[:80]!r} are not plain local paths; URLs and pipe: are never opened, "
            "download the shards first"
        )
    names = [Path(name).expanduser() for name in _braces(text)]
    for path in names:
        if path.name.endswith((".tar.gz", ".tgz")):
            raise DataError(
                f"{path} is compressed; run `gunzip` on it, since resuming needs random access"
            )
        if path.suffix != ".tar":
            raise DataError(f"shard {path} does not end in .tar; give WebDataset .tar files")
        if not path.is_file():
            raise DataError(f"there is no shard {path}; check the pattern {text[:80]!r}")
    return tuple(path.resolve() for path in names)


def _braces(text: str) -> list[str]:
    match = _BRACE.search(text)
    if match is None:
        if "{" in text or "}" in text:
            raise DataError(
                f"the braces of {text[:80]!r} do not pair; write {{000..009}} or {{a,b}}"
            )
        return [text]
    inner = match[1]
    if numbers := _RANGE.fullmatch(inner):
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= MAX_SHARDS:
            raise DataError(f"{{{inner}}} names more than {MAX_SHARDS} shards; use a smaller range")
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        step = 1 if last >= first else -1
        parts = [f"{n:0{width}d}" for n in range(first, last + step, step)]
    elif "," in inner:
        parts = inner.split(",")
    else:
        raise DataError(f"{{{inner[:40]}}} is no range; write {{000..009}} or {{a,b}}")
    before, after = text[: match.start()], text[match.end() :]
    rest = _braces(after)
    if len(parts) * len(rest) > MAX_SHARDS:
        raise DataError(f"{text[:80]!r} names more than {MAX_SHARDS} shards; use a smaller range")
    return [before + part + end for part, end in itertools.product(parts, rest)]


@dataclass
class _Notes:
    pickles: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)


def index_shards(pattern: str) -> ShardIndex:
    """Walks the headers of all shards of a brace pattern; raises DataError when none holds a picture."""
    shards = expand(pattern)
    notes = _Notes()
    samples = tuple(itertools.chain.from_iterable(_index(shard, notes) for shard in shards))
    if not samples:
        raise DataError(f"the shards {pattern[:80]!r} hold no PNG, JPEG or WebP member; check them")
    return ShardIndex(
        shards=shards,
        samples=samples,
        pickles=tuple(notes.pickles),
        broken=tuple(notes.broken),
        without_picture=tuple(notes.without),
    )


def _index(shard: Path, notes: _Notes) -> Iterator[Sample]:
    groups: dict[str, dict[str, Span]] = {}
    try:
        with open_regular(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isreg() or member.issparse():
                    continue
                stem, dot, rest = member.name.rpartition("/")[2].partition(".")
                suffix = f".{rest.lower()}" if dot else ""
                key = member.name[: len(member.name) - len(rest) - len(dot)] if stem else ""
                if suffix.endswith(_PICKLES):
                    notes.pickles.append(f"{shard.name}:{member.name}")
                elif member.size > MAX_MEMBER:
                    notes.broken.append(f"{shard.name}:{member.name} (larger than 256 MB)")
                elif key:
                    groups.setdefault(key, {})[suffix] = Span(member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        notes.broken.append(f"{shard.name} ({error})")
    size = shard.stat().st_size
    for key, parts in _by_last_dot(groups).items():
        picture = next((parts[s] for s in PICTURES if s in parts), None)
        if picture is None:
            notes.without.append(f"{shard.name}:{key}")
        elif picture.start + picture.length > size:
            notes.broken.append(f"{shard.name}:{key} (the shard ends too early)")
        else:
            text = next((parts[s] for s in CAPTION_FILES if s in parts), None)
            yield Sample(shard=shard, key=key, picture=picture, text=text, about=parts.get(".json"))


def _by_last_dot(groups: dict[str, dict[str, Span]]) -> dict[str, dict[str, Span]]:
    """WebDataset ends a key at its first dot. Where that leaves no picture, names have dots of their own
    (`img.0001.png`): such a group is divided again at the last dot, so that it is read and not dropped."""
    divided: dict[str, dict[str, Span]] = {}
    for key, parts in groups.items():
        plain = any(suffix in parts for suffix in PICTURES)
        if plain or not any(suffix.endswith(PICTURES) for suffix in parts):
            divided[key] = parts
            continue
        for suffix, span in parts.items():
            middle, dot, ending = suffix.rpartition(".")
            divided.setdefault(key + middle, {})[dot + ending] = span
    return divided


def read_span(shard: Path, span: Span) -> bytes:
    """The bytes of one member."""
    with open_regular(shard) as file:
        file.seek(span.start)
        return file.read(span.length)


def read_caption(sample: Sample) -> str | None:
    """The caption from a text member, else from a known column of .json, else None."""
    if sample.text is not None:
        span = Span(sample.text.start, min(sample.text.length, 4 * MAX_CAPTION))
        data = read_span(sample.shard, span)
        try:
            return tidy(decode(data))
        except UnicodeDecodeError:
            return tidy(data.decode("utf-8", errors="replace"))
    if sample.about is not None:
        try:
            about = json.loads(decode(read_span(sample.shard, sample.about)))
        except (ValueError, RecursionError):
            return None
        return caption_of(about) if isinstance(about, dict) else None
    return None
