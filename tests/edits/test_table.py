"""The table of `benchmarks edits`: what it says of cells that lack scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import edits
from benchmarks.edit_table import compare, file_of, save, write

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


def test_rows_of_an_earlier_run_are_compared_with_new_ones() -> None:
    cells = {
        "ours-4": cell(range(8), 4),
        "paste-4": cell(range(8), 3),
        "ddnm-100": cell(range(8), 100),
    }
    rows, said = compare(cells)
    whole = [{"method": m, **row} for m, row in rows.items()]
    part, of_part = compare({**cells, "ddnm-100": cell(range(4), 100)})
    kept = [{"method": m, **row} for m, row in part.items()]
    assert "frechet of 4" in of_part[0]
    for alone in ({"ddnm-100"}, {"ours-4", "paste-4"}):
        again = compare({m: cells[m] for m in alone}, kept if "ddnm-100" in alone else whole)
        assert again == (rows, said)


def test_new_rows_are_compared_with_slow_ones_that_stay_on_their_scenes() -> None:
    few = {"ours-4": cell(range(8), 4), "paste-4": cell(range(8), 3)}
    rows, said = compare({**few, "ddnm-100": cell(range(4), 100)})
    earlier = [{"method": m, **row} for m, row in rows.items()]
    again, told = compare(few, earlier)
    assert (again, told) == (rows, said)
    assert "frechet of 4" in told[0]


def test_rows_of_other_scenes_are_not_compared() -> None:
    rows, _ = compare({"ours-4": cell(range(8), 4), "paste-4": cell(range(8), 3)})
    earlier = [{"method": m, **row} for m, row in rows.items()]
    for scenes in (range(6), range(1, 9)):
        with pytest.raises(ValueError, match="cannot be compared"):
            compare({"ddnm-100": cell(scenes, 100)}, earlier)


def test_a_table_that_cannot_be_joined_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(scenes: range, method: str, evaluations: int) -> Path:
        folder = tmp_path / method
        save(file_of(folder, "inpaint", method, scenes), cell(scenes, evaluations))
        return folder

    results = tmp_path / "results"
    write([keep(range(8), "ours-4", 4)], results, {})
    before = results.with_suffix(".json").read_bytes()
    folder = keep(range(4), "ddnm-100", 100)
    monkeypatch.setattr(edits, "_folder", lambda out, method, models: folder)
    told = ["--merge", "--keep", "--out", str(tmp_path), "--results", str(results)]
    told += ["--threads", str(torch.get_num_threads())]  # it is the process's
    assert edits.main(told) == 2
    assert "cannot be compared" in capsys.readouterr().err
    assert results.with_suffix(".json").read_bytes() == before
    assert edits.main([told[0], *told[2:]]) == 0  # without --keep
