"""The autoencoder of the bundled models: what it keeps of scenes it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.reconstruction import detail_share, edge_psnr, psnr
from training.scenery import make
from training.scenery.render import render
from training.scenery.sampling import sample_scene

FOLDER = Path("assets/models/scenery-teacher/vae")
HELD_OUT = 100_000_000  # seeds from here on train nothing


@pytest.mark.model
def test_it_keeps_fine_detail_of_scenes_it_has_not_seen() -> None:
    from diffusers import AutoencoderDC

    vae = AutoencoderDC.from_pretrained(FOLDER, torch_dtype=torch.float32).eval()
    scenes = [render(sample_scene(HELD_OUT + i, 2), 256) for i in range(8)]
    x = torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(x).latent
        y = vae.decode(latents).sample.clamp(-1, 1)
    assert latents.shape == (8, 32, 16, 16)
    assert float((latents * vae.config.scaling_factor).std()) == pytest.approx(1, abs=0.25)
    assert float(psnr(y, x).mean()) > 34
    assert float(edge_psnr(y, x).mean()) > 28
    assert detail_share(y, x) > 0.8


def commands(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, str]:
    assert make.main(["--out", "made", "--dry-run", *flags]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def test_one_command_takes_it_and_makes_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    ready = commands(capsys)
    assert "taken from" in ready["autoencoder"] and "scenery-teacher/vae" in ready["teacher"]
    assert list(ready) == [stage.name for stage in make.stages()]
    anew = commands(capsys, "--anew")
    assert "-m training autoencoder" in anew["autoencoder"]
    assert 'autoencoder="made/autoencoder/output/vae"' in anew["teacher"]
    for profile in ("gpu", "tiny"):  # they change the stage, so they train it
        assert "-m training autoencoder" in commands(capsys, "--profile", profile)["autoencoder"]
    nothing = commands(capsys, "--profile", "nothing")
    assert "-m training autoencoder" in nothing["autoencoder"]
    assert 'start_from=""' in nothing["teacher"] and "adapt=false" in nothing["teacher"]
    only = commands(capsys, "--only", "student")
    assert list(only) == ["student"] and 'teacher="made/teacher/output"' in only["student"]
    with pytest.raises(SystemExit):
        make.main(["--out", "made", "--dry-run", "--only", "nothing"])
