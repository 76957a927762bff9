"""The data doctor: looks at every file, names each fault with examples and the remedy, advises on the rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lcm_studio.data.captions import TEXT_COLUMNS
from lcm_studio.data.listing import Listing, list_folder
from lcm_studio.data.looks import Look, folder_readers, looks_of, shard_readers
from lcm_studio.data.pictures import Facts
from lcm_studio.data.shards import ShardIndex, index_shards, looks_like_shards

Level = Literal["error", "warning", "note"]
EXAMPLES = 5
FEW = 100
LONG_CAPTION = 350
_MUCH_CUT = 0.4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault: how many files have it, some of them, and what to do. `code` is stable, for tests."""

    code: str
    level: Level
    count: int
    message: str
    remedy: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """The doctor's report; `usable` pictures can be trained on at `size` pixels."""

    where: str
    kind: Literal["folder", "shards"]
    size: int
    pictures: int
    usable: int
    captioned: int
    cropped: int
    enlarged: int
    sizes: tuple[tuple[str, int], ...] = ()
    findings: tuple[Finding, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def healthy(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable, for `--json`."""
        return asdict(self) | {"healthy": self.healthy}


@dataclass
class _Found:
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, level: Level, names: Sequence[str], message: str, remedy: str) -> None:
        """Notes a fault that `names` have, if any."""
        if names:
            self.findings.append(
                Finding(
                    code=code, level=level, count=len(names), message=message, remedy=remedy,
                    examples=tuple(names[:EXAMPLES]),
                )
            )  # fmt: skip


def examine(
    where: str | Path,
    *,
    size: int = 512,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Examines a folder or shards for training at `size` pixels; raises DataError when there is no such place."""
    text = str(where)
    found = _Found()
    if looks_like_shards(text):
        index = index_shards(text)
        looks = list(looks_of(shard_readers(index), workers, progress))
        _shard_findings(index, found)
        kind: Literal["folder", "shards"] = "shards"
    else:
        listing = list_folder(where)
        looks = list(looks_of(folder_readers(listing), workers, progress))
        _folder_findings(listing, looks, found)
        kind = "folder"
    _picture_findings(looks, size, found)
    _caption_findings(looks, found)
    good = [look for look in looks if look.facts is not None]
    order = {"error": 0, "warning": 1, "note": 2}
    sizes = Counter(f"{look.facts.width} x {look.facts.height}" for look in good if look.facts)
    return Report(
        where=text,
        kind=kind,
        size=size,
        pictures=len(looks),
        usable=len(good),
        captioned=sum(bool(look.caption) for look in good),
        cropped=sum(look.facts.width != look.facts.height for look in good if look.facts),
        enlarged=sum(
            min(look.facts.width, look.facts.height) < size for look in good if look.facts
        ),
        sizes=tuple(sizes.most_common(8)),
        findings=tuple(sorted(found.findings, key=lambda f: order[f.level])),
        broken=tuple((look.name, look.fault) for look in looks if look.fault)[:1000],
    )


def _folder_findings(listing: Listing, looks: Sequence[Look], found: _Found) -> None:
    if not looks:
        found.findings.append(
            Finding(
                code="empty", level="error", count=0,
                message="there is no PNG, JPEG or WebP picture in it",
                remedy="check the path; folders in it are searched too, hidden ones are not",
            )
        )  # fmt: skip
    found.add(
        "format", "warning", listing.unread, "pictures of a format that is not read",
        "convert them to PNG, JPEG or WebP, e.g. `mogrify -format png FILE`",
    )  # fmt: skip
    found.add(
        "outside", "error", listing.outside, "links or rows that lead outside the folder",
        "copy the files into the folder; nothing outside it is read",
    )  # fmt: skip
    found.add(
        "orphan_caption", "warning", listing.orphans, "captions without a picture of the same name",
        "rename the text file like its picture, or remove it",
    )  # fmt: skip
    found.add(
        "caption_encoding", "warning", listing.bad_captions, "captions that are not UTF-8 or UTF-16 text",
        "save the text files as UTF-8; until then these pictures count as without caption",
    )  # fmt: skip
    found.add(
        "metadata_row", "warning", listing.bad_rows, "rows of a metadata table that cannot be used",
        'name the picture in each row, e.g. a line of metadata.jsonl: {"file_name": "a.png", "text": "caption"}',
    )  # fmt: skip
    found.add(
        "metadata_absent", "warning", listing.absent_rows, "rows of a metadata table without their picture",
        "correct file_name, which is relative to the folder, or remove the row",
    )  # fmt: skip

    found.add(
        "metadata_columns", "warning", listing.wordless_tables, "metadata tables without a caption",
        f"call the column of captions one of {', '.join(TEXT_COLUMNS)}",
    )  # fmt: skip


def _shard_findings(index: ShardIndex, found: _Found) -> None:
    found.add(
        "pickle", "error", index.pickles, "shard members that can hold pickled code; none was opened",
        "rebuild the shards without them: pictures, .txt and .json are all that training needs",
    )  # fmt: skip
    found.add(
        "broken_shard", "error", index.broken, "shards or members that end too early or are no tar",
        "copy the shard again, or remove it from the pattern",
    )  # fmt: skip
    found.add(
        "no_picture", "warning", index.without_picture, "samples without a picture",
        "name the picture KEY.png, KEY.jpg or KEY.webp; these samples are left out",
    )  # fmt: skip


def _picture_findings(looks: Sequence[Look], size: int, found: _Found) -> None:
    def names(test: Callable[[Look, Facts], bool]) -> list[str]:
        return [look.name for look in looks if look.facts is not None and test(look, look.facts)]

    found.add(
        "broken", "error", [f"{look.name}: {look.fault}" for look in looks if look.fault],
        "files that cannot be used as pictures",
        "replace or remove them; training skips them and stops when there are too many",
    )  # fmt: skip
    same = _groups(looks, lambda look: look.digest)
    found.add(
        "duplicate", "warning", [" = ".join(group) for group in same],
        "pictures that are there twice, byte for byte",
        "keep one of each: copies are learnt by heart sooner",
    )  # fmt: skip
    exact = {name for group in same for name in group}
    alike = _groups([k for k in looks if k.name not in exact and not k.flat], lambda k: k.shape)
    found.add(
        "similar", "note", [" ~ ".join(group) for group in alike],
        "pictures that look almost the same", "keep the better one, unless that is meant",
    )  # fmt: skip
    found.add(
        "flat", "warning", names(lambda look, facts: look.flat), "pictures of one even colour",
        "remove them, unless that is what the model shall learn",
    )  # fmt: skip
    found.add(
        "misnamed", "note", names(lambda look, facts: look.misnamed),
        "files whose name says another format than they have",
        "rename them; they are read by their content",
    )  # fmt: skip
    found.add(
        "small", "warning", names(lambda look, facts: min(facts.width, facts.height) < size),
        f"pictures smaller than {size} pixels, which are enlarged and soft",
        "use larger originals, or train at a smaller size",
    )  # fmt: skip
    found.add(
        "crop", "warning",
        names(lambda look, facts: 1 - min(facts.width, facts.height) / max(facts.width, facts.height)
              > _MUCH_CUT),
        f"long pictures that lose more than {_MUCH_CUT:.0%} by the square crop",
        "crop them yourself around what matters; the contact sheet shows the square",
    )  # fmt: skip
    found.add(
        "converted", "note",
        names(lambda look, facts: facts.mode not in ("RGB", "L") or facts.frames > 1),
        "pictures with transparency, a palette, CMYK, 16 bits or several frames",
        "nothing to do: alpha goes on white, the first frame counts",
    )  # fmt: skip
    good = sum(look.facts is not None for look in looks)
    if 0 < good < FEW:
        found.findings.append(
            Finding(
                code="few", level="note", count=good, message="few pictures",
                remedy=f"distilling needs no large set, but below {FEW} it learns them by heart; "
                "turn flips on and keep the run short",
            )
        )  # fmt: skip


def _caption_findings(looks: Sequence[Look], found: _Found) -> None:
    good = [look for look in looks if look.facts is not None]
    missing = [look.name for look in good if look.caption is None]
    empty = [look.name for look in good if look.caption == ""]
    if missing and len(missing) == len(good):
        found.add(
            "no_captions", "note", missing, "no picture has a caption",
            "right for a model without text; for text to image put a .txt or .caption beside each",
        )  # fmt: skip
    else:
        found.add(
            "missing_caption", "warning", missing, "pictures without a caption",
            "put a .txt or .caption of the same name beside each; without it the empty prompt is learnt",
        )  # fmt: skip
    found.add(
        "empty_caption", "warning", empty, "captions that are empty",
        "write the caption, or remove the empty .txt if that is meant",
    )  # fmt: skip
    found.add(
        "long_caption", "note",
        [look.name for look in good if look.caption and len(look.caption) > LONG_CAPTION],
        f"captions longer than {LONG_CAPTION} characters",
        "text encoders read about 77 tokens: put what matters first",
    )  # fmt: skip


def _groups(looks: Sequence[Look], key: Callable[[Look], Any]) -> list[list[str]]:
    """Names of those that share a key, in groups of two or more."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for look in looks:
        if look.facts is not None:
            groups[key(look)].append(look.name)
    return [names for names in groups.values() if len(names) > 1]
