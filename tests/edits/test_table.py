"""The table of `benchmarks edits`: what it says of cells that lack scenes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.edit_table import compare

Cell = dict[str, np.ndarray]


def cell(scenes: range, evaluations: int) -> Cell:
    n, rng = len(scenes), np.random.default_rng(evaluations)
    one = dict.fromkeys(
        ("psnr", "ssim", "known_max", "known_square", "seconds", "seam", "seam_real"), np.ones(n)
    )
    features, truths = rng.normal(size=(2, n, 3))
    about = {"index": np.asarray(scenes), "evaluations": np.full(n, evaluations)}
    return {**one, **about, "features": features, "truths": truths, "diversity": np.zeros(0)}


@pytest.mark.parametrize(("first", "shared"), [(0, 8), (4, 4), (7, 1), (8, 0)])
def test_distances_are_of_shared_scenes_or_not_there(first: int, shared: int) -> None:
    rows, said = compare({"ours-4": cell(range(8), 4), "paste-4": cell(range(first, first + 8), 3)})
    assert [row["pictures"] for row in rows.values()] == [8, 8]
    assert [row.get("of") for row in rows.values()] == [shared if shared > 1 else None] * 2
    assert bool(said) is (shared > 1)
