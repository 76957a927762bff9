"""The blur that a picture has, and what undoing it leaves: no pattern, whatever program has blurred it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageFilter
from scipy.ndimage import convolve, gaussian_filter
from skimage import data

from lcm_studio.edits.blur_level import Blur, estimate_blur
from lcm_studio.edits.finish import to_bytes
from lcm_studio.edits.motion_level import estimate_motion
from lcm_studio.edits.quilt import tiling_of
from lcm_studio.edits.tasks import deblur
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.operators import motion_kernel
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Edit
from lcm_studio.web import views
from lcm_studio.web.edit.values import read_out

PHOTOS = {name: getattr(data, name)()[:384, :448] for name in ("astronaut", "coffee", "chelsea")}


@pytest.fixture(scope="module")
def engine():
    with Engine(EngineConfig(device="cpu")) as engine:
        yield engine


def blurred(photo, sigma, noise=0.0):
    x = gaussian_filter(photo.astype(np.float64), (sigma, sigma, 0))
    return to_bytes(x + np.random.default_rng(0).normal(0, 1, x.shape) * noise)


def moved(photo, length, angle, noise=0.0):
    kernel = motion_kernel(length, angle).numpy()
    x = convolve(photo.astype(np.float64), kernel[..., None], mode="reflect")
    return to_bytes(x + np.random.default_rng(0).normal(0, 1, x.shape) * noise)


def by_pillow(photo, sigma):
    """As ordinary programs do it: a Gaussian put together of boxes, in 8 bits."""
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma)))


def run(engine, photo, **options):
    *_, done = engine.run(Edit(task="deblur", image=photo, options=options, steps=2, seed=1))
    assert isinstance(done, Done), done
    return done


def psnr(made, photo):
    return 10 * np.log10(255**2 / np.mean((made.astype(np.float64) - photo) ** 2))


def fine(picture):
    """How much is in the finer half of a picture's frequencies, as a root mean square."""
    power = scipy.fft.dctn(picture.astype(np.float64), axes=(0, 1), norm="ortho") ** 2
    rows, columns = (np.arange(size) / (2 * size) for size in power.shape[:2])
    return np.sqrt(power[np.hypot(rows[:, None], columns) > 0.2].mean())


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0, 5.0])
def test_the_blur_of_a_photo_is_found(name, sigma):
    found = estimate_blur(blurred(PHOTOS[name], sigma))
    assert found.sigma == pytest.approx(sigma, rel=0.12)
    assert found.noise == pytest.approx(deblur.ROUNDING, rel=0.1)
    noisy = estimate_blur(blurred(PHOTOS[name], sigma, noise=3))
    assert noisy.sigma == pytest.approx(sigma, rel=0.25)
    assert noisy.noise == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_sharp_photo_has_none(name):
    assert estimate_blur(PHOTOS[name]).sigma < deblur.SHARP
    kernel, words = deblur.kernel_of("auto", estimate_blur(PHOTOS[name]), None)
    assert kernel == "gaussian:0.5" and "no blur was found" in words[0]


def test_what_says_nothing_of_its_blur_is_not_guessed_at():
    rng = np.random.default_rng(1)
    for picture in (
        np.full((64, 64, 3), 90, np.uint8),
        rng.integers(0, 256, (64, 64, 3), np.uint8),
        PHOTOS["coffee"][:20, :20],
    ):
        assert estimate_blur(picture) is None
    kernel, words = deblur.kernel_of("auto", None, None)
    assert kernel == "gaussian:1" and "too little" in words[0]
    assert deblur.kernel_of("motion:9,0", None, None) == ("motion:9,0", ())


def test_too_little_is_undone_rather_than_too_much():
    assert deblur.proposal(Blur(sigma=2.3, noise=0.3)) == "gaussian:2.2"
    assert deblur.proposal(Blur(sigma=0.7, noise=0.3)) == "gaussian:0.5"


@pytest.mark.parametrize("options", [{}, {"kernel": "gaussian:2"}])
def test_a_photo_that_an_ordinary_program_has_blurred_comes_back_without_a_pattern(engine, options):
    photo = PHOTOS["astronaut"][:256, :256]
    soft = by_pillow(photo, 2)
    done = run(engine, soft, **options)
    made = done.images[0]
    assert psnr(made, photo) > psnr(soft, photo) + 2
    assert 2 * fine(soft) < fine(made) < fine(photo)
    assert "denied" not in done.fidelity


def test_noise_is_not_fitted_unless_that_is_asked_for(engine):
    photo = PHOTOS["astronaut"][:256, :256]
    soft = blurred(photo, 2, noise=2)
    left = run(engine, soft, kernel="gaussian:2")
    fitted = run(engine, soft, kernel="gaussian:2", exact="always")
    assert psnr(left.images[0], photo) > psnr(soft, photo) + 1 > psnr(fitted.images[0], photo)
    assert left.fidelity["noise"] == pytest.approx(2, rel=0.1)


def test_a_scene_that_was_blurred_as_said_is_met_to_the_last_level(engine):
    from tests.conftest import ROOT

    with Image.open(ROOT / "assets/examples/edit-lake-in-autumn.png") as picture:
        scene = np.asarray(picture.convert("RGB"))
    # a scene of 128 pixels, where the fit costs nothing
    with Image.open(ROOT / "tests/edits/lake.png") as picture:
        small = np.asarray(picture.convert("RGB"))
    soft = blurred(small, 2)
    for exact in ("auto", "always"):
        assert run(engine, soft, kernel="gaussian:2", exact=exact).fidelity["max_error"] < 1.2
    assert run(engine, soft, kernel="gaussian:2", exact="never").fidelity["max_error"] > 1.2
    soft = blurred(scene, 2)
    auto, always, never = (
        run(engine, soft, kernel="gaussian:2", exact=exact) for exact in ("auto", "always", "never")
    )
    assert always.fidelity["max_error"] < 1.2
    assert psnr(auto.images[0], scene) >= max(psnr(d.images[0], scene) for d in (always, never))
    found = run(engine, soft)
    assert found.fidelity["kernel_estimated"] is True
    assert "blur found: gaussian:2" in read_out(found.fidelity, found.timing, None)


@pytest.mark.parametrize(
    ("kernel", "words"), [("gaussian:3", "sharper"), ("motion:15,0", "does not come from")]
)
def test_a_blur_that_the_picture_denies_is_said_in_red_with_a_proposal(engine, kernel, words):
    photo = PHOTOS["coffee"][:192, :192]
    soft = blurred(photo, 1)
    better = deblur.proposal(estimate_blur(soft))
    assert better in ("gaussian:0.8", "gaussian:0.9", "gaussian:1")
    done = run(engine, soft, kernel=kernel)
    assert words in done.fidelity["denied"] and better in done.fidelity["denied"]
    message = views.done(done, Kept())["message"]
    assert message["kind"] == "error" and better in message["text"]


def test_auto_undoes_a_motion_and_a_wrong_blur_is_denied(engine):
    from tests.conftest import ROOT

    with Image.open(ROOT / "assets/examples/edit-lake-in-autumn.png") as picture:
        photo = np.asarray(picture.convert("RGB"))
    soft = moved(photo, 9, 30)
    kernel = estimate_motion(soft).kernel
    done = run(engine, soft)
    assert done.fidelity["kernel"] == kernel and done.fidelity["kernel_estimated"]
    assert f"blur found: {kernel}" in read_out(done.fidelity, done.timing, None)
    assert psnr(done.images[0], photo) > psnr(soft, photo) + 6
    wrong = run(engine, soft, kernel="gaussian:5")
    assert wrong.fidelity["denied"].endswith(f"it fits {kernel}")


class Kept:
    """A store of pictures that keeps none."""

    def add(self, pixels, settings):
        class Picture:
            url, id = "", ""

        return Picture


def test_tiles_share_the_blur_that_the_whole_picture_shows(engine, monkeypatch):
    from lcm_studio.edits import quilt

    for name, size in (("WHOLE_PIXELS", 200 * 200), ("SIDE", 192), ("FADE", 16), ("MARGIN", 8)):
        monkeypatch.setattr(quilt, name, size)
    soft = blurred(PHOTOS["coffee"][:192, :256], 1)
    tiling = tiling_of(Edit(task="deblur", image=soft))
    assert tiling.options["kernel"] == deblur.proposal(estimate_blur(soft))
    done = run(engine, soft)
    assert done.fidelity["kernel"] == tiling.options["kernel"] and done.fidelity["kernel_estimated"]
    assert done.fidelity["tiles"] > 1 and not done.fidelity["denied"]
    wrong = run(engine, soft, kernel="gaussian:3")
    assert "sharper" in wrong.fidelity["denied"]
