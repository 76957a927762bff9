"""A picture that the model knows nothing of is told from one of its own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.likeness import FOREIGN, remark
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Edit
from tests.conftest import ROOT

MODEL = "scenery-lcm"


@pytest.fixture(scope="module")
def engine():
    with Engine(EngineConfig(device="cpu")) as engine:
        engine.load(MODEL)
        yield engine


def scenes():
    for file in sorted((ROOT / "assets/examples").glob("edit-*.png")):
        with Image.open(file) as picture:
            yield np.asarray(picture.convert("RGB"))


def test_scenes_are_its_own_and_photos_are_not(engine):
    for picture in scenes():
        assert remark(engine.likeness(picture, MODEL), engine.info(MODEL)) == ""
    for name in ("astronaut", "coffee", "chelsea", "brick"):
        photo = getattr(data, name)()
        photo = photo if photo.ndim == 3 else photo[..., None].repeat(3, 2)
        for part in (photo, photo[100:228, 100:228]):
            ratio = engine.likeness(part, MODEL)
            assert ratio is not None and ratio > FOREIGN, name
    words = remark(ratio, engine.info(MODEL))
    assert words.startswith("this picture is unlike those that scenery-lcm was made from")
    assert "--model" in words


def test_what_an_edit_makes_of_a_picture_is_judged_like_the_picture(engine):
    """A scene without its colours or with noise is still one; a repainted photo is none."""
    scene = next(scenes())
    grey = np.repeat(scene.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[40:80, 40:80] = 255
    photo = data.astronaut()[:128, 100:228]
    cases = (
        (Edit(task="colorize", image=grey, steps=4, model=MODEL), False),
        (Edit(task="inpaint", image=scene, mask=mask, steps=4, model=MODEL), False),
        (Edit(task="inpaint", image=photo, mask=mask, steps=4, model=MODEL), True),
        (Edit(task="superres", image=photo[::4, ::4], options={"scale": 4}, model=MODEL), True),
    )
    for request, foreign in cases:
        *_, done = engine.run(request)
        assert isinstance(done, Done)
        ratio = engine.likeness(done.images[0], MODEL)
        assert bool(remark(ratio, engine.info(MODEL))) == foreign, (request.task, ratio)


def test_a_model_that_says_nothing_of_its_own_pictures_says_nothing_of_others(tiny_models):
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as tiny:
        picture = next(scenes())
        assert tiny.likeness(picture, "lcm") is None, "it is not loaded"
        tiny.load("lcm")
        assert tiny.likeness(picture, "lcm") is None
        assert remark(None, tiny.info("lcm")) == ""
