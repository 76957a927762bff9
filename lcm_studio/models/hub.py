"""Repositories of the Hugging Face hub: the few files that are fetched of them, and one sentence where it fails.

No torch. Nothing of a repository runs: scripts and pickles are not among the files that are asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from lcm_studio.models.allowed import COMPONENTS, WEIGHTLESS, check_index, component_config
from lcm_studio.models.files import (
    PICKLES,
    choose_weights,
    first_line,
    shard_names,
    weight_files,
)
from lcm_studio.spec.errors import ModelError, StudioError

CONFIGS = (
    "model_index.json",
    "vocabulary.json",
    "studio.json",
    "edits.yaml",
    *(
        f"{part}/*.{suffix}"
        for part in (*COMPONENTS, "scheduler")
        for suffix in ("json", "txt", "jinja")
    ),
)


class HubError(StudioError):
    """Something is not to be had from the hub; the text says why and what to do, without the name."""


STOPPED = "the download was stopped; choose it again, and it goes on where it stopped"


class Stopped(Exception):
    """Raised by `Tell` where nobody waits for the download any more."""


Tell: TypeAlias = Callable[[int, int], None]
"""tell(bytes that are here, bytes of all): called as they come, from several threads."""


def told_offline() -> bool:
    """Whether the environment forbids the hub's library to use the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in names)


def fetch_model(name: str, *, offline: bool, tell: Tell | None = None) -> Path:
    """The folder of the pipeline `owner/name`: what was downloaded before, or is now unless `offline`.

    `tell`: of the weights. What came before a break, or before it raised Stopped, is not fetched again.
    Configs come first: a repository that the studio would not load costs no download of weights. Raises
    ModelError for such a one, HubError where the hub does not give it.
    """
    folder = snapshot(name, CONFIGS, offline=offline)
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{name} is no diffusers pipeline (it has no model_index.json); choose another model"
        )
    _, classes = check_index(folder)
    parts = [part for part in classes if part not in WEIGHTLESS]
    for part in parts:
        component_config(folder, part)
    if _whole(folder, parts):
        return folder
    if offline:
        raise HubError(
            "it was downloaded only in part and the studio is offline; start it with --online once"
        )
    sizes = _listing(name, folder.name)
    wanted = [file for part in parts for file in _weights(name, folder, part, frozenset(sizes))]
    total = sum(sizes[file] for file in wanted if file in sizes)
    here = sum(sizes[file] for file in wanted if file in sizes and (folder / file).is_file())
    counter = None if tell is None else Counter(tell, here, total)
    return snapshot(name, wanted, offline=False, revision=folder.name, more=counter)


def snapshot(
    name: str,
    patterns: Sequence[str],
    *,
    offline: bool,
    kind: str = "model",
    revision: str | None = None,
    folder: Path | None = None,
    more: Counter | None = None,
) -> Path:
    """The files of a repository that match `patterns`, in `folder` or in the hub's own cache. Raises HubError.

    `more`: is told of bytes as they come.
    """
    import huggingface_hub
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # what it warns of is in our sentence, or of no concern
    try:
        found = huggingface_hub.snapshot_download(
            name,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            local_dir=folder,
            local_files_only=offline,
            tqdm_class=_bar(more),
        )
    except Exception as error:  # its transport's errors have no base of their own
        # of several files that are under way the library raises any one's error
        stopped = more is not None and more.stopped
        raise HubError(STOPPED if stopped else _reason(error, offline)) from error
    finally:
        logging.set_verbosity(level)
    return Path(found)


def _listing(name: str, revision: str) -> dict[str, int]:
    """{file: its bytes} of a repository."""
    import huggingface_hub
    from huggingface_hub.hf_api import RepoFile

    try:
        tree = huggingface_hub.HfApi().list_repo_tree(name, revision=revision, recursive=True)
        return {one.path: one.size for one in tree if isinstance(one, RepoFile)}
    except Exception as error:  # as above
        raise HubError(_reason(error, False)) from error


class Counter:
    """Bytes that come on several threads, added up."""

    def __init__(self, tell: Tell, here: int, total: int) -> None:
        self._tell, self._here, self._total = tell, here, total
        self._lock = threading.Lock()
        self.stopped = False

    def __call__(self, count: int) -> None:
        with self._lock:
            self._here += count
            try:
                self._tell(min(self._here, self._total), self._total)
            except Stopped:
                self.stopped = True
                raise


def _bar(more: Counter | None) -> Any:
    """The library's progress bar, shown only in a terminal. Of its bars that of the bytes in files counts for `more`."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            name = str(kwargs.get("name"))
            self._counts = kwargs.get("unit") == "B" and not name.endswith(".transfer")
            super().__init__(*args, **{**kwargs, "disable": kwargs.get("disable") or None})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts and more is not None:  # a bar that is not shown counts nothing itself
                more(int(n or 0))
            shown: bool | None = super().update(n)
            return shown

    return Bar


def _whole(folder: Path, parts: Iterable[str]) -> bool:
    try:
        return all(file.is_file() for part in parts for file in weight_files(folder / part)[0])
    except ModelError:
        return False


def _weights(name: str, folder: Path, part: str, there: frozenset[str]) -> list[str]:
    """The files of one component's weights, by the rule of `weight_files`; no second precision of them."""
    inside = {file.rpartition("/")[2] for file in there if file.rpartition("/")[0] == part}
    chosen = choose_weights(inside)
    if chosen is None:
        if any(Path(file).suffix in PICKLES for file in inside):
            raise ModelError(
                f"{name} holds only pickled weights in {part}/, which can run code; "
                "use the .safetensors version of this model"
            )
        raise ModelError(f"{name} holds no .safetensors weights in {part}/; choose another model")
    names = [chosen[0]]
    if chosen[0].endswith(".json"):
        names = shard_names(folder / part / chosen[0])
    return [f"{part}/{file}" for file in names]


def _reason(error: Exception, offline: bool) -> str:
    from huggingface_hub.errors import GatedRepoError, HFValidationError

    if isinstance(error, HFValidationError):
        return "that is no name of the hub; use owner/name"
    if isinstance(error, GatedRepoError):
        return "its owner asks for consent; agree on its page on the hub and set HF_TOKEN"
    status = _status(error)
    if status in (401, 403, 404):
        return "the hub has none of that name, or it is private; check the name, or set HF_TOKEN"
    if offline:
        return (
            "it is not among the downloaded ones and the studio is offline; "
            "start it with --online once"
        )
    if told_offline():
        return "HF_HUB_OFFLINE is set and it is not among the downloaded ones; unset it"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"its files cannot be written ({error.strerror}); make room or set HF_HOME"
    if status is not None:
        return f"the hub answered with status {status}; try again later"
    return f"the hub cannot be reached or broke off ({first_line(error)}); check the connection and try again"


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that the error, or one that caused it, came from."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
