"""The gallery's files: found by their settings, starred, deleted, bundled; nobody sees another's."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from lcm_studio.images import write_png
from lcm_studio.spec.errors import BadRequest
from lcm_studio.web.app import build_app
from lcm_studio.web.options import Options
from lcm_studio.web.server.gallery import MOST, Gallery
from lcm_studio.web.server.picture_store import PictureStore
from tests.toy_engine import ToyEngine

GREY = np.full((20, 40, 3), 120, np.uint8)


def put(folder: Path, name: str, **settings: Any) -> Path:
    return write_png(folder / name, GREY, settings or None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three days of pictures, and what is none of the studio's."""
    put(tmp_path, "2026-01-30/090000-1-aaaaaa.png", prompt="night, lake", seed=1, steps=4)
    put(tmp_path, "2026-01-31/101500-2-bbbbbb.png", prompt="dawn, sea", seed=2, steps=8)
    put(tmp_path, "2026-01-31/120000-7-cccccc.png", prompt="night, sea", seed=7, task="colorize")
    put(tmp_path, "2026-02-01/000000-3-dddddd.png")
    (tmp_path / "2026-02-01" / "notes.txt").write_text("no picture")
    (tmp_path / "2026-02-01" / "broken.png").write_bytes(b"no picture")
    os.mkfifo(tmp_path / "2026-02-01" / "pipe.png")
    put(tmp_path, "elsewhere/x.png", prompt="of a folder that is no day's")
    put(tmp_path, "user-ada/2026-01-31/1-1-a.png", prompt="ada's own")
    return tmp_path


def ids(gallery: Gallery, *asked: Any, user: str = "", **more: Any) -> list[str]:
    return [entry.id.partition("/")[2][-10:-4] for entry in gallery.entries(user, *asked, **more)]


def test_all_days_the_newest_first_and_found_by_words_and_settings(folder: Path) -> None:
    gallery = Gallery(folder)
    assert ids(gallery) == ["dddddd", "cccccc", "bbbbbb", "aaaaaa"] or set(ids(gallery)) == {
        "dddddd", "cccccc", "bbbbbb", "aaaaaa"
    }  # fmt: skip
    assert [entry.day for entry in gallery.entries("")] == [
        "2026-02-01", "2026-01-31", "2026-01-31", "2026-01-30",
    ]  # fmt: skip
    assert ids(gallery, "NIGHT sea") == ["cccccc"]
    assert set(ids(gallery, "night")) == {"aaaaaa", "cccccc"}
    assert ids(gallery, "steps=8") == ["bbbbbb"]
    assert ids(gallery, "task=colorize") == ["cccccc"]
    assert ids(gallery, "2026-01-30") == ["aaaaaa"]
    assert ids(gallery, "unicorn") == []
    put(folder, "2026-02-02/1-1-eeeeee.png", prompt="new")
    assert ids(gallery)[0] == "eeeeee", "what another tab has made is there at once"


def test_stars_outlive_the_gallery_and_go_with_the_file(folder: Path) -> None:
    night, sea = "2026-01-30/090000-1-aaaaaa.png", "2026-01-31/101500-2-bbbbbb.png"
    Gallery(folder).star("", [night, sea], on=True)
    assert set(ids(Gallery(folder), stars=True)) == {"aaaaaa", "bbbbbb"}
    Gallery(folder).star("", [sea], on=False)
    gallery = Gallery(folder)
    assert ids(gallery, stars=True) == ["aaaaaa"]
    assert gallery.delete("", [night, "2026-01-30/gone.png"]) == 1
    assert not (folder / night).exists() and gallery.stars("") == set()
    (folder / ".stars.json").write_text("{")
    assert gallery.stars("") == set(), "a damaged file of stars is none"


@pytest.mark.parametrize(
    "id_",
    ["../secret.png", "2026-01-31/../../x.png", "/etc/passwd", ".stars.json", "elsewhere/x.png", "", None, 5,
     "user-ada/2026-01-31/1-1-a.png", "2026-01-31/link.png"],
)  # fmt: skip
def test_only_pictures_of_the_folder_are_reached(folder: Path, id_: Any) -> None:
    (folder / "2026-01-31" / "link.png").symlink_to("/etc/hostname")
    gallery = Gallery(folder)
    with pytest.raises(BadRequest):
        gallery.path("", id_)
    with pytest.raises(BadRequest):
        gallery.star("", [id_], on=True)
    assert gallery.delete("", [id_]) == 0
    with pytest.raises(BadRequest):
        gallery.bundle("", ["x.png"] * (MOST + 1))


def test_users_have_folders_of_their_own(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, keep=True)
    for user in ("ada", "bob/../ada", ""):
        store.album(user).add(GREY, {"prompt": f"of {user}", "seed": 1}).written.result(20)
    gallery = Gallery(tmp_path)
    for user in ("ada", "bob/../ada", ""):
        (only,) = gallery.entries(user)
        assert only.settings["prompt"] == f"of {user}"


def test_animations_are_pictures_of_the_gallery(tmp_path: Path) -> None:
    store, settings = PictureStore(tmp_path, keep=True), {"prompt": "dawn \u2192 night", "seed": 4}
    frames = [np.full((20, 40, 3), grey, np.uint8) for grey in (40, 120, 200)]
    for kind in ("gif", "mp4"):
        store.album("").add_video(frames, settings, kind).written.result(60)
    day = next(tmp_path.glob("[0-9]*"))
    Image.new("L", (8, 8), 90).save(day / "foreign.gif", comment=b'["no settings"]')
    (day / "broken.gif").write_bytes(b"GIF89a")
    (day / "broken.mp4").write_bytes(b"no film")
    (day / "cut.mp4").write_bytes(b"\0\0\0\x10ftypisom" + b"\0" * 4 + b"\0\0\1\0moov")
    gallery = Gallery(tmp_path)
    entries = {entry.id.rpartition("/")[2]: entry for entry in gallery.entries("")}
    made = {name: entry for name, entry in entries.items() if "-4-" in name}
    assert sorted(name[-4:] for name in made) == [".gif", ".mp4"]
    assert all(entry.settings == settings for entry in made.values())
    assert entries.keys() - made.keys() == {"foreign.gif", "cut.mp4"}
    assert not entries["foreign.gif"].settings and not entries["cut.mp4"].settings
    with pytest.raises(BadRequest, match="damaged"):
        gallery.thumb("", entries["cut.mp4"].id)
    with app(tmp_path) as client:
        for entry in made.values():
            with Image.open(io.BytesIO(gallery.thumb("", entry.id))) as thumb:
                assert thumb.size == (40, 20) and abs(np.asarray(thumb).mean() - 40) < 8
            answer = client.get(f"/studio/gallery/picture/{entry.id}")
            assert answer.headers["content-type"] in ("image/gif", "video/mp4")
            said = client.post("/studio/gallery/open", content=json.dumps({"ids": [entry.id]}))
            assert said.status_code == 422 and "cannot be edited" in said.json()["detail"]
    assert gallery.delete("", [entry.id for entry in made.values()]) == 2


def app(folder: Path, **options: Any) -> TestClient:
    made = build_app(lambda _: ToyEngine(), Options(preload=False, outputs=folder, **options))
    return TestClient(made, base_url="http://127.0.0.1:7860")


def test_the_routes_list_show_bundle_and_delete(folder: Path) -> None:
    with app(folder) as client:
        said = client.get("/studio/gallery?search=sea").json()
        assert said["total"] == 2 and {e["day"] for e in said["entries"]} == {"2026-01-31"}
        names = [entry["id"] for entry in said["entries"]]
        thumb = client.get(f"/studio/gallery/thumb/{names[0]}")
        assert thumb.content.startswith(b"\xff\xd8")
        assert client.get(f"/studio/gallery/picture/{names[0]}").content.startswith(b"\x89PNG")
        post = lambda act, chosen: client.post(  # noqa: E731
            f"/studio/gallery/{act}", content=json.dumps({"ids": chosen})
        )
        with zipfile.ZipFile(io.BytesIO(post("download", names).content)) as archive:
            assert sorted(archive.namelist()) == sorted(names)
        opened = post("open", names[:1]).json()["id"]
        assert client.get(f"/studio/picture/{opened}.png").content.startswith(b"\x89PNG")
        assert post("star", names[:1]).status_code == 200
        assert client.get("/studio/gallery?stars=1").json()["total"] == 1
        assert post("delete", names).json() == {"gone": 2}
        assert client.get("/studio/gallery").json()["total"] == 2
        for act, chosen in (("star", ["x.png"]), ("star", []), ("download", None), ("open", [3])):
            answer = post(act, chosen)
            assert answer.status_code == 422 and isinstance(answer.json()["detail"], str)
        assert post("shred", names).status_code == 404
        put(folder, "2026-02-03/1-1-f.png", prompt="odd", loras=[5])
        assert client.get("/studio/gallery?search=odd").json()["entries"][0]["settings"] == {
            "prompt": "odd"
        }
        assert client.get("/studio/gallery/picture/../../../etc/passwd").status_code in (404, 422)


def test_an_open_address_without_sign_in_has_no_gallery(folder: Path) -> None:
    with app(folder, host="0.0.0.0") as client:
        assert client.get("/studio/gallery").status_code == 404
