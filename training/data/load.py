"""From the data fields of a config to a source."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from lcm_studio.data.listing import DataError
from training.config import TrainConfig
from training.data.source import Source
from training.errors import TrainingFault

_LOOKED = 2000  # captions that are looked at before a run; those of shards are read one by one

# Kinds of data that are made and not read: modules with `open_source(config)` and `held_out(count, size, edition)`,
# by name, so that nothing here imports what it does not use.
RENDERED = {"scenes": "training.scenery.source"}


def rendered(kind: str) -> ModuleType:
    """The module of a kind in `RENDERED`."""
    return import_module(RENDERED[kind])


def open_source(config: TrainConfig) -> Source:
    """The source that `config.data` names; raises TrainingFault "data" where it cannot be opened.

    Files may be broken: they are skipped and counted, see `tolerant`.
    """
    data, size = config.data, config.resolution
    if data.kind in RENDERED:
        made: Source = rendered(data.kind).open_source(config)
        return made
    from training.data import files
    from training.data.tolerant import Tolerant

    if not data.path:
        raise TrainingFault("data", f"data.kind={data.kind} needs data.path; name it in the config")
    try:
        if data.kind == "folder":
            source = files.folder_source(data.path, size=size)
        elif data.kind == "webdataset":
            source = files.shard_source(data.path, size=size)
        else:
            source = files.hub_source(data.path, size=size, cache=Path(data.cache))
        return Tolerant(source.first(data.limit))
    except DataError as error:
        raise TrainingFault("data", str(error)) from None


def missing_captions(source: Source) -> str:
    """A sentence where pictures of files have no caption, for runs that learn from them; else empty."""
    if not getattr(source, "fixed_captions", False):
        return ""
    looked = min(len(source), _LOOKED)
    lacking = sum(not source.caption(index, 0) for index in range(looked))
    if not lacking:
        return ""
    of = f"{looked} pictures" if looked == len(source) else f"the first {looked} pictures"
    return (
        f"{lacking} of {of} have no caption and teach the empty prompt; put a .txt or .caption beside "
        "each, or a metadata table, see `python -m lcm_studio data doctor FOLDER`"
    )
