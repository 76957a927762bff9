"""The folders that runs started from the page may read, and whether what the form names lies in them. No Gradio here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.data.listing import PICTURES
from lcm_studio.data.shards import expand, looks_like_shards
from lcm_studio.jobs.config import project_root
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.web.distil.watch import data_home
from lcm_studio.web.server import grants

if TYPE_CHECKING:
    from lcm_studio.web.studio import Studio


class Outside(BadRequest):
    """A place that runs may not read, which a click on the page can change: that of `folder`."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


@dataclass(frozen=True, kw_only=True)
class Places:
    """`named`: the folders of --data-dir and the page's own. `clicked`: those allowed by a click; nothing hidden in them.

    `can_click`: whether a click may add one.
    """

    named: tuple[Path, ...]
    clicked: tuple[Path, ...] = ()
    can_click: bool = False

    @property
    def all(self) -> tuple[Path, ...]:
        """Every folder that may be read."""
        return (*self.named, *self.clicked)

    def hold(self, path: Path) -> bool:
        """Whether a resolved path lies in one of them."""
        if any(path.is_relative_to(root.resolve()) for root in self.named):
            return True
        inner = [path.relative_to(root) for root in self.clicked if path.is_relative_to(root)]
        return any(not any(part.startswith(".") for part in rest.parts) for rest in inner)


def places(studio: Studio) -> Places:
    """Where runs that are started from the page may read now."""
    try:
        named = (*studio.options.data_dirs, data_home())
    except StudioError:  # a home that cannot be written: the board says so
        named = studio.options.data_dirs
    return Places(
        named=named,
        clicked=studio.grants.folders,
        can_click=grants.possible(studio.options),
    )


def allowed(place: str, there: Places) -> str:
    """A folder or shards that lie in `there`; raises BadRequest, and Outside where a click can change that."""
    text = place.strip()
    if not text or "\0" in text:
        raise BadRequest("choose a folder of pictures first")
    shards = looks_like_shards(text)
    paths = expand(text) if shards else (Path(text).expanduser(),)
    try:
        resolved = [path.resolve() for path in paths]
    except (OSError, RuntimeError):
        raise BadRequest(f"{text[:80]!r} cannot be opened; check the path") from None
    for path in resolved:
        if there.hold(path):
            continue
        folder = path.parent if shards else path
        if there.can_click and not folder.exists():  # to nobody else, who would learn what is there
            raise BadRequest(f"there is no folder {str(folder)[:300]}; check the path")
        names = ", ".join(str(root) for root in there.all)
        words = f"{text[:80]} is outside the folders that jobs may read ({names}); "
        why = grants.refusal(folder) if there.can_click else "no"
        if not why:
            raise Outside(
                f"{words}let runs read it, under Pictures, or start the studio with --data-dir",
                folder,
            )
        click = f"a click cannot allow {folder}, since {why}; " if there.can_click else ""
        raise BadRequest(f"{words}{click}start the studio with --data-dir FOLDER to allow another")
    return text if shards else str(resolved[0])


def confined(config: Mapping[str, Any], there: Places, cache: Path) -> None:
    """Raises BadRequest where the data or cache of a config lie outside `there` and `cache`.

    The form's folder is checked before; this is for the YAML of "more", which can name any place. What is relative is
    so to where jobs run.
    """
    data = config.get("data")
    given = data if isinstance(data, Mapping) else {}
    checks = [("path", there)] if given.get("kind") != "huggingface" else []
    for key, inside in (*checks, ("cache", Places(named=(cache,)))):
        if given.get(key):
            text = str(given[key])
            allowed(text if "\0" in text else str(project_root() / Path(text).expanduser()), inside)


def choices(there: Places) -> list[str]:
    """The folders and those in them that hold pictures, for the form."""
    found: list[str] = []
    for root in there.all:
        if not root.is_dir():
            continue
        inner = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
        found += [str(place) for place in [root, *sorted(inner)][:200] if _has_pictures(place)]
    return list(dict.fromkeys(found))


def _has_pictures(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() in PICTURES for path in folder.iterdir())
    except OSError:
        return False
