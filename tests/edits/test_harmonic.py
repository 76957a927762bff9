"""The continuation of what lies around a hole: Laplace's equation, by whichever solver fits the hole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, convolve, gaussian_filter
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

from lcm_studio.edits import harmonic as module
from lcm_studio.edits.harmonic import MOST, ROUGH, harmonic, near

CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], float)[..., None]


def picture(size, seed=0, channels=3):
    return np.random.default_rng(seed).random((*size, channels)).astype(np.float32)


def box(size, rows, columns):
    hole = np.zeros(size, bool)
    hole[slice(*rows), slice(*columns)] = True
    return hole


def disc(size, radius):
    y, x = np.ogrid[: size[0], : size[1]]
    return (y - size[0] // 2) ** 2 + (x - size[1] // 2) ** 2 < radius**2


HOLES = {
    "upright, narrow band": box((90, 80), (5, 80), (20, 50)),
    "lying, numbered by columns": box((80, 90), (20, 50), (5, 80)),
    "at two edges": box((60, 70), (0, 30), (40, 70)),
    "a whole side": box((64, 72), (0, 64), (30, 72)),
    "wide, sparse factors": box((125, 130), (10, 115), (10, 120)),
    "disc": disc((100, 90), 40),
    "one pixel": box((9, 9), (4, 5), (4, 5)),
}


@pytest.mark.parametrize("seed", range(4))
def test_the_continuation_solves_laplace(seed):
    """Against the same equations written pixel by pixel."""
    rng = np.random.default_rng(seed)
    hole = rng.random((13, 17)) < 0.5
    values = rng.random((13, 17, 2)).astype(np.float32)
    places = list(zip(*np.nonzero(hole), strict=True))
    number = {place: i for i, place in enumerate(places)}
    matrix, right = np.zeros((len(places),) * 2), np.zeros((len(places), 2))
    for (y, x), i in number.items():
        for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= place[0] < 13 and 0 <= place[1] < 17):
                continue
            matrix[i, i] += 1
            if place in number:
                matrix[i, number[place]] -= 1
            else:
                right[i] += values[place]
    wanted = values.copy()
    wanted[hole] = spsolve(csr_matrix(matrix), right)
    np.testing.assert_allclose(harmonic(values, hole), wanted, atol=1e-5)


@pytest.mark.parametrize("hole", HOLES.values(), ids=HOLES)
def test_each_pixel_is_the_mean_of_its_neighbours_and_the_outside_stays(hole):
    """Within the picture: at its edge there are fewer of them."""
    values = picture(hole.shape)
    found = harmonic(values, hole).astype(float)
    assert (found[~hole] == values[~hole]).all()
    sums = convolve(found, CROSS, mode="constant")
    counts = convolve(np.ones((*hole.shape, 1)), CROSS, mode="constant")
    np.testing.assert_allclose(found[hole], (sums / counts)[hole], atol=1e-5)


def test_both_factorizations_are_used_and_say_the_same(monkeypatch):
    hole = HOLES["disc"]
    values = picture(hole.shape)
    found, used = [], []
    for name in ("_sparse", "_banded"):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, n=name, f=own: used.append(n) or f(*a))
    for band in (0, 10_000):
        module.forget()
        monkeypatch.setattr(module, "_BAND", band)
        found.append(harmonic(values, hole))
    module.forget()
    assert used == ["_sparse", "_banded"]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (65, 97)], ids=["even", "odd"])
@pytest.mark.parametrize("at", [(0, 0), (7, 13)], ids=["corner", "inside"])
@pytest.mark.parametrize("channels", [1, 3])
def test_half_size_is_near_and_leaves_the_outside_alone(size, at, channels):
    """A wave is continued within a few hundredths; the result stays in the range of what is around the hole."""
    hole = box(size, (at[0], at[0] + 50), (at[1], at[1] + 60))
    assert ROUGH < hole.sum() < MOST
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    values = np.repeat((np.sin(y / 40) * np.exp(-x / 40))[..., None], channels, axis=2)
    exact, rough = harmonic(values, hole), harmonic(values, hole, ROUGH)
    assert (rough[~hole] == values[~hole]).all()
    assert np.abs(rough - exact).max() < 0.04
    assert values[~hole].min() <= rough.min() and rough.max() <= values[~hole].max()


def test_what_lies_behind_the_border_does_not_count_at_half_size_either():
    rng = np.random.default_rng(3)
    hole = gaussian_filter(rng.normal(size=(90, 80)), 5) > 0
    hole[40, 40:44] = (True, False, True, False)  # single pixels, too
    beside = binary_dilation(hole) & ~hole
    values = picture(hole.shape)
    other = np.where((hole | beside)[..., None], values, 50)
    found, again = harmonic(values, hole, 300)[hole], harmonic(other, hole, 300)[hole]
    np.testing.assert_allclose(found, again, atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1  # as what is continued


def test_half_size_does_not_depend_on_the_picture_around():
    hole = box((90, 110), (21, 70), (33, 84))
    values = picture(hole.shape)
    rows, columns = near(hole, 4)
    cut = slice(rows.start // 2 * 2, rows.stop), slice(columns.start // 2 * 2, columns.stop)
    whole, part = harmonic(values, hole, ROUGH)[cut], harmonic(values[cut], hole[cut], ROUGH)
    np.testing.assert_allclose(whole, part, atol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_without_a_hole_or_an_outside_nothing_changes(full):
    values = picture((6, 7))
    assert harmonic(values, np.full((6, 7), full)) is values
