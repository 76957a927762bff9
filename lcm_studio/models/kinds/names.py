"""What a file's name proposes. A name may be wrong, so it is asked last, and what it said is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lcm_studio.models.kinds.kind import Kind

# names that every script gives its output say nothing; the folder's name does
PLAIN_NAMES = frozenset(
    [
        "adapter_model",
        "diffusion_pytorch_model",
        "lora",
        "model",
        "pytorch_lora_weights",
        "unet",
    ]
)
STEPS = re.compile(r"(\d{1,2})[-_ ]?steps?(?![a-z])", re.IGNORECASE)


def name_parts(path: Path) -> tuple[str, ...]:
    """The names that may speak: the file's own, or where it is a script's usual one, those of its two folders.

    Of a hub snapshot the repository's name speaks, in place of the hash of the revision.
    """
    stem = path.stem if path.suffix.lower() == ".safetensors" else path.name
    parts = list(path.parts)
    if "snapshots" in parts:
        at = len(parts) - 1 - parts[::-1].index("snapshots")
        repository = parts[at - 1].removeprefix("models--") if at else ""
        return (stem, repository) if stem.lower() not in PLAIN_NAMES else (repository,)
    if stem.lower() in PLAIN_NAMES:
        return tuple(part for part in (path.parent.name, path.parent.parent.name) if part)
    return (stem,)


def by_name(names: Iterable[str], kinds: Sequence[Kind]) -> Kind | None:
    """The first of `kinds` whose words one of `names` bears as words of their own."""
    for name in names:
        for kind in kinds:
            if kind.words and re.search(
                rf"(?<![a-z])(?:{kind.words})(?![a-z])", _split(name), re.IGNORECASE
            ):
                return kind
    return None


def steps_of(names: Iterable[str]) -> int | None:
    """The number of steps that a name speaks of: 4 of `sdxl_lightning_4step_lora`."""
    for name in names:
        match = STEPS.search(name)
        if match:
            return int(match.group(1))
    return None


def _split(name: str) -> str:
    """`DreamShaperTurbo_8LCM` with its words apart: small and large letters, letters and digits."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][A-Za-z])", " ", name)
