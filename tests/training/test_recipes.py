"""Every recipe on tiny networks: it starts where it should, trains, and stock diffusers opens the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tests import tiny
from training.errors import TrainingFault
from training.export import inherit
from training.loop import Trainer
from training.recipes import NAMES, find
from training.run import one_sentence

SMALL = {"steps": 2, "batch_size": 2, "log_every": 1, "device": "cpu", "ema_decay": 0.5}
PIXELS = SMALL | {"resolution": 16, "channels": [16, 32], "norm_groups": 8, "head_width": 8}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    where = tmp_path_factory.mktemp("cache")
    return {"data": {"kind": "scenes", "count": 6, "cache": str(where)}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teachers")
    for kind in ("sd-plain", "sdxl", "lcm", "cm", "cm-class"):
        tiny.save(kind, root / kind, vocabulary=kind == "sd-plain")
    return root


def run(name: str, folder: Path, **fields: Any) -> Trainer:
    recipe = find(name)
    trainer = Trainer(recipe(recipe.Config(**fields), torch.device("cpu")), folder, quiet=True)
    trainer.prepare()
    assert trainer.run()
    trainer.export()
    return trainer


def picture(pipe: Any, **options: Any) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(0)
    found: np.ndarray = pipe(generator=generator, output_type="np", **options).images[0]
    assert np.isfinite(found).all()
    return found


def latent_fields(cache: dict[str, Any]) -> dict[str, Any]:
    return SMALL | cache | {"resolution": 64}


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_lcd_starts_as_the_teacher_whatever_w(
    kind: str, folders: Path, tmp_path: Path, cache: dict[str, Any]
) -> None:
    recipe = find("lcd")
    fields = latent_fields(cache) | {"teacher": str(folders / kind), "time_cond_proj_dim": 16}
    made: Any = recipe(recipe.Config(**fields), torch.device("cpu"))
    made.build()
    from training.recipes.prompts import unet_arguments

    x, t = torch.randn(2, 4, 8, 8), torch.tensor([19, 999])
    arguments = unet_arguments(made.prompts(["lake", "sea"]), 64)
    with torch.no_grad():
        wanted = made.teacher(x, t, **arguments).sample
        for emb in (torch.zeros(2, 16), torch.randn(2, 16)):
            found = made.student(x, t, timestep_cond=emb, **arguments).sample
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_lcd_trains_and_stock_diffusers_opens_it(
    kind: str, folders: Path, tmp_path: Path, cache: dict[str, Any]
) -> None:
    from diffusers import DiffusionPipeline

    fields = latent_fields(cache) | {"teacher": str(folders / kind), "validate_every": 2}
    trainer = run("lcd", tmp_path, **fields)
    assert (tmp_path / "samples" / "step-000002.png").exists()
    told = [path.read_text() for path in (tmp_path / "output").rglob("*.json")]
    assert not any(str(folders) in text for text in told)  # no path of this machine
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "output")
    assert pipe.scheduler.config.original_inference_steps == 50
    assert pipe.unet.config.time_cond_proj_dim == 256
    options = {"prompt": "lake", "num_inference_steps": 2, "guidance_scale": 3.0}
    size = {"height": 64, "width": 64}
    found = picture(pipe, **options, **size)
    with trainer.state.averaged():
        wanted = picture(trainer.recipe.pipeline(), **options, **size)  # type: ignore[attr-defined]
    assert np.abs(found - wanted).max() < 0.05  # half precision


def test_lcd_goes_on_from_a_student(folders: Path, tmp_path: Path, cache: dict[str, Any]) -> None:
    fields = latent_fields(cache) | {"teacher": str(folders / "sd-plain"), "time_cond_proj_dim": 16}
    run("lcd", tmp_path / "a", **fields)
    student = tmp_path / "a" / "output"
    words = "vocabulary.json"
    assert (student / words).read_bytes() == (folders / "sd-plain" / words).read_bytes()
    recipe = find("lcd")

    def built(**more: Any) -> Any:
        made: Any = recipe(recipe.Config(**fields | more), torch.device("cpu"))
        made.build()
        return made

    made = built(start_from=str(student))
    saved = load_file(student / "unet" / "diffusion_pytorch_model.safetensors")
    for network in (made.student, made.target):
        for key, value in network.state_dict().items():
            assert torch.equal(value, saved[key].float()), key
    for more, reason, said in (
        ({"start_from": str(tmp_path / "nowhere")}, "missing_weights", "no unet"),
        ({"start_from": str(student), "time_cond_proj_dim": 32}, "config", "cond_proj"),
        ({"start_from": str(folders / "sd-plain")}, "config", "cond_proj"),
    ):
        with pytest.raises(TrainingFault, match=said) as caught:
            built(**more)
        assert caught.value.reason == reason


@pytest.mark.parametrize(("said", "default"), [(6, 6), (12, 8), (None, None)])
def test_a_student_speaks_its_teachers_words(
    tmp_path: Path, said: float | None, default: float | None
) -> None:
    """Words, examples and guidance as far as it was trained for; the teacher's steps are not the student's."""
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    teacher.mkdir()
    student.mkdir()
    (teacher / "vocabulary.json").write_text('{"groups": [], "examples": ["dusk, lake"]}')
    if said is not None:
        fields = {"guidance": {"default": said, "edit": 3, "range": [1, 20]}, "steps": 20}
        (teacher / "studio.json").write_text(json.dumps(fields))
    inherit(teacher, student, scales=(1.0, 8.0))
    about = student / "studio.json"
    assert about.is_file() == (default is not None)
    if default is not None:
        expected = {"guidance": {"default": default, "range": [1, 8]}}
        assert json.loads(about.read_text()) == expected
    assert "dusk, lake" in (student / "vocabulary.json").read_text()


def test_levels_of_lcd(folders: Path, cache: dict[str, Any]) -> None:
    """Shares of the lowest and highest fifth of the grid."""
    fields = latent_fields(cache) | {"teacher": str(folders / "sd-plain"), "time_cond_proj_dim": 16}
    recipe = find("lcd")

    def built(**more: Any) -> Any:
        made: Any = recipe(recipe.Config(**fields | more), torch.device("cpu"))
        made.open_teacher()
        return made

    def drawn(made: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        levels: torch.Tensor = made.levels(4000, generator)
        return levels

    plain = built()
    assert set(drawn(plain).tolist()) == set(range(19, 1000, 20))
    for low, high in ((0.3, 0.2), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
        t = drawn(built(low_share=low, high_share=high))
        middle = 1 - low - high
        assert (t < 200).float().mean() == pytest.approx(low + 0.2 * middle, abs=0.02)
        assert (t >= 800).float().mean() == pytest.approx(high + 0.2 * middle, abs=0.02)
    with pytest.raises(ValidationError) as caught:  # before anything is loaded
        recipe.Config(**fields, low_share=0.6, high_share=0.5)
    said = one_sentence(caught.value)
    assert said.startswith("high_share=0.5 and low_share=0.6 are more than 1 together; lower one")


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_a_lora_is_taken_by_stock_diffusers(
    kind: str, folders: Path, tmp_path: Path, cache: dict[str, Any]
) -> None:
    from diffusers import DiffusionPipeline, LCMScheduler

    fields = latent_fields(cache) | {"teacher": str(folders / kind), "rank": 4}
    trainer = run("lcm-lora", tmp_path, **fields | {"learning_rate": 0.01})
    pipe = DiffusionPipeline.from_pretrained(folders / kind)
    pipe.scheduler = LCMScheduler.from_pretrained(tmp_path / "output" / "scheduler")
    options = {"prompt": "lake", "num_inference_steps": 2, "guidance_scale": 1.0}
    size = {"height": 64, "width": 64}
    before = picture(pipe, **options, **size)
    pipe.load_lora_weights(tmp_path / "output")
    from peft.utils import get_peft_model_state_dict

    made: Any = trainer.recipe
    taken = get_peft_model_state_dict(pipe.unet, adapter_name=pipe.get_active_adapters()[0])
    with trainer.state.averaged():
        layers = get_peft_model_state_dict(made.unet)
        assert layers.keys() == taken.keys()
        for key, value in layers.items():
            torch.testing.assert_close(taken[key], value, rtol=1e-2, atol=1e-3)
    after = picture(pipe, **options, **size)
    with trainer.state.averaged():
        wanted = picture(made.make_pipeline(made.unet, guided=False), **options, **size)
    assert np.abs(after - wanted).max() < 0.05
    assert np.abs(after - before).max() > np.abs(after - wanted).max()


def test_the_teacher_of_a_lora_is_the_network_without_its_adapter(
    folders: Path, tmp_path: Path, cache: dict[str, Any]
) -> None:
    fields = latent_fields(cache) | {"teacher": str(folders / "sd-plain"), "rank": 4}
    trainer = run("lcm-lora", tmp_path, **fields | {"learning_rate": 0.1})
    made: Any = trainer.recipe
    batch = {"w": torch.zeros(1), **made.prompts(["lake"])}
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([499])
    with torch.no_grad():
        with made.without_adapter():
            cond, _ = made.guided(made.unet, batch, x, t)
        stock = tiny.pipeline("sd-plain").unet
        wanted = stock(x, t, encoder_hidden_states=batch["context"]).sample
        live = made.unet(x, t, encoder_hidden_states=batch["context"]).sample
    torch.testing.assert_close(cond, wanted, rtol=1e-4, atol=1e-5)
    assert (live - wanted).abs().max() > 1e-3
    assert (
        sum(p.numel() for p in trainer.state.parameters)
        < sum(p.numel() for p in made.unet.parameters()) / 2
    )


@pytest.mark.parametrize("name", ["edm", "cd", "ct", "ict", "ect"])
@pytest.mark.parametrize("classes", [0, 4])
def test_pixel_recipes_train_and_stock_diffusers_opens_them(
    name: str, classes: int, tmp_path: Path, cache: dict[str, Any]
) -> None:
    from diffusers import ConsistencyModelPipeline

    fields = PIXELS | cache | {"classes": classes, "validate_every": 2}
    if name == "cd":
        run("edm", tmp_path / "teacher", **PIXELS, **cache, classes=classes)
        fields["teacher"] = str(tmp_path / "teacher" / "output")
    run(name, tmp_path / "run", **fields)
    assert (tmp_path / "run" / "samples" / "step-000002.png").exists()
    pipe = ConsistencyModelPipeline.from_pretrained(tmp_path / "run" / "output")
    assert picture(pipe, num_inference_steps=1).shape == (16, 16, 3)


def test_autoencoder_and_teacher_make_a_pipeline(tmp_path: Path, cache: dict[str, Any]) -> None:
    from diffusers import StableDiffusionPipeline

    fields = latent_fields(cache)
    run(
        "autoencoder", tmp_path / "a", **fields, latent_channels=4, encoder_width=8, decoder_width=8,
        encoder_blocks=[0, 1, 1, 1], decoder_blocks=[1, 1, 1, 0], crop=32, optimizer="muon",
    )  # fmt: skip
    run(
        "teacher", tmp_path / "t", **fields, autoencoder=str(tmp_path / "a" / "output" / "vae"),
        channels=[16, 32], heads=2, norm_groups=8, text_width=16, validate_every=2,
    )  # fmt: skip
    run(
        "autoencoder", tmp_path / "d", **fields, crop=32, freeze_encoder=True,
        start_from=str(tmp_path / "a" / "output" / "vae"),
    )  # fmt: skip
    before, after = (
        load_file(tmp_path / x / "output" / "vae" / "diffusion_pytorch_model.safetensors")
        for x in "ad"
    )
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"decoder"}
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "t" / "output")
    assert pipe.tokenizer("lake").input_ids.__len__() == 3
    options = {"prompt": "lake, zebra", "num_inference_steps": 2, "height": 64, "width": 64}
    assert picture(pipe, **options).shape == (64, 64, 3)


def test_more_latent_channels_go_on_where_fewer_ended(
    tmp_path: Path, cache: dict[str, Any]
) -> None:
    from diffusers import AutoencoderTiny, StableDiffusionPipeline

    from training.recipes.autoencoder import widened
    from training.recipes.teacher import continue_unet

    fields = latent_fields(cache)
    small = {"channels": [16, 32], "heads": 2, "norm_groups": 8, "text_width": 16}
    run(
        "autoencoder", tmp_path / "a", **fields, latent_channels=4, encoder_width=8, decoder_width=8,
        encoder_blocks=[0, 1, 1, 1], decoder_blocks=[1, 1, 1, 0], crop=32,
    )  # fmt: skip
    vae = str(tmp_path / "a" / "output" / "vae")
    run("teacher", tmp_path / "t", **fields, **small, autoencoder=vae)
    first = str(tmp_path / "t" / "output")
    run(
        "autoencoder", tmp_path / "b", **fields, start_from=vae, add_latent_channels=2, crop=32
    )  # fmt: skip
    wide = str(tmp_path / "b" / "output" / "vae")
    run("teacher", tmp_path / "u", **fields, **small, autoencoder=wide, start_from=first)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "u" / "output")
    assert pipe.unet.config.in_channels == pipe.vae.config.latent_channels == 6

    old = AutoencoderTiny.from_pretrained(vae)
    new = widened(old, 2)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():  # the new channels speak, and the decoder does not hear them yet
        z, zn = old.encoder(x), new.encoder(x)
        assert torch.allclose(zn[:, :4], z, atol=1e-6) and zn[:, 4:].std() > 0
        assert torch.allclose(new.decoder(zn), old.decoder(z), atol=1e-6)

    unet = StableDiffusionPipeline.from_pretrained(first).unet.float()
    wider = type(unet).from_config({**unet.config, "in_channels": 6, "out_channels": 6})
    continue_unet(wider, unet)
    z, t, text = torch.randn(1, 6, 8, 8), torch.tensor([500]), torch.randn(1, 5, 16)
    with torch.no_grad():
        found = wider(z, t, text).sample
        assert torch.allclose(found[:, :4], unet(z[:, :4], t, text).sample, atol=1e-5)
    assert not found[:, 4:].any()


@pytest.mark.parametrize(
    ("name", "fields", "reason", "said"),
    [
        ("lcd", {"teacher": "nowhere"}, "missing_weights", "model_index.json"),
        ("lcm-lora", {}, "missing_weights", "model_index.json"),
        ("cd", {}, "missing_weights", "edm"),
        ("cd", {"teacher": "nowhere"}, "missing_weights", "ConsistencyModelPipeline"),
        ("teacher", {"autoencoder": "nowhere"}, "missing_weights", "vae"),
        ("autoencoder", {"add_latent_channels": 4}, "config", "start_from"),
    ],
)
def test_missing_weights_are_named(
    name: str, fields: dict[str, Any], reason: str, said: str, tmp_path: Path, cache: dict[str, Any]
) -> None:
    with pytest.raises(TrainingFault, match=said) as caught:
        run(name, tmp_path, **(SMALL | cache | fields))
    assert caught.value.reason == reason


def test_a_grid_that_ends_elsewhere_and_a_wrong_teacher_are_refused(
    folders: Path, tmp_path: Path, cache: dict[str, Any]
) -> None:
    fields = latent_fields(cache)
    with pytest.raises(TrainingFault, match="ddim_steps=30"):
        run("lcd", tmp_path, **fields, teacher=str(folders / "sd-plain"), ddim_steps=30)
    with pytest.raises(TrainingFault, match="consistency model"):
        run("lcd", tmp_path, **fields, teacher=str(folders / "lcm"))
    with pytest.raises(TrainingFault, match="UNet2DConditionModel"):
        run("cd", tmp_path, **PIXELS, **cache, teacher=str(folders / "sd-plain"))


def test_every_field_of_every_recipe_is_described() -> None:
    for name in NAMES:
        for field, about in find(name).Config.model_fields.items():
            assert about.description, f"{name}.{field}"
