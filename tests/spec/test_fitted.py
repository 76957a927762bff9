"""A model's edits.yaml: what it may hold, what is refused, and that the writer and the reader agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import tune
from benchmarks.tune import Numbers, to_yaml
from lcm_studio.models.catalog import read_info, scan
from lcm_studio.models.words import read_fitted
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.fitted import Fit, parse

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_read_with_its_date_and_written_back_the_same() -> None:
    fitted = read_fitted(ROOT / "tests/edits/fitted.yaml")
    assert fitted.made["date"] and fitted.made["commit"] and fitted.made["fit"]
    assert str(fitted.made["date"]) in fitted.source
    assert parse(yaml.safe_load(to_yaml(fitted))) == fitted


def test_a_search_leaves_no_faithful_picture_for_a_realistic_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Higher first levels always look better here, and above 3 they lose what the picture shows."""

    def score(bench: Any, task: str, steps: int, numbers: Numbers, scenes: Any) -> dict[str, Any]:
        top = numbers.fit.levels[0]
        return {"frechet": 100 / top, "psnr": 30.0 if top < 3 else 25.0}

    monkeypatch.setattr(tune, "score", score)
    monkeypatch.setattr(tune, "start", lambda *_: Numbers(fit=Fit(levels=(1.0, 0.5))))
    best = tune.search(None, "denoise", 4, 2)  # type: ignore[arg-type]
    assert 1.5 < best.fit.levels[0] < 3


def fit(**more: Any) -> dict[str, Any]:
    return {
        "tasks": {"deblur": {"few": {"levels": [1, 0.5], **more}, "many": {"levels": [1, 0.5]}}}
    }


def test_what_is_left_out_is_the_textbook() -> None:
    few, many = parse(fit(eta=0.5)).tasks["deblur"]
    assert few == Fit(levels=(1.0, 0.5), eta=0.5)
    assert many == Fit(levels=(1.0, 0.5))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "edits.yaml must hold names"),
        ({"tusks": {}}, "has no 'tusks'"),
        ({"tasks": {"deblur": {"few": {"levels": [1, 2]}}}}, "levels=[1, 2]"),
        ({"tasks": {"deblur": {"few": {"levels": [1, 0.5]}}}}, "deblur.many"),
        (fit(eta=2), "eta=2"),
        (fit(eta=True), "eta=True"),
        (fit(eta=float("nan")), "eta=nan"),
        (fit(noise_scale="x"), "noise_scale=x"),
        (fit(relax_last=[0.1, 7]), "relax_last"),
        (fit(relax_last=[0.1] * 99), "relax_last"),
        (fit(least=[1]), "least"),
        (fit(speed=1), "has no 'speed'"),
        ({"tasks": {"superresX": {"guidance": 8}}}, "superres"),
        ({"tasks": {"deblur": {"guidance": 1e9}}}, "guidance"),
        ({"tasks": {"deblur": 3}}, "tasks.deblur"),
        ({"errors": {"corner": 0.2}}, "errors.power"),
        ({"many_from": 0}, "many_from=0"),
    ],
)
def test_nonsense_is_named(given: Any, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        parse(given)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "tasks: [",
        "!!python/object/apply:os.system ['true']",
        "x" * 300_000,
        "[" * 5000,
        "a: &a [*a]",
    ],
)
def test_a_broken_file_is_one_sentence_and_the_other_models_stay(
    tiny_models: Path, tmp_path: Path, text: str
) -> None:
    for name in ("good", "bad"):
        shutil.copytree(tiny_models / "lcm", tmp_path / name)
    (tmp_path / "bad" / "edits.yaml").write_text(text)
    models, broken = scan((tmp_path,))
    assert [model.id for model in models] == ["good"]
    assert "edits.yaml cannot be used" in broken["bad"] and "\n" not in broken["bad"]
    with pytest.raises(ModelError):
        read_info(tmp_path / "bad")


def test_guidance_and_emphasis_of_tasks_come_from_it(tiny_models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_models / "lcm", tmp_path / "own")
    (folder / "studio.json").write_text(json.dumps({"guidance": {"default": 2, "edit": 5}}))
    numbers = {"default": {"guidance": 6}, "colorize": {"guidance": 9, "emphasis": 1}}
    (folder / "edits.yaml").write_text(yaml.safe_dump({"tasks": numbers}))
    info = read_info(folder)
    assert [info.guidance_for(task) for task in ("", "deblur", "colorize")] == [2, 6, 9]
    assert [info.emphasis_for(task) for task in ("deblur", "colorize")] == [0, 1]
