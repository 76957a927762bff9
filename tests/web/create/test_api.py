"""/generate with a textual inversion, clip skip and a ControlNet, called with gradio_client over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from safetensors.torch import save_file

from lcm_studio.images import read_image, read_settings, write_png
from tests import tiny
from tests.models.test_control import network, picture
from tests.models.test_ip_adapter import image_encoder, weights
from tests.web.api_client import api_client


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny.save("sd", root / "sd")
    network("sd").save_pretrained(root / "controlnets" / "tiny-canny")
    (root / "ip_adapters").mkdir()
    save_file(weights("sd"), root / "ip_adapters" / "tiny-ip.safetensors")
    image_encoder().save_pretrained(root / "ip_adapters" / "image_encoder")
    save_file({"emb_params": torch.ones(2, 32) / 9}, root / "ink.safetensors")
    return root


@pytest.fixture(scope="module")
def api(root: Path) -> Iterator[Client]:
    with api_client(model=str(root / "sd"), models_dirs=(root,)) as client:
        yield client


def test_everything_that_conditions_a_picture(api: Client, root: Path, tmp_path: Path) -> None:
    image = handle_file(str(write_png(tmp_path / "a.png", picture(), {})))
    files, settings = api.predict(
        prompt="lake, mine", steps=2, seed=3, clip_skip=1, guidance=2.0, guided_steps=1,
        embeddings=[{"path": str(root / "ink.safetensors"), "word": "mine"}],
        control={"path": "tiny-canny", "kind": "canny", "strength": 0.5}, control_image=image,
        ip_adapter={"path": "tiny-ip", "strength": 0.4}, ip_adapter_image=image, api_name="/generate",
    )  # fmt: skip
    said = read_settings(Path(files[0]))
    assert said is not None
    for told in (settings, said):
        assert (told["clip_skip"], told["guided_steps"]) == (1, 1)
        assert told["embeddings"][0]["word"] == "mine"
        assert told["control"]["strength"] == 0.5
        assert told["ip_adapter"]["strength"] == 0.4
    assert said["control"]["path"] == settings["control"]["file"] == "tiny-canny"
    again, _ = api.predict(
        prompt="lake, mine", steps=2, seed=3, clip_skip=1, guidance=2.0, guided_steps=1,
        embeddings=settings["embeddings"], control=settings["control"], control_image=image,
        ip_adapter=settings["ip_adapter"], ip_adapter_image=image, api_name="/generate",
    )  # fmt: skip
    assert np.array_equal(read_image(files[0]), read_image(again[0]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"control": {"path": "tiny-canny"}}, "wants its picture"),
        ({"control": {"path": "tiny-canny", "size": 3}, "control_image": 0}, "control: give"),
        ({"control": {"path": "none-such"}, "control_image": 0}, "is unknown"),
        ({"ip_adapter": {"path": "tiny-ip"}}, "ip_adapter wants its picture"),
        ({"ip_adapter": {"path": "tiny-ip", "kind": "canny"}}, "ip_adapter: give"),
        ({"embeddings": [{"word": "x"}]}, "embeddings: give a list"),
        ({"embeddings": [{"path": "none-such"}]}, "is unknown"),
    ],
)
def test_mistakes_are_one_sentence(
    api: Client, tmp_path: Path, given: dict[str, object], words: str
) -> None:
    if "control_image" in given:
        image = handle_file(str(write_png(tmp_path / "a.png", picture(), {})))
        given = {**given, "control_image": image}
    with pytest.raises(AppError, match=words):
        api.predict(prompt="lake", steps=1, **given, api_name="/generate")


def test_an_edit_follows_the_picture_that_it_edits(api: Client, tmp_path: Path) -> None:
    image = handle_file(str(write_png(tmp_path / "a.png", picture(), {})))
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[16:40, 16:40] = 255
    given = {
        "mask": handle_file(str(write_png(tmp_path / "m.png", mask, {}))),
        "steps": 2,
        "seed": 3,
    }
    (plain,), _, _ = api.predict(image, **given, api_name="/edit_inpaint")
    (held,), fidelity, settings = api.predict(
        image, **given, control={"path": "tiny-canny", "kind": "canny"},
        ip_adapter={"path": "tiny-ip", "strength": 0.4}, ip_adapter_image=image, api_name="/edit_inpaint",
    )  # fmt: skip
    assert fidelity["max_error"] == 0
    assert not np.array_equal(read_image(plain), read_image(held))
    assert settings["control"]["file"] == "tiny-canny" and "picture" not in settings["control"]
    assert settings["ip_adapter"]["strength"] == 0.4
