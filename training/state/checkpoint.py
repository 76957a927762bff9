"""Checkpoints that a crash at any moment cannot spoil.

Written to a hidden temporary folder, synced, described by a manifest of sizes and SHA-256, renamed,
the parent synced; older ones are removed only after that. The newest one whose manifest holds is
the one that counts. Tensors are safetensors, everything else JSON: no pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from training.errors import TrainingFault
from training.state.sharding import whole

MANIFEST = "manifest.json"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_of(root: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return root / f"step-{step:08d}"


def save(
    root: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Writes one checkpoint: a safetensors file for each name in `tensors`, `state` as JSON.

    Split tensors are gathered one after another, in order: the other processes must do so too.
    """
    from safetensors.torch import save_file

    root.mkdir(parents=True, exist_ok=True)
    final, part = folder_of(root, step), root / f".part-{step:08d}"
    for stale in root.glob(".part-*"):
        shutil.rmtree(stale)
    part.mkdir()
    for name, group in tensors.items():
        plain = {key: whole(value).detach().cpu().contiguous() for key, value in group.items()}
        save_file(plain, part / f"{name}.safetensors")
    (part / "state.json").write_text(json.dumps({"step": step, **state}))
    listing = {}
    for path in sorted(part.iterdir()):
        _sync(path)
        listing[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    (part / MANIFEST).write_text(json.dumps({"step": step, "files": listing}, indent=1))
    _sync(part / MANIFEST)
    _sync(part)
    if final.exists():  # the same step written again: an invalid one is in the way
        shutil.rmtree(final)
    part.rename(final)
    _sync(root)
    for old in sorted(root.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return final


def fault(folder: Path) -> str | None:
    """Why a checkpoint cannot be used, or None where its manifest holds."""
    try:
        listing = json.loads((folder / MANIFEST).read_text())["files"]
        for name, about in listing.items():
            path = folder / name
            if path.stat().st_size != about["size"]:
                return f"{name} has another size than its manifest says"
            if _sha256(path) != about["sha256"]:
                return f"{name} has another content than its manifest says"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"no readable manifest ({error})"
    return None


def newest(root: Path) -> Path | None:
    """The newest valid checkpoint below `root`, walking back over spoiled ones."""
    for folder in sorted(root.glob("step-*"), reverse=True):
        if fault(folder) is None:
            return folder
    return None


def refuse_spoiled(root: Path) -> None:
    """Raises TrainingFault "missing_weights" where checkpoints lie below `root` and none can be used."""
    spoiled = sorted(root.glob("step-*"), reverse=True)
    if spoiled:
        raise TrainingFault(
            "missing_weights",
            f"{root} holds {len(spoiled)} checkpoint(s) and none can be used; the newest, "
            f"{spoiled[0].name}: {fault(spoiled[0])}. Restore one of them, or give another --output to "
            "begin anew",
        )


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """(tensors by file name, state) of a checkpoint that `newest` found."""
    from safetensors.torch import load_file

    tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
    return tensors, json.loads((folder / "state.json").read_text())
