"""A safety checker in the folder blackens pictures, exactly as stock diffusers does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_studio.device import choose
from lcm_studio.engine.lane import Lane
from lcm_studio.engine.run import Order, run_request
from lcm_studio.models.load import load_folder
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Generate
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LCM whose tiny checker objects to some pictures and not to others."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    torch.manual_seed(8)
    config = CLIPConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
            "projection_dim": 8,
        },
        projection_dim=8,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds.data.normal_()
    checker.special_care_embeds.data.normal_()
    checker.special_care_embeds_weights.data.fill_(9.0)
    extractor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    pipe = tiny.build("lcm")
    # thresholds between the scores of two seeds, so that one is flagged and the other is not
    pipe.set_progress_bar_config(disable=True)
    best = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        image = pipe("sea", num_inference_steps=1, generator=generator).images[0]
        values = extractor([image], return_tensors="pt").pixel_values
        with torch.no_grad():
            pooled = checker.visual_projection(checker.vision_model(values)[1])
        similarity = torch.nn.functional.cosine_similarity(pooled, checker.concept_embeds)
        best.append(similarity)
    gap = (best[0] - best[1]).abs().argmax()
    checker.concept_embeds_weights.data.fill_(9.0)
    checker.concept_embeds_weights.data[gap] = (best[0][gap] + best[1][gap]) / 2
    path = tmp_path_factory.mktemp("safety") / "guarded"
    pipe.register_modules(safety_checker=checker, feature_extractor=extractor)
    pipe.save_pretrained(path)
    return path


def test_flagged_pictures_are_black(folder: Path) -> None:
    assert "safety_checker" in json.loads((folder / "model_index.json").read_text())
    lane = Lane(load_folder(folder, choose("cpu")))
    request = Generate(prompt="sea", steps=1, count=2, seed=0)
    done = list(run_request(Order(request=request, lane=lane)))[-1]
    lane.close()
    assert isinstance(done, Done)
    assert sorted(done.flagged) == [False, True]
    for pixels, flag in zip(done.images, done.flagged, strict=True):
        assert (pixels.max() == 0) == flag

    from diffusers import LatentConsistencyModelPipeline

    stock = LatentConsistencyModelPipeline.from_pretrained(folder, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    for i in range(2):
        generator = torch.Generator().manual_seed(i)
        out = stock("sea", num_inference_steps=1, generator=generator, guidance_scale=8.0)
        assert out.nsfw_content_detected[0] == done.flagged[i]
        mine = done.images[i].astype(int)
        assert np.abs(np.asarray(out.images[0]).astype(int) - mine).max() <= 1
