"""Finished pictures: PNGs with settings behind random ids, the oldest forgotten; JPEGs for the eye."""

from __future__ import annotations

import base64
import io
import stat
from pathlib import Path

import numpy as np
from PIL import Image

from lcm_studio.images import read_settings
from lcm_studio.web.server.picture_store import PictureStore, jpeg

GREY = np.full((20, 40, 3), 120, np.uint8)


def test_kept_pictures_lie_by_date_and_carry_their_settings(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, keep=True)
    picture = store.add(GREY, {"prompt": "lake", "seed": 5, "steps": 2})
    picture.written.result(20)
    assert picture.path.parent.parent == tmp_path and "-5-" in picture.path.name
    said = read_settings(picture.path)
    assert said is not None and said["prompt"] == "lake"
    assert store.find(picture.id) == picture and len(picture.id) >= 20
    assert picture.path.stat().st_mode & stat.S_IROTH


def test_the_oldest_are_forgotten_and_deleted_unless_kept(tmp_path: Path) -> None:
    for keep in (False, True):
        store = PictureStore(tmp_path / str(keep), keep=keep, limit=3)
        made = [store.add(GREY, {"seed": i}) for i in range(5)]
        store.add(GREY, {"seed": 9}).written.result(20)
        store._writer.shutdown(wait=True)
        assert store.find(made[0].id) is None
        assert made[0].path.exists() is keep
        assert made[4].path.exists()


def test_animations_lie_beside_the_pictures(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, keep=True)
    made = [store.add_video([GREY, GREY // 2], {"seed": 5}, kind) for kind in ("gif", "mp4")]
    for video in made:
        video.written.result(20)
        assert "-5-" in video.path.name and store.find(video.id) == video
    assert Image.open(made[0].path).n_frames == 2  # type: ignore[attr-defined]
    assert [video.url[-4:] for video in made] == [".gif", ".mp4"]


def test_previews_are_small_jpegs_and_alpha_lies_on_white() -> None:
    clear = np.zeros((64, 128, 4), np.uint8)
    data = jpeg(clear, largest=32)
    image = Image.open(io.BytesIO(base64.b64decode(data.split(",")[1])))
    assert image.format == "JPEG" and image.size == (32, 16)
    assert np.asarray(image).min() > 250
