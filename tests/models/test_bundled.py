"""The models that ship: stock diffusers opens them, and the studio makes the same pictures of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from lcm_studio.api import Studio

PROMPT = "sunset, snowy mountains, lake"


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("scenery-lcm", "LatentConsistencyModelPipeline", 4),
        ("scenery-teacher", "StableDiffusionPipeline", 4),
        ("scenery-cm", "ConsistencyModelPipeline", 2),
    ],
)
def test_stock_diffusers_runs_it_and_the_studio_agrees(
    name: str, kind: str, steps: int, bundled: Path
) -> None:
    pipe = DiffusionPipeline.from_pretrained(bundled / name, torch_dtype=torch.float32)
    assert type(pipe).__name__ == kind
    pipe.set_progress_bar_config(disable=True)
    told: dict[str, object] = {"num_inference_steps": steps}
    if name == "scenery-lcm":  # as its card says: its later steps lie towards noise
        told = {"timesteps": [999, 859, 679, 399]}
    told |= {"class_labels": 2} if name == "scenery-cm" else {"prompt": PROMPT}
    told |= {} if name == "scenery-cm" else {"guidance_scale": 3.0}
    generator = torch.Generator("cpu").manual_seed(7)
    if name == "scenery-teacher":  # as its card says
        with torch.no_grad():
            latents = pipe(generator=generator, output_type="latent", **told).images
            decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        picture = pipe.image_processor.postprocess(decoded)[0]
    else:
        picture = pipe(generator=generator, **told).images[0]
    wanted = np.asarray(picture).astype(int)
    asked = {"class_label": 2} if name == "scenery-cm" else {"guidance": 3.0}
    stock = {"scenery-lcm": {"eta": 1.0}, "scenery-teacher": {"guidance_start": 0.0}}
    asked |= stock.get(name, {})  # all noise fresh, all steps guided
    prompt = "" if name == "scenery-cm" else PROMPT
    found = Studio().generate(prompt, model=name, steps=steps, seed=7, **asked)[0].pixels
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_they_are_small_and_their_cards_are_whole(bundled: Path) -> None:
    def size(name: str) -> int:
        return sum(file.stat().st_size for file in (bundled / name).rglob("*") if file.is_file())

    assert sum(size(folder.name) for folder in bundled.iterdir()) <= 60 * 10**6
    assert size("scenery-cm") <= 12 * 10**6
    for name in ("scenery-lcm", "scenery-teacher", "scenery-cm"):
        card = (bundled / name / "README.md").read_text()
        for word in ("**Data**", "**Recipe**", "**Time**", "**Licence**", "## Quality"):
            assert word in card, (name, word)
        assert ("vocabulary.json" in card) == (bundled / name / "vocabulary.json").exists()
