"""The evaluation from end to end, on untrained diffusers folders of a few thousand weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.api import Studio
from tests import tiny
from training.scenery.captions import WORDS
from training.scenery.dataset import arrays
from training.scenery.evaluation import blind, cells
from training.scenery.evaluation.cells import (
    Cell,
    fingerprint,
    load_pipeline,
    picture_side,
    reconstruct,
    sample,
    steps_told,
    table_cells,
    use_sampler,
)
from training.scenery.evaluation.evaluate import EvaluateConfig, main, own_guidance, own_steps
from training.scenery.evaluation.features import FeatureConfig, FeatureNet, save_features
from training.scenery.evaluation.late_guidance import guided_from
from training.scenery.evaluation.report import contact_sheet, markdown, ratios


def _tokenizer(folder: Path) -> tuple[Any, int]:
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(97, 123)] + [","]
    words = [letter + end for letter in letters for end in ("", "</w>")]
    tokens = [*words, *(f"{w}</w>" for w in WORDS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    ), len(vocabulary)


def save_tiny(folder: Path, *, distilled: bool, seed: int = 0) -> Path:
    """A teacher (StableDiffusionPipeline) or its distilled form, for pictures of 32 pixels."""
    from diffusers import (
        AutoencoderTiny,
        DDIMScheduler,
        LatentConsistencyModelPipeline,
        LCMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer, size = _tokenizer(folder / "words")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=16, projection_dim=16,
            bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
        time_cond_proj_dim=8 if distilled else None,
    )  # fmt: skip
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1), latent_channels=4,
    )  # fmt: skip
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    kind = LatentConsistencyModelPipeline if distilled else StableDiffusionPipeline
    scheduler = LCMScheduler(**noise) if distilled else DDIMScheduler(**noise, clip_sample=False)
    pipe = kind(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    net = FeatureNet(FeatureConfig(size=32, channels=(8, 8, 8), features=8)).eval()
    return {
        "features": save_features(net, root / "features"),
        "model": save_tiny(root / "lcm", distilled=True),
        "teacher": save_tiny(root / "teacher", distilled=False),
    }


def arguments(folders: dict[str, Path], out: Path, *more: str) -> list[str]:
    given = [f"--{name}={path}" for name, path in folders.items()]
    return [*given, f"--out={out}", "--count=16", "--reference=24", "--batch=8", *more]


def test_stock_pipelines_give_pictures_that_do_not_depend_on_the_batch(
    folders: dict[str, Path],
) -> None:
    captions = ["night, stars", "day", "sunset, lake", "snow"]
    for source in ("model", "teacher"):
        pipe = load_pipeline(folders[source])
        assert picture_side(pipe) == 32
        if source == "teacher":
            use_sampler(pipe, "dpm++", "trailing")
        made = [
            torch.cat(list(sample(pipe, captions, steps=2, guidance=2.0, seed=5, batch=batch)))
            for batch in (4, 3)
        ]
        assert made[0].shape == (4, 3, 32, 32)
        assert 0 <= made[0].min() <= made[0].max() <= 1
        assert torch.allclose(made[0], made[1], atol=1e-4)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_samplers_keep_the_schedule_of_the_teacher(folders: dict[str, Path], spacing: str) -> None:
    pipe = load_pipeline(folders["teacher"])
    before = pipe.scheduler.alphas_cumprod
    for sampler in ("ddim", "dpm++"):
        use_sampler(pipe, sampler, spacing)
        assert torch.equal(pipe.scheduler.alphas_cumprod, before)
        assert pipe.scheduler.config.timestep_spacing == spacing
    with pytest.raises(ValueError, match="sampler='euler'"):
        use_sampler(pipe, "euler", spacing)


def test_trailing_steps_start_at_the_last_timestep(folders: dict[str, Path]) -> None:
    pipe = load_pipeline(folders["teacher"])
    for sampler in ("ddim", "dpm++"):
        use_sampler(pipe, sampler, "trailing")
        pipe.scheduler.set_timesteps(2)
        assert int(pipe.scheduler.timesteps[0]) == 999


def test_reconstruction_keeps_shape_and_range(folders: dict[str, Path]) -> None:
    images, _ = arrays(range(3), 32)
    back = torch.cat(list(reconstruct(load_pipeline(folders["model"]), images, 2)))
    assert back.shape == (3, 3, 32, 32)
    assert 0 <= back.min() <= back.max() <= 1


def test_the_table_has_every_row_once() -> None:
    names = [cell.name for cell in table_cells(model=True, teacher=True)]
    assert names == [
        "real scenes", "autoencoder", "LCM-1", "LCM-2", "LCM-4", "LCM-8",
        "DDIM-1", "DDIM-2", "DDIM-4", "DDIM-8", "DPM++-1", "DPM++-2", "DPM++-4", "DPM++-8",
        "DDIM-50",
    ]  # fmt: skip
    assert [cell.name for cell in table_cells(model=False, teacher=False)] == ["real scenes"]
    ddim = Cell(name="DDIM-4", source="teacher", sampler="ddim", steps=4)
    assert (ddim.evaluations(2.5), ddim.evaluations(1.0)) == (8, 4)


def test_a_run_writes_its_files_and_the_next_one_recalls_them(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ("--only", "real scenes", "autoencoder", "LCM-1", "LCM-2", "DDIM-2", "DPM++-1")
    assert main(arguments(folders, tmp_path, *rows)) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["name"] for row in found["rows"]] == list(rows[1:])
    assert all(0 <= row["agreement"] <= 1 and row["frechet"] >= 0 for row in found["rows"])
    assert set(found["ratios"]) == {"LCM-1 / DDIM-2"}
    assert set(found["settings"]["autoencoder"]) == {"PSNR in dB", "SSIM"}
    assert "| LCM-1 | 1 |" in (tmp_path / "evaluation.md").read_text()
    assert (tmp_path / "sheet.png").stat().st_size > 0

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a cached cell was made again")

    monkeypatch.setattr(cells, "sample", refuse)
    assert main(arguments(folders, tmp_path, *rows)) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    with pytest.raises(AssertionError, match="made again"):
        main(arguments(folders, tmp_path, "--guidance=3", "--only", "LCM-1"))


@pytest.mark.parametrize("kind", ["cm", "cm-class"])
def test_a_pixel_model_is_measured_by_its_class(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    pipe = tiny.pipeline(kind)
    pipe.save_pretrained(tmp_path / kind)
    chosen = {"features": folders["features"], "model": tmp_path / kind}
    assert main(arguments(chosen, tmp_path, "--only", "real scenes", "CM-1", "CM-2")) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["real scenes", "CM-1", "CM-2"]
    assert found["settings"]["size"] == 16
    assert all(set(row["agreement_by_attribute"]) == {"time"} for row in found["rows"])
    asked = ["dawn", "night", "day"]
    pipe.set_progress_bar_config(disable=True)
    made = list(cells.sample(pipe, asked, steps=1, guidance=1, seed=4, batch=2))
    classes = {} if kind == "cm" else {"class_labels": [1]}
    generator = torch.Generator().manual_seed(6)  # the third picture alone, of class "day"
    alone = pipe(num_inference_steps=1, generator=generator, output_type="pt", **classes).images
    assert torch.allclose(made[1], alone, atol=1e-5)


def test_real_scenes_alone_need_no_model(folders: dict[str, Path], tmp_path: Path) -> None:
    only = {"features": folders["features"]}
    assert main(arguments(only, tmp_path)) == 0
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["rows"]) == 1


def test_bad_input_is_refused(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="count=4"):
        EvaluateConfig(count=4)
    with pytest.raises(ValueError, match="first=-1"):
        EvaluateConfig(first=-1)
    with pytest.raises(ValueError, match=r"guidance=0\.5"):
        EvaluateConfig(guidance=0.5)
    with pytest.raises(FileNotFoundError, match="model_index"):
        load_pipeline(tmp_path)
    for said, more in (
        ("names no row", ("--only", "LCM-9")),
        ("count=3", ("--count", "3")),
        ("model_index.json", ("--model", str(tmp_path / "nowhere"))),
    ):  # the shell gets one sentence
        assert main(arguments({"features": folders["features"]}, tmp_path, *more)) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err


def test_fingerprints_follow_the_weights(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "model.safetensors"
    weights.write_bytes(b"one")
    (tmp_path / "README.md").write_text("notes")
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("other notes")
    assert fingerprint(tmp_path) == before
    weights.write_bytes(b"two")
    assert fingerprint(tmp_path) != before


def test_ratios_and_table() -> None:
    rows = [
        {"name": name, "frechet": distance, "evaluations": 1, "agreement": 0.5, "detail": 0.9, "grain": 0.0,
         "diversity": 1.0, "seconds_per_picture": 0.1}
        for name, distance in (("LCM-1", 2.0), ("DDIM-2", 8.0), ("DDIM-50", 1.0))
    ]  # fmt: skip
    assert ratios(rows) == {"LCM-1 / DDIM-2": 0.25, "LCM-1 / DDIM-50": 2.0}
    about = {"count": 16, "reference": 64, "guidance": 2.5, "spacing": "trailing"}
    text = markdown(rows, about)
    assert "| LCM-1 / DDIM-2 | 0.25 |" in text
    assert "16 held-out captions, guidance scale 2.5" in text


def test_contact_sheet_orders_its_rows() -> None:
    shades = {"DDIM-2": 40, "LCM-1": 200}
    samples = {name: np.full((2, 32, 32, 3), v, np.uint8) for name, v in shades.items()}
    sheet = contact_sheet(samples, ["day, lake", "night"])
    assert sheet.shape == (60 + 2 * 36, 76 + 2 * 36, 3)
    assert sheet[60 + 16, 76 + 16, 0] == 200
    assert sheet[60 + 36 + 16, 76 + 36 + 16, 0] == 40


def test_a_blind_sheet_hides_the_models_pictures_among_scenes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    model = save_tiny(tmp_path / "lcm", distilled=True)
    out = tmp_path / "sheet.png"
    assert blind.main([str(model), "--out", str(out), "--count", "6", "--side", "32"]) == 0
    told = {
        int(row.removeprefix("row ")): [int(column) for column in columns.split(", ")]
        for row, _, columns in (
            line.partition(": ") for line in capsys.readouterr().out.strip().splitlines()[1:]
        )
    }
    assert sum(map(len, told.values())) == 6
    sheet = np.asarray(Image.open(out).convert("RGB"))
    made, _ = blind.drawn(model, 6, 4, 2.5, 0)
    left, step = sheet.shape[1] - blind.COLUMNS * (32 + blind.GAP), 32 + blind.GAP
    places = [(row, column) for row in sorted(told) for column in told[row]]
    for picture, (row, column) in zip(made, places, strict=True):
        top, begin = (row - 1) * step + blind.GAP, left + (column - 1) * step
        assert np.array_equal(sheet[top : top + 32, begin : begin + 32], picture)
    for bad, words in (
        ([str(model), "--out", str(out), "--side", "8"], "--side 8"),
        ([str(model), "--out", str(out), "--steps", "0"], "--steps 0"),
        ([str(model), "--out", str(out), "--guidance", "nan"], "--guidance nan"),
        ([str(model), "--out", str(tmp_path / "sheet.txt")], "sheet.txt"),
        ([str(tmp_path / "nowhere"), "--out", str(out)], "nowhere holds no model_index.json"),
    ):
        with pytest.raises(SystemExit) as ended:
            blind.main(bad)
        assert ended.value.code == 2 and words in capsys.readouterr().err


def test_the_guidance_is_what_the_models_folder_says(tmp_path: Path) -> None:
    assert own_guidance(tmp_path) == own_guidance(None) == 2.5
    (tmp_path / "studio.json").write_text(json.dumps({"guidance": {"default": 6}}))
    assert own_guidance(tmp_path) == 6
    (tmp_path / "studio.json").write_text(json.dumps({"steps": 4}))
    assert own_guidance(tmp_path) == 2.5


def test_the_steps_are_what_the_models_folder_says(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_steps(tmp_path) == own_steps(None) == {"shift": 1, "eta": 1}
    (tmp_path / "studio.json").write_text(json.dumps({"shift": 2, "eta": 0.7}))
    assert own_steps(tmp_path) == {"shift": 2, "eta": 0.7}
    pipe = load_pipeline(folders["model"])
    assert steps_told(pipe.scheduler, 4) == {"num_inference_steps": 4}
    assert steps_told(pipe.scheduler, 4, 2) == {"timesteps": [999, 859, 679, 399]}
    # the sheet is of the pictures that the page makes
    asked: list[dict[str, float]] = []
    true = sample

    def seen(*args: Any, shift: float = 1.0, eta: float = 1.0, **more: Any) -> Any:
        asked.append({"shift": shift, "eta": eta})
        return true(*args, shift=shift, eta=eta, **more)

    monkeypatch.setattr(cells, "sample", seen)
    ways: list[dict[str, float]] = [{"shift": s, "eta": e} for s, e in ((2, 1), (1, 1), (1, 0.5))]
    sheets = []
    for way in ways:
        monkeypatch.setattr(blind, "own_steps", lambda folder, way=way: way)
        sheets.append(blind.drawn(folders["model"], 2, 4, 2.0, 0)[0])
    assert asked == ways
    assert (sheets[0] != sheets[1]).any() and (sheets[2] != sheets[1]).any()


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_the_share_of_fresh_noise_is_that_of_the_studio(bundled: Path, eta: float) -> None:
    """Two implementations: diffusers' scheduler, changed, and the studio's loop."""
    pipe = load_pipeline(bundled / "scenery-lcm")
    prompt = "sunset, snowy mountains, lake"
    told: dict[str, Any] = {"steps": 3, "guidance": 4.0, "seed": 5}
    stock = next(sample(pipe, [prompt], batch=1, eta=eta, shift=2.0, **told))
    mine = Studio().generate(prompt, eta=eta, **told)[0].pixels
    wanted = (stock[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(mine.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("start", [0.0, 0.4])
def test_guidance_begins_where_that_of_the_studio_does(bundled: Path, start: float) -> None:
    """Two implementations: a stock pipeline, and the studio's loop."""
    pipe = load_pipeline(bundled / "scenery-teacher")
    use_sampler(pipe, "ddim", "trailing")
    prompt = "sunset, snowy mountains, lake"
    told: dict[str, Any] = {"steps": 4, "guidance": 6.0, "seed": 5}
    with guided_from(pipe, start):
        stock = next(sample(pipe, [prompt], batch=1, **told))
    mine = Studio().generate(prompt, model="scenery-teacher", guidance_start=start, **told)[0]
    wanted = (stock[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(mine.pixels.astype(int) - wanted).max() <= 1


def test_evaluations_are_counted_as_they_are_made() -> None:
    eight = Cell(name="DPM++-8", source="teacher", sampler="dpm++", steps=8)
    assert [eight.evaluations(8.0, start) for start in (0.0, 0.1, 0.15, 0.5)] == [16, 15, 14, 12]
    assert eight.evaluations(1.0, 0.5) == 8


def test_a_pixel_model_is_not_measured_with_a_scheduler_of_latents(bundled: Path) -> None:
    pipe = load_pipeline(bundled / "scenery-cm")
    with pytest.raises(ValueError, match="fresh noise alone"):
        next(sample(pipe, ["day"], steps=2, guidance=1.0, seed=0, batch=1, eta=0.5))
