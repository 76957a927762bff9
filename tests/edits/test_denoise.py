"""Denoising with the bundled model: nearer to the picture than the classical filter, at a few levels of noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lcm_studio.edits.finish import to_bytes
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Edit
from training.scenery.dataset import arrays

SCENES = [10**8 + 40_000, 10**8 + 40_001]


def psnr(a, b):
    return 10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean())


# at the least noise the bundled model's own error counts: it is as near as the filter, and takes some of the picture along
@pytest.mark.parametrize(
    ("sigma", "gain", "most"), [(0.05, -1, 1.25), (0.1, 1, 1.1), (0.2, 1, 1.1)]
)
def test_a_denoised_scene_is_nearer_than_non_local_means(sigma, gain, most):
    images, captions = arrays(SCENES, 256, edition=2)
    ours, classical = [], []
    with Engine(EngineConfig(device="cpu")) as engine:
        for truth, caption in zip(images, captions, strict=True):
            noise = np.random.default_rng(0).normal(0, 255 * sigma, truth.shape)
            noisy = to_bytes((truth + noise).astype(np.float32))
            request = Edit(
                task="denoise",
                model="scenery-lcm",
                image=noisy,
                prompt=caption,
                steps=4,
                options={"sigma": sigma},
            )
            done = list(engine.run(request))[-1]
            assert isinstance(done, Done)
            ours.append(psnr(done.images[0], truth))
            strength = 255 * sigma
            smooth = cv2.fastNlMeansDenoisingColored(noisy, None, strength, strength, 5, 15)
            classical.append(psnr(smooth, truth))
            # what was removed is nearly what was put in: the posterior mean keeps a part of the noise in the tones
            put_in = float((noisy.astype(float) - truth).std() / 255)
            assert 0.75 < done.fidelity["residual"] / put_in < most
    assert np.mean(ours) > np.mean(classical) + gain
