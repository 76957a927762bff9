"""Trains the feature network on rendered scenes, some of them made faulty on purpose."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.scenery.captions import ATTRIBUTES, attributes
from training.scenery.dataset import HELD_OUT_SEEDS, arrays
from training.scenery.evaluation.features import (
    FAULT_SCALE,
    THUMB,
    FeatureConfig,
    FeatureNet,
    save_features,
)
from training.scenery.sampling import sample_scene
from training.scenery.scene import labels

DEFAULT_OUT = Path("assets/models/scenery-features")
_MIRROR = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True)
class FeatureTraining:
    """How the feature network is trained."""

    scenes: int = 8000  # distinct training scenes, seeds 0 .. scenes - 1
    held_out: int = 1000
    steps: int = 2200
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0
    size: int = 128
    edition: int = 1  # of the scenes
    channels: tuple[int, ...] = FeatureConfig.channels


def targets(seeds: Sequence[int], edition: int = 1) -> Tensor:
    """Index of each attribute's value, (N, number of attributes) int64."""
    rows = []
    for seed in seeds:
        values_of = labels(sample_scene(seed, edition))
        rows.append([v.index(values_of[name]) for name, v in attributes(edition).items()])
    return torch.tensor(rows)


def degrade(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """A picture (H, W, 3) float32 in [0, 1] with faults, its grain and its blur.

    Grain comes in one to four pixels' size, since decoders of latents err in patches.
    """
    side = image.shape[0]
    dx, dy = rng.integers(-4, 5, 2)
    if (dx or dy) and rng.random() < 0.7:
        padded = cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_REFLECT_101)
        image = padded[4 + dy : 4 + dy + side, 4 + dx : 4 + dx + image.shape[1]]
    blur = float(rng.uniform(0.4, 2.2)) if rng.random() < 0.3 else 0.0
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur * side / 128)
    grain = float(rng.uniform(0.01, 0.14)) if rng.random() < 0.4 else 0.0
    if grain:
        cell = int(rng.choice([1, 2, 4]))
        noise = rng.standard_normal((side // cell, image.shape[1] // cell, 3), dtype=np.float32)
        noise = cv2.resize(noise, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        image = image + noise * (grain / max(1e-6, float(noise.std())))
    image = np.clip(image, 0, 1)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))]
        coded = cv2.imencode(".jpg", (image * 255 + 0.5).astype(np.uint8), quality)[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32) / 255
    return image.astype(np.float32), grain, blur


def batches(
    images: np.ndarray, wanted: Tensor, config: FeatureTraining
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Endless (pictures (B,3,H,W), targets (B,A), faults (B,2), clean thumbnails (B,192))."""
    rng = np.random.default_rng(config.seed)
    side = list(ATTRIBUTES).index("side")
    values = ATTRIBUTES["side"]
    mirror = torch.tensor([values.index(_MIRROR.get(value, value)) for value in values])
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - config.batch + 1, config.batch):
            chosen = order[start : start + config.batch]
            goal, clean, faulty, faults = wanted[chosen].clone(), [], [], []
            for row, index in enumerate(chosen):
                image = images[index].astype(np.float32) / 255
                if rng.random() < 0.5:
                    image = np.ascontiguousarray(image[:, ::-1])
                    goal[row, side] = mirror[goal[row, side]]
                worse, grain, blur = degrade(image, rng)
                small = cv2.resize(worse, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
                clean.append(small.transpose(2, 0, 1).ravel())
                faulty.append(worse.transpose(2, 0, 1))
                faults.append((grain / FAULT_SCALE[0], blur / FAULT_SCALE[1]))
            yield (
                torch.from_numpy(np.stack(faulty)),
                goal,
                torch.tensor(faults),
                torch.from_numpy(np.stack(clean)),
            )


def loss_of(
    net: FeatureNet, images: Tensor, goal: Tensor, faults: Tensor, thumbs: Tensor
) -> Tensor:
    """Mean cross-entropy over attributes, plus squared errors of faults and thumbnail."""
    features = net(images)
    loss = torch.stack(
        [F.cross_entropy(head(features), goal[:, i]) for i, head in enumerate(net.heads.values())]
    ).mean()
    loss = loss + 0.5 * F.smooth_l1_loss(net.faults(features), faults, beta=0.3)
    return loss + 1.0 * F.mse_loss(net.thumb(features), thumbs * 2 - 1)


@torch.no_grad()
def accuracy(net: FeatureNet, images: np.ndarray, wanted: Tensor) -> dict[str, float]:
    """Share of scenes (N, H, W, 3) uint8 whose attribute is read rightly, by attribute."""
    right = torch.zeros(len(net.heads))
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(images[start : start + 64]).permute(0, 3, 1, 2).float() / 255
        features = net.embed(batch)
        for i, head in enumerate(net.heads.values()):
            right[i] += (head(features).argmax(1) == wanted[start : start + 64, i]).sum()
    return {
        name: float(r) / len(images) for name, r in zip(net.config.attributes, right, strict=True)
    }


@torch.no_grad()
def _follow(average: FeatureNet, net: FeatureNet, decay: float) -> None:
    """Moves an exponential average of weights and statistics towards the network."""
    for kept, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(value, 1 - decay)


def train_features(
    config: FeatureTraining | None = None, out: str | Path = DEFAULT_OUT
) -> dict[str, float]:
    """Trains, saves to `out`, and returns held-out accuracy by attribute."""
    config = config or FeatureTraining()
    torch.manual_seed(config.seed)
    began = time.monotonic()
    images, _ = arrays(range(config.scenes), config.size, edition=config.edition)
    wanted = targets(range(config.scenes), config.edition)
    print(f"rendered {config.scenes} scenes in {time.monotonic() - began:.0f} s", flush=True)
    net = FeatureNet(
        FeatureConfig(
            size=config.size, channels=config.channels, attributes=attributes(config.edition)
        )
    )
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    warm = max(1, config.steps // 20)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps + 1, pct_start=warm / config.steps
    )
    stream = batches(images, wanted, config)
    for step in range(1, config.steps + 1):
        batch, *rest = next(stream)
        loss = loss_of(net, batch.to(memory_format=torch.channels_last), *rest)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        _follow(average, net, min(0.99, step / (step + 10)))
        if step % 100 == 0 or step == config.steps:
            print(
                f"step {step} loss {loss.item():.3f} {time.monotonic() - began:.0f} s", flush=True
            )
        if step % 1000 == 0:
            save_features(average, out)
    average.eval()
    seeds = range(HELD_OUT_SEEDS.start, HELD_OUT_SEEDS.start + config.held_out)
    pictures, _ = arrays(seeds, config.size, edition=config.edition)
    found = accuracy(average, pictures, targets(seeds, config.edition))
    save_features(average, out, training=asdict(config), held_out_accuracy=found)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `python -m training.scenery.evaluation train-features`."""
    defaults = FeatureTraining()
    parser = argparse.ArgumentParser(
        prog="python -m training.scenery.evaluation train-features", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"default {DEFAULT_OUT}")
    parser.add_argument("--scenes", type=int, default=defaults.scenes)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--held-out", type=int, default=defaults.held_out)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--size", type=int, default=defaults.size, help="pixels that it sees")
    parser.add_argument(
        "--edition", type=int, default=defaults.edition, choices=(1, 2), help="of the scenes"
    )
    parser.add_argument(
        "--channels", type=int, nargs="+", default=list(defaults.channels), help="fine to coarse"
    )
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default 1)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    config = FeatureTraining(
        scenes=args.scenes,
        held_out=args.held_out,
        steps=args.steps,
        batch=args.batch,
        seed=args.seed,
        size=args.size,
        edition=args.edition,
        channels=tuple(args.channels),
    )
    for name, share in train_features(config, args.out).items():
        print(f"{name:10s} {share:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
