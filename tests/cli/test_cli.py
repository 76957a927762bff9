"""The shell: quick help, one sentence for a mistake, files where they were asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lcm_studio.cli import main, parser
from lcm_studio.cli.common import parse_lora, parse_timesteps
from lcm_studio.images.png import read_settings
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.requests import LoraSpec


@pytest.fixture(autouse=True)
def models(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCM_STUDIO_MODELS", str(tiny_models))


def seconds(*argv: str) -> float:
    """The least processor time of five runs: the wall clock of a busy machine says nothing."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, *argv], check=True, capture_output=True)
        after = os.times()
        times.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    return min(times)


def test_help_is_quick() -> None:
    assert seconds("-m", "lcm_studio", "--help") - seconds("-c", "pass") < 0.5


def test_help_and_catalog_do_not_import_torch() -> None:
    code = (
        "import sys; from lcm_studio.cli import parser, main; parser(); main(['models']);"
        "from lcm_studio.engine import Engine; Engine().catalog();"
        "assert not {'torch', 'diffusers', 'gradio', 'transformers'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ}, capture_output=True
    )


def test_generate_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "generate",
        "sunset lake",
        "--model",
        "lcm",
        "--seed",
        "7",
        "--count",
        "2",
        "--steps",
        "2",
    ]
    assert main([*argv, "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["seeds"] == [7, 8]
    assert said["steps"] == 2
    assert said["evaluations"] == 4
    assert set(said["seconds"]) >= {"prompt", "network", "decode", "total"}
    files = [Path(f) for f in said["files"]]
    assert [f.name for f in files] == ["7.png", "8.png"]
    settings = read_settings(files[1])
    assert settings is not None
    assert (settings["seed"], settings["prompt"], settings["count"]) == (8, "sunset lake", 1)
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_generate_one_file_with_timesteps(tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert main(["generate", "--model", "cm", "--timesteps", "22,0", "--out", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    "argv",
    [
        ["generate", "x", "--model", "lcm", "--steps", "90"],
        ["generate", "x", "--model", "lcm", "--guidance", "nan"],
        ["generate", "x", "--model", "lcm", "--width", "100"],
        ["generate", "x", "--model", "lcm", "--timesteps", "a,b"],
        ["generate", "x", "--model", "lcm", "--lora", "missing.safetensors:0.8"],
        ["generate", "x", "--model", "lcm", "--lora", "a.safetensors:much"],
        ["generate", "x", "--model", "lcm", "--decoder", "nope"],
        ["generate", "x", "--model", "lcm", "--device", "tpu"],
        ["generate", "x", "--model", "nope"],
        ["generate", "x", "--model", "lcm", "--out", "/proc/none/a.png"],
        ["models", "nope"],
    ],
)
def test_mistakes_are_one_sentence_and_code_two(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, *([] if "--json" in argv or argv[0] == "models" else ["--json"])]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert len(caught.err.strip().splitlines()) == 1


def test_models_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    names = {m["id"] for m in json.loads(capsys.readouterr().out)["models"]}
    assert {"lcm", "sd", "sdxl", "cm"} <= names
    assert main(["models"]) == 0
    assert "snowy" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attention"] in ("sdpa", "xformers")


def test_options() -> None:
    assert parse_lora("a.safetensors:0.8") == LoraSpec(path="a.safetensors", weight=0.8)
    assert parse_lora("a.safetensors") == LoraSpec(path="a.safetensors")
    assert parse_lora("C:\\x\\a.safetensors") == LoraSpec(path="C:\\x\\a.safetensors")
    assert parse_timesteps("22,0") == (22, 0)
    with pytest.raises(BadRequest):
        parse_timesteps("22;0")
    assert parser().parse_args(["generate", "hi"]).prompt == "hi"


def test_three_lines_of_python(tmp_path: Path) -> None:
    import lcm_studio

    studio = lcm_studio.Studio()
    picture = studio.generate("sunset", model="lcm", steps=1, seed=3)[0]
    assert picture.save(tmp_path / "a.png").is_file()
    assert picture.image().size == (64, 64)
    studio.engine.close()


def test_generate_with_everything_that_conditions_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import save_file

    from lcm_studio.images.png import write_png
    from tests.models.test_control import network, picture
    from tests.models.test_ip_adapter import image_encoder, weights

    save_file(weights("sd"), tmp_path / "ip.safetensors")
    image_encoder().save_pretrained(tmp_path / "image_encoder")
    save_file({"emb_params": torch.ones(2, 32) / 9}, tmp_path / "ink.safetensors")
    network("sd").save_pretrained(tmp_path / "tiny-canny")
    image = write_png(tmp_path / "a.png", picture(), {})
    argv = [
        "generate", "lake, mine", "--model", "sd", "--steps", "2", "--guidance", "2", "--negative", "night",
        "--guided-steps", "1", "--clip-skip", "1", "--embedding", f"mine={tmp_path / 'ink.safetensors'}",
        "--control", str(tmp_path / "tiny-canny"), "--out", str(tmp_path / "x.png"),
    ]  # fmt: skip
    assert main(argv) == 2
    assert "go together" in capsys.readouterr().err
    argv += ["--control-image", str(image), "--control-strength", "0.5"]
    argv += ["--ip-adapter", str(tmp_path / "ip.safetensors")]
    assert main(argv) == 2
    assert "--ip-adapter-image go together" in capsys.readouterr().err
    assert main([*argv, "--ip-adapter-image", str(image), "--ip-adapter-end", "0.5"]) == 0
    said = read_settings(tmp_path / "x.png")
    assert said is not None
    assert (said["clip_skip"], said["guided_steps"], said["embeddings"][0]["word"]) == (
        1,
        1,
        "mine",
    )
    assert (said["control"]["kind"], said["control"]["strength"]) == ("canny", 0.5)
    assert (said["ip_adapter"]["strength"], said["ip_adapter"]["end"]) == (1.0, 0.5)
    # an edit follows its own picture
    edit = [
        "edit",
        "sketch",
        "--image",
        str(image),
        "--prompt",
        "lake",
        "--model",
        "sd",
        "--steps",
        "1",
    ]
    edit += ["--control", str(tmp_path / "tiny-canny"), "--out", str(tmp_path / "y.png")]
    assert main(edit) == 0
    said = read_settings(tmp_path / "y.png")
    assert said is not None and said["control"]["kind"] == "canny"
    assert "picture" not in said["control"]
