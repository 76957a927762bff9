"""The menu of teachers goes by the recipe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lcm_studio.spec.models import ModelInfo
from lcm_studio.web.distil.tab import of_teacher
from lcm_studio.web.distil.values import LABELS


def studio(*names: str) -> Any:
    """A studio with these models: edm-... in pixels, lcm-... few-step students, others of words."""
    infos = [
        ModelInfo(
            id=name, path=name, kind="sd", width=64, height=64, multiple=8, guidance="none",
            takes_prompt=not name.startswith("edm"), consistency=name.startswith("lcm"),
        )
        for name in names
    ]  # fmt: skip
    return SimpleNamespace(engine=SimpleNamespace(catalog=lambda: infos))


def test_a_teacher_of_words_leaves_with_its_recipe() -> None:
    here = studio("lcm-a", "words", "edm-b")
    update = of_teacher(here, "pixel-dmd", "words")
    assert (update["choices"], update["value"], update["visible"]) == (["edm-b"], "edm-b", True)
    update = of_teacher(here, "dmd", "edm-b")
    assert (update["choices"], update["value"]) == (["words"], "words")
    assert of_teacher(here, "lcd", "words")["value"] == "words"


def test_a_typed_folder_stays_and_what_is_missing_is_said() -> None:
    assert of_teacher(studio("words"), "cd", "my/edm")["value"] == "my/edm"
    update = of_teacher(studio("words"), "cd", "words")
    assert update["value"] is None and LABELS["edm"] in update["info"]
    assert LABELS["teacher"] in of_teacher(studio("lcm-a"), "lcd", None)["info"]
    assert "at hand" not in of_teacher(studio("words"), "lcd", None)["info"]
    assert of_teacher(studio("words"), "edm", "words")["visible"] is False
