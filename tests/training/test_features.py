"""The feature network: shapes, storage, targets, and that the bundled one reads scenes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.scenery.captions import attributes
from training.scenery.dataset import HELD_OUT_SEEDS, arrays
from training.scenery.evaluation.features import (
    FeatureConfig,
    FeatureNet,
    load_features,
    save_features,
)
from training.scenery.evaluation.train_features import (
    FeatureTraining,
    accuracy,
    batches,
    degrade,
    main,
    targets,
)
from training.scenery.sampling import sample_scene
from training.scenery.scene import labels

FIRST = attributes(1)

SMALL = FeatureConfig(size=32, channels=(8, 8, 8), features=16)


@pytest.fixture
def net() -> FeatureNet:
    torch.manual_seed(0)
    return FeatureNet(SMALL).eval()


@pytest.fixture(scope="module")
def bundled_net(bundled: Path) -> FeatureNet:
    return load_features(bundled / "scenery-features")


def pictures(seeds: range) -> torch.Tensor:
    return torch.from_numpy(arrays(seeds, 128)[0]).permute(0, 3, 1, 2).float() / 255


def test_shapes_at_its_own_and_other_sizes(net: FeatureNet) -> None:
    assert net.embed(torch.rand(2, 3, 32, 32)).shape == (2, 16)
    assert net.embed(torch.rand(2, 3, 64, 48)).shape == (2, 16)
    assert net.degradation(torch.rand(2, 3, 32, 32)).shape == (2, 2)
    for found in net.attributes(torch.rand(3, 3, 32, 32)):
        assert all(found[name] in values for name, values in FIRST.items())
    with pytest.raises(ValueError, match=r"use \(B, 3, H, W\)"):
        net.embed(torch.rand(3, 32, 32))


def test_saved_weights_give_the_same_features(net: FeatureNet, tmp_path: Path) -> None:
    folder = save_features(net.half().float(), tmp_path / "net", note="a test")
    again = load_features(folder)
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(again.embed(x), net.embed(x), atol=1e-5)
    assert again.config == SMALL
    assert json.loads((folder / "config.json").read_text())["note"] == "a test"


def test_missing_or_foreign_weights_are_refused(net: FeatureNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-features"):
        load_features(tmp_path)
    folder = save_features(net, tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    del config["attributes"]["path"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit"):
        load_features(folder)
    with pytest.raises(ValueError, match="size=8"):
        FeatureConfig(size=8)


def test_targets_index_the_labels() -> None:
    rows = targets(range(5))
    for seed, row in enumerate(rows.tolist()):
        found = labels(sample_scene(seed))
        assert {
            n: v[i] for (n, v), i in zip(FIRST.items(), row, strict=True)
        }.items() <= found.items()


def test_degrading_is_deterministic_and_reports_what_it_did() -> None:
    image = arrays([3], 64)[0][0].astype(np.float32) / 255
    first = [degrade(image, np.random.default_rng(s)) for s in range(30)]
    again = [degrade(image, np.random.default_rng(s)) for s in range(30)]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert {grain > 0 for _, grain, _ in first} == {True, False}
    assert {blur > 0 for _, _, blur in first} == {True, False}
    assert all(x.min() >= 0 and x.max() <= 1 and x.shape == image.shape for x, _, _ in first)


def test_mirroring_swaps_left_and_right() -> None:
    images, _ = arrays(range(64), 32)
    wanted = targets(range(64))
    column = list(FIRST).index("side")
    config = FeatureTraining(batch=64, size=32)
    _, goal, _, _ = next(batches(images, wanted, config))
    left = FIRST["side"].index("left")
    order = np.random.default_rng(config.seed).permutation(64)
    before = wanted[order, column]
    moved = goal[:, column] != before
    assert moved.any()
    assert (before[moved] >= left).all()
    middle = FIRST["side"].index("middle")
    assert not (before[moved] == middle).any()


def test_training_runs_and_saves(tmp_path: Path) -> None:
    out = str(tmp_path / "net")
    assert main(["--out", out, "--scenes", "16", "--steps", "2", "--batch", "8",
                 "--held-out", "8"]) == 0  # fmt: skip
    saved = json.loads((tmp_path / "net" / "config.json").read_text())
    assert set(saved["held_out_accuracy"]) == set(FIRST)
    assert load_features(out).config.size == 128


def test_the_bundled_network_reads_held_out_scenes(bundled_net: FeatureNet) -> None:
    seeds = range(HELD_OUT_SEEDS.start + 5000, HELD_OUT_SEEDS.start + 5064)
    found = accuracy(bundled_net, arrays(seeds, 128)[0], targets(seeds))
    assert np.mean(list(found.values())) > 0.95
    assert min(found.values()) > 0.8


def test_bundled_features_answer_to_grain_and_blur(bundled_net: FeatureNet) -> None:
    clean = pictures(range(HELD_OUT_SEEDS.start, HELD_OUT_SEEDS.start + 24))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(clean.shape, generator=generator)
    soft = torch.stack([
        torch.from_numpy(cv2.GaussianBlur(x.permute(1, 2, 0).numpy(), (0, 0), 1.5))
        for x in clean
    ]).permute(0, 3, 1, 2)  # fmt: skip
    base = bundled_net.embed(clean)
    moved = [(bundled_net.embed(clean + s * noise) - base).norm(dim=1).mean() for s in (0.03, 0.1)]
    assert 0 < moved[0] < moved[1]
    estimates = [bundled_net.degradation(x).mean(0) for x in (clean, clean + 0.1 * noise, soft)]
    assert estimates[1][0] > estimates[0][0] + 0.04
    assert estimates[2][1] > estimates[0][1] + 0.5


def test_the_bundled_network_is_small(bundled: Path, bundled_net: FeatureNet) -> None:
    assert (bundled / "scenery-features" / "model.safetensors").stat().st_size < 1_500_000
