"""The named endpoints /edit_TASK, called with gradio_client over HTTP, on a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lcm_studio.edits import TASKS
from lcm_studio.engine import Engine
from lcm_studio.images import read_image, read_settings, write_png
from lcm_studio.spec.schema import settings_of
from tests.web.api_client import api_client

HEIGHT, WIDTH = 24, 32
# task -> (its arguments, the size of what it makes)
CALLS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "inpaint": ({"mask": "mask"}, (HEIGHT, WIDTH)),
    "outpaint": ({"options": {"borders": [8, 0, 0, 16]}}, (HEIGHT + 16, WIDTH + 8)),
    "colorize": ({"prompt": "red house"}, (HEIGHT, WIDTH)),
    "superres": ({"options": {"scale": 2}}, (2 * HEIGHT, 2 * WIDTH)),
    "denoise": ({"options": {"sigma": 0.1}}, (HEIGHT, WIDTH)),
    "deblur": ({"options": {"kernel": "gaussian:1.0"}}, (HEIGHT, WIDTH)),
    "sketch": ({"options": {"strength": 0.5}}, (HEIGHT, WIDTH)),
    "interpolate": ({"image_b": "other", "options": {"frames": 3}}, (HEIGHT, WIDTH)),
}


@pytest.fixture(scope="module")
def api(tiny_models: Path) -> Iterator[Client]:
    with api_client(model=str(tiny_models / "lcm")) as client:
        yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[6:16, 8:20] = 255
    pictures = {
        "image": rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        "other": rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        "mask": np.repeat(mask[..., None], 3, axis=2),
    }
    paths = {name: str(write_png(folder / f"{name}.png", p)) for name, p in pictures.items()}
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 100)
    return {**paths, "broken": str(folder / "broken.png")}


def call(api: Client, files: dict[str, str], task: str, image: str, **given: Any) -> Any:
    for name in ("mask", "image_b"):
        if name in given:
            given[name] = handle_file(files[given[name]])
    return api.predict(
        handle_file(files[image]), steps=2, seed=3, api_name=f"/edit_{task}", **given
    )


def test_a_picture_unlike_the_models_own_is_noted(
    api: Client, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "likeness", lambda self, picture, model: 2.0)
    _, fidelity, _ = call(api, files, "colorize", "image")
    assert fidelity["note"].startswith("this picture is unlike those")
    monkeypatch.setattr(Engine, "likeness", lambda self, picture, model: 1.0)
    assert "note" not in call(api, files, "colorize", "image")[1]


def test_every_task_has_a_call_here() -> None:
    assert set(CALLS) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_answers_with_files_figures_and_settings(
    api: Client, files: dict[str, str], task: str
) -> None:
    given, size = CALLS[task]
    made, fidelity, settings = call(api, files, task, "image", **given)
    assert len(made) == (3 if task == "interpolate" else 1)
    for file in made:
        data = Path(file["path"] if isinstance(file, dict) else file).read_bytes()
        assert read_image(data).shape == (*size, 3)
        assert (read_settings(data) or {})["task"] == task
    assert settings["task"] == task and settings["seed"] == 3 and settings["steps"] == 2
    bound = TASKS[task].bound
    if bound is not None and "max_error" in fidelity:
        assert fidelity["max_error"] <= bound
    if task == "inpaint":
        mask, before = read_image(files["mask"]), read_image(files["image"])
        known = mask[..., 0] == 0
        assert np.array_equal(read_image(data)[known], before[known])


@pytest.mark.parametrize(
    ("task", "image", "given", "words"),
    [
        ("inpaint", "image", {}, "needs a mask"),
        ("inpaint", "broken", {"mask": "mask"}, "picture"),
        ("outpaint", "image", {"options": {"borders": [0, 0, 0, 0]}}, "not all 0"),
        ("superres", "image", {"options": {"scale": 0}}, "scale"),
        ("denoise", "image", {"options": {"sigma": "much"}}, "sigma"),
        ("deblur", "image", {"options": {"kernel": "gaussian:900"}}, "sigma"),
        ("sketch", "image", {"options": {"strenth": 0.5}}, "has no option 'strenth'"),
        ("colorize", "image", {"options": {"levels": ["a"]}}, "levels"),
        ("interpolate", "image", {}, "second picture"),
    ],
)
def test_bad_input_is_one_clear_sentence(
    api: Client, files: dict[str, str], task: str, image: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(AppError) as caught:
        call(api, files, task, image, **given)
    text = str(caught.value)
    assert words in text and "Traceback" not in text and "\n" not in text.strip()


def test_a_setting_is_a_parameter_of_its_own(api: Client, files: dict[str, str]) -> None:
    _, _, settings = call(api, files, "superres", "image", scale=2, eta=0.5)
    assert settings["options"] == {"scale": 2, "eta": 0.5}
    assert settings["eta"] == 0.5
    known = api.view_api(return_format="dict")["named_endpoints"]
    for task in TASKS.values():
        names = [p["parameter_name"] for p in known[f"/edit_{task.name}"]["parameters"]]
        assert {setting.name for setting in settings_of(task.settings)} <= set(names)
