"""A motion that has blurred a picture is found, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data

from lcm_studio.edits.blur_level import estimate_blur
from lcm_studio.edits.motion_level import Motion, estimate_motion
from lcm_studio.edits.quilt import tiling_of
from lcm_studio.edits.tasks import deblur
from lcm_studio.spec.requests import Edit
from tests.conftest import ROOT
from tests.edits.test_deblur import PHOTOS, blurred, moved

SCENES = sorted((ROOT / "assets/examples").glob("edit-*.png"))


def scene(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(("length", "angle"), [(9, 30), (15, 60), (15, 90), (21, 135), (31, 10)])
@pytest.mark.parametrize("name", PHOTOS)
def test_the_motion_of_a_photo_is_found(name, length, angle):
    motion = estimate_motion(moved(PHOTOS[name], length, angle))
    assert motion is not None and motion.length == pytest.approx(length, abs=0.5)
    assert motion.angle == pytest.approx(angle, abs=2)


def test_noise_and_small_pictures_hide_no_wide_motion():
    noisy = estimate_motion(moved(PHOTOS["astronaut"], 15, 60, noise=2))
    assert noisy is not None and noisy.length == pytest.approx(15, abs=0.5)
    for path in SCENES:
        motion = estimate_motion(moved(scene(path), 15, 60))
        assert motion is not None and motion.length == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "text", "brick", "grass", "coins"])
def test_what_did_not_move_is_not_taken_for_it(name):
    """Sharp or with a lens' blur; letters, bricks and blades have periods of their own."""
    photo = getattr(data, name)()
    photo = photo if photo.ndim == 3 else photo[..., None].repeat(3, 2)
    for picture in (photo, blurred(photo, 2)):
        assert estimate_motion(picture) is None


def test_what_says_nothing_is_not_guessed_at():
    rng = np.random.default_rng(1)
    for picture in (
        np.full((128, 128, 3), 90, np.uint8),
        rng.integers(0, 256, (128, 128, 3), np.uint8),
        PHOTOS["coffee"][:40, :40],
    ):
        assert estimate_motion(picture) is None


def test_tiles_share_the_motion(monkeypatch):
    from lcm_studio.edits import quilt

    monkeypatch.setattr(quilt, "WHOLE_PIXELS", 200 * 200)
    soft = moved(PHOTOS["coffee"], 15, 60)
    found, motion = estimate_blur(soft), estimate_motion(soft)
    assert tiling_of(Edit(task="deblur", image=soft)).options["kernel"] == motion.kernel
    assert deblur.kernel_of("auto", found, motion) == (motion.kernel, ())


def test_a_motion_has_the_name_of_its_kernel():
    assert Motion(length=9.04, angle=179.8).kernel == "motion:9.0,0"
