"""Large pictures: by tiles that agree and show no seam, or around the mask with the rest to the bit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lcm_studio.edits import hole, quilt
from lcm_studio.edits.geometry import MAX_PIXELS, Box, check_enlarged
from lcm_studio.edits.quilt import Quilt, Tiling, shares, tiling_of
from lcm_studio.engine import Engine, EngineConfig, large
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.events import Done, Failed, Stopped, Working
from lcm_studio.spec.requests import Edit
from lcm_studio.web import views
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def engine():
    with Engine(EngineConfig(device="cpu")) as engine:
        yield engine


@pytest.fixture
def small(monkeypatch):
    """What is large begins at 200 x 200, and tiles have 160 pixels, so that a test has several."""
    monkeypatch.setattr(quilt, "WHOLE_PIXELS", 200 * 200)
    monkeypatch.setattr(quilt, "SIDE", 160)
    monkeypatch.setattr(quilt, "FADE", 16)
    monkeypatch.setattr(quilt, "MARGIN", 8)


def scene(height, width):
    """One of the examples, made larger: shapes and smooth parts as photos have them."""
    with Image.open(ROOT / "tests/edits/sunset.png") as picture:
        return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def last(events):
    *_, end = events
    assert not isinstance(end, Failed), end
    return end


@given(
    size=st.integers(1, 3000), side=st.integers(80, 600), fade=st.integers(1, 40), margin=st.integers(0, 19)
)  # fmt: skip
def test_shares_sum_to_one_and_nothing_counts_at_a_tiles_border(size, side, fade, margin):
    rows = Tiling(side=side, fade=fade, margin=margin).boxes(size, 50)
    spans = [(row[0].top, row[0].bottom) for row in rows]
    total = np.zeros(size)
    for (start, end), share in zip(spans, shares(spans, fade), strict=True):
        total[start:end] += share
        assert share.min() >= 0
        assert start == 0 or not share[:margin].any()
        assert end == size or not share[len(share) - margin :].any()
        assert abs(np.diff(share)).max(initial=0) <= np.pi / 2 / fade + 1e-6
    assert total == pytest.approx(np.ones(size), abs=1e-5)


@pytest.mark.parametrize("scale", [1, 4])
def test_tiles_of_a_picture_are_the_picture(scale):
    picture = np.random.default_rng(1).integers(0, 256, (210, 333, 4), np.uint8)
    tiling = Tiling(side=100, fade=16, margin=8, scale=scale)
    rows = tiling.boxes(210, 333)
    large = picture.repeat(scale, 0).repeat(scale, 1)
    whole = Quilt(rows, scale, tiling.fade)
    for row in rows:
        whole.add([of_large(large, box, scale) for box in row])
    assert np.array_equal(whole.picture, large)


def of_large(large, box, scale):
    return Box(*(scale * side for side in (box.top, box.left, box.bottom, box.right))).of(large)


def test_means_of_blocks_outlive_the_blending():
    """Two answers to the same samples, tile by tile: the blended one has them too, up to rounding."""
    tiling = Tiling(side=48, fade=8, margin=4, scale=4)
    rng = np.random.default_rng(2)
    means = rng.integers(40, 215, (60, 90, 3))
    rows = tiling.boxes(60, 90)
    whole = Quilt(rows, 4, tiling.fade)
    for row in rows:
        tiles = []
        for box in row:
            detail = rng.integers(-40, 41, (box.height, 4, box.width, 4, 3))
            detail[:, 2:] = -detail[:, :2]
            tile = box.of(means)[:, None, :, None] + detail
            tiles.append(tile.reshape(4 * box.height, 4 * box.width, 3).astype(np.uint8))
        whole.add(tiles)
    found = whole.picture.reshape(60, 4, 90, 4, 3).mean(axis=(1, 3))
    assert abs(found - means).max() <= 0.5


def steps(picture, columns):
    """Mean step from column to column there."""
    return abs(np.diff(picture.astype(float), axis=1))[:, columns].mean()


@pytest.mark.parametrize(
    ("task", "options"), [("denoise", {"sigma": 0.08}), ("deblur", {"kernel": "gaussian:1"})]
)
def test_no_seam_where_tiles_meet(engine, small, task, options):
    clean = scene(240, 448)
    given_ = clean
    if task == "denoise":
        noise = np.random.default_rng(3).normal(0, 0.08 * 255, clean.shape)
        given_ = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    request = Edit(task=task, image=given_, options=options, steps=1, seed=5)
    tiling = tiling_of(request)
    assert tiling is not None
    events = list(engine.run(request))
    done = last(events)
    assert isinstance(done, Done) and done.images[0].shape == clean.shape
    rows = tiling.boxes(*clean.shape[:2])
    tiles = sum(len(row) for row in rows)
    told = [e.message for e in events if isinstance(e, Working)]
    assert told == [f"Tile {i + 1} of {tiles}" for i in range(tiles)]
    assert done.settings["tiles"] == tiles and done.settings["options"] == options
    # the step across the middle of each fade against that of the clean picture, and the same everywhere else
    fades = np.zeros(clean.shape[1] - 1, bool)
    for before, after in zip(rows[0][:-1], rows[0][1:], strict=True):
        middle = (before.right + after.left) // 2
        fades[middle - tiling.fade // 2 : middle + tiling.fade // 2] = True
    across = steps(done.images[0], fades) / steps(clean, fades)
    elsewhere = steps(done.images[0], ~fades) / steps(clean, ~fades)
    assert across < 1.1 * elsewhere


def test_an_enlarged_picture_keeps_every_sample(engine, small):
    picture = scene(90, 130)
    request = Edit(task="superres", image=picture, options={"scale": 2}, steps=1, count=2, seed=1)
    assert tiling_of(request) is not None
    done = last(engine.run(request))
    assert len(done.images) == 2 and not np.array_equal(*done.images)
    for made in done.images:
        means = made.reshape(90, 2, 130, 2, 3).mean(axis=(1, 3))
        assert abs(means - picture).max() <= 1
    assert done.fidelity["tiles"] > 1 and done.seeds == (1, 2)


def test_noise_is_estimated_once_and_the_same_seed_gives_the_same(engine, small, monkeypatch):
    # to the bit only where calls hold the same tiles: which two meet in one depends on their pace
    monkeypatch.setattr(large, "TOGETHER", 1)
    rng = np.random.default_rng(4)
    noisy = np.clip(scene(150, 280) + rng.normal(0, 12, (150, 280, 3)), 0, 255).astype(np.uint8)
    request = Edit(task="denoise", image=noisy, steps=1, seed=9)
    tiling = tiling_of(request)
    assert tiling.options["sigma"] == pytest.approx(12 / 255, rel=0.2)
    first, second = (last(engine.run(request)) for _ in range(2))
    assert np.array_equal(first.images[0], second.images[0])
    assert first.fidelity["sigma"] == tiling.options["sigma"]
    assert first.fidelity["sigma_estimated"] is True


@pytest.mark.parametrize(
    ("task", "options", "scale"), [("denoise", {"sigma": 0.1}, 1), ("superres", {"scale": 2}, 2)]
)
def test_a_stop_keeps_the_tiles_that_are_done(engine, small, task, options, scale):
    photo = scene(480, 448)[::scale, ::scale]
    photo = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    request = Edit(task=task, image=photo, options=options, steps=1, seed=3)
    rows = tiling_of(request).boxes(*photo.shape[:2])
    first = len(rows[0])
    told = []
    for event in engine.run(request, cancelled=lambda: len(told) > first):
        if isinstance(event, Working):
            told.append(event)
    assert isinstance(event, Stopped) and not event.images
    made = event.previews[0]
    assert made.shape == (480, 448, 4) and (made[..., 3] == 255).all()
    whole = last(engine.run(request)).images[0]
    safe = rows[1][0].top * scale - 4  # above all that later rows have a share of
    # the calls that tiles share are other ones, which may round another way
    assert abs(made[:safe].astype(int) - whole[:safe]).max() <= 2
    as_it_was = quilt.enlarged(photo, scale)
    end = rows[-2][0].bottom * scale
    assert abs(made[end + 4 :].astype(int) - as_it_was[end + 4 :]).max() <= 1
    words = views.stopped(event, {"seed": 3}, Kept())["message"]["text"]
    kept = int(words.split()[1])
    assert first < kept < sum(len(row) for row in rows) and "the picture as it was" in words
    assert engine.lane("scenery-lcm").load == (0, 0)


class Kept:
    """A store of pictures that keeps none."""

    def add(self, pixels, settings):
        return SimpleNamespace(url="", id="")


def test_a_stop_before_the_first_tile_and_a_fault_are_one_sentence(engine, small):
    request = Edit(task="denoise", image=scene(240, 448), options={"sigma": 0.1}, steps=1)
    end = list(engine.run(request, cancelled=lambda: True))[-1]
    assert isinstance(end, Stopped) and not end.previews
    wrong = Edit(task="denoise", image=scene(240, 448), options={"levels": [1e6, 2e6]}, steps=1)
    end = list(engine.run(wrong))[-1]
    assert isinstance(end, Failed) and "\n" not in end.message
    assert engine.lane("scenery-lcm").load == (0, 0)


def test_a_twelve_megapixel_photo_is_repainted_and_stays_to_the_bit(engine):
    photo = scene(3000, 4000)
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[1500:1700, 2200:2500] = 255
    done = last(engine.run(Edit(task="inpaint", image=photo, mask=mask, steps=1)))
    made = done.images[0]
    assert np.array_equal(made[mask == 0], photo[mask == 0])
    assert not np.array_equal(made[mask > 0], photo[mask > 0])
    assert done.fidelity["max_error"] == 0
    wide = last(
        engine.run(Edit(task="outpaint", image=photo, options={"borders": [0, 0, 40, 0]}, steps=1))
    )
    assert np.array_equal(wide.images[0][:, :4000], photo)


def test_a_large_photo_is_coloured_with_its_luma(engine):
    grey = scene(1800, 2600).mean(axis=2).astype(np.uint8)
    done = last(
        engine.run(Edit(task="colorize", image=grey.repeat(3).reshape(1800, 2600, 3), steps=1))
    )
    luma = done.images[0] @ np.array([0.2989, 0.587, 0.114])
    assert abs(luma - np.minimum(grey, 255 * 0.9999)).max() < 1


def test_what_is_too_large_is_said(engine, monkeypatch):
    huge = np.zeros((8001, 8000, 3), np.uint8)
    assert huge.shape[0] * huge.shape[1] > MAX_PIXELS
    end = list(engine.run(Edit(task="denoise", image=huge)))[-1]
    assert isinstance(end, Failed) and "64.0 megapixels" in end.message
    photo = np.zeros((5000, 5000, 3), np.uint8)
    monkeypatch.setattr(hole, "PART_PIXELS", 300 * 300)
    every = Edit(task="sketch", image=photo[:301, :300], steps=1)
    end = list(engine.run(every))[-1]
    assert isinstance(end, Failed) and "paint a smaller part" in end.message
    end = list(engine.run(Edit(task="superres", image=photo, options={"scale": 2})))[-1]
    assert isinstance(end, Failed) and "would have 10000 x 10000 pixels" in end.message
    assert "scale it down first" in end.message


@pytest.mark.parametrize(("size", "most"), [((2000, 3000), 3), ((2048, 2048), 3), ((9000, 20), 0)])
def test_the_largest_factor_that_fits_is_said(size, most):
    with pytest.raises(
        BadRequest, match=f"enlarge it {most} times at most" if most else "scale it down"
    ):
        check_enlarged(*size, 4)
    if most:
        check_enlarged(*size, most)


def test_a_photo_is_too_large_for_a_morph_alone(engine):
    photo = np.zeros((2000, 3000, 3), np.uint8)
    with pytest.raises(
        BadRequest, match=r"3000 x 2000 is too large for interpolate; the limit is 4\.2"
    ):
        engine.validate(Edit(task="interpolate", image=photo, image_b=photo))
    engine.validate(Edit(task="interpolate", image=photo[:64, :64], image_b=photo))
