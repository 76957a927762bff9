"""Which folders a click may let runs read, where, and what lies in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lcm_studio.spec.errors import BadRequest
from lcm_studio.web.distil.places import Outside, Places, allowed
from lcm_studio.web.options import Options
from lcm_studio.web.server.grants import Grants, possible


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "people" / "ada"
    for name in ("pictures/.private", "pictures/inner", ".ssh", "other"):
        (home / name).mkdir(parents=True)
    (home / "keys").symlink_to(home / ".ssh")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("flags", "may"),
    [
        ({}, True),
        ({"host": "0.0.0.0"}, False),
        ({"users": {"ada": "hash"}}, False),
        ({"host": "0.0.0.0", "users": {"ada": "hash"}}, False),
        ({"trusted_proxies": ("10.0.0.1",)}, False),
        ({"allow_origins": ("https://studio.example",)}, False),
    ],
)
def test_a_click_counts_where_nobody_else_can_press(
    flags: dict[str, Any], may: bool, home: Path
) -> None:
    options = Options(**flags)
    assert possible(options) is may
    grants = Grants()
    if may:
        assert grants.allow(home / "pictures", options) == (home / "pictures").resolve()
    else:
        with pytest.raises(BadRequest, match="--data-dir"):
            grants.allow(home / "pictures", options)
    assert len(grants.folders) == may


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "whole home"), ("..", "whole home"), ("/", "whole home"), (".ssh", "hidden"), ("keys", "hidden"),
        ("pictures/.private", "hidden"), ("pictures/../.ssh", "hidden"), ("/etc", "system"), ("/etc/ssl", "system"),
        ("/proc/self", "system"),
    ],
)  # fmt: skip
def test_what_no_click_opens(name: str, why: str, home: Path) -> None:
    grants = Grants()
    with pytest.raises(BadRequest, match=why):
        grants.allow(home / name, Options())
    assert grants.folders == ()
    with pytest.raises(BadRequest, match=f"since .*{why}.*--data-dir") as caught:
        allowed(str(home / name), Places(named=(), can_click=True))
    assert not isinstance(caught.value, Outside)


def test_a_place_that_is_allowed_holds_nothing_hidden_and_nothing_beside_it(home: Path) -> None:
    asked = Places(named=(), can_click=True)
    with pytest.raises(Outside, match="let runs read it, under Pictures") as caught:
        allowed(str(home / "pictures"), asked)
    grants = Grants()
    place = grants.allow(caught.value.folder, Options())
    there = Places(named=(), clicked=grants.folders, can_click=True)
    for name in ("pictures", "pictures/inner", "other/../pictures/inner"):
        assert allowed(str(home / name), there) == str((home / name).resolve())
    for name in ("pictures/.private", "other", "pictures/../other", "keys"):
        with pytest.raises(BadRequest):
            allowed(str(home / name), there)
    (home / "pictures" / "out").symlink_to(home / "other")
    with pytest.raises(Outside) as outside:
        allowed(str(place / "out"), there)
    assert outside.value.folder == (home / "other").resolve()


def test_shards_ask_for_their_folder(home: Path) -> None:
    (home / "pictures" / "x-0.tar").write_bytes(b"")
    with pytest.raises(Outside) as caught:
        allowed(str(home / "pictures" / "x-{0..0}.tar"), Places(named=(), can_click=True))
    assert caught.value.folder == (home / "pictures").resolve()


def test_a_folder_that_is_not_there_is_told_in_few_words(home: Path) -> None:
    with pytest.raises(BadRequest, match=r"^there is no folder .*nowhere; check the path$"):
        allowed(str(home / "nowhere"), Places(named=(home / "pictures",), can_click=True))
    with pytest.raises(BadRequest, match="no folder"):
        Grants().allow(home / "nowhere", Options())
    # a stranger learns nothing of what is there
    with pytest.raises(BadRequest, match="--data-dir"):
        allowed("/nowhere", Places(named=(home / "pictures",)))
