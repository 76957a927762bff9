"""A small convolutional network that reads a scene's attributes; its features measure pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.scenery.captions import attributes

THUMB = 8  # side of the small picture that the features must be able to give back


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Shape of the network; saved beside the weights."""

    size: int = 128
    channels: tuple[int, ...] = (24, 40, 72, 120)
    features: int = 96
    attributes: dict[str, tuple[str, ...]] = field(default_factory=attributes)

    def __post_init__(self) -> None:
        if self.size < 32 or self.features < 1 or not self.channels:
            raise ValueError(
                f"size={self.size}, features={self.features}, channels={self.channels}: "
                "use a size of 32 or more, one feature or more and one stage or more"
            )


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016, Fig. 2), halving the side."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.short = nn.Conv2d(width_in, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        out: Tensor = self.norm2(self.conv2(h)) + self.short(F.avg_pool2d(x, 2))
        return F.relu(out)


class FeatureNet(nn.Module):
    """Pictures -> features -> attributes, degradations and a thumbnail, each by one linear map.

    The heads for grain, blur and thumbnail are there so that features answer to faults and
    colours of a picture, not only to what it shows.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        first, *rest = config.channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        )
        widths = [first, *rest]
        self.stages = nn.Sequential(*(_Residual(a, b) for a, b in pairwise(widths)))
        self.squeeze = nn.Conv2d(widths[-1], 40, 1)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.project = nn.Linear(40 * 16 + sum(widths), config.features)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.features, len(v)) for name, v in config.attributes.items()}
        )
        self.faults = nn.Linear(config.features, 2)
        self.thumb = nn.Linear(config.features, 3 * THUMB * THUMB)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of pictures (B, 3, H, W) in [0, 1]; other sizes are resized first."""
        side = self.config.size
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        h = self.stem(images * 2 - 1)
        # means of the early stages carry grain and blur, which the late ones smooth away
        means = [h.mean((2, 3))]
        for stage in self.stages:
            h = stage(h)
            means.append(h.mean((2, 3)))
        local = self.pool(F.relu(self.squeeze(h))).flatten(1)
        features: Tensor = self.project(torch.cat([local, *means], 1))
        return features

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Features (B, D) float32 of pictures (B, 3, H, W) in [0, 1]."""
        check_images(images)
        return self.forward(images.float().clamp(0, 1))

    def attributes_of(self, features: Tensor) -> list[dict[str, str]]:
        """The likeliest value of each attribute, from features (B, D)."""
        best = {name: head(features).argmax(1).tolist() for name, head in self.heads.items()}
        values = self.config.attributes
        return [
            {name: values[name][index[i]] for name, index in best.items()}
            for i in range(len(features))
        ]

    @torch.no_grad()
    def attributes(self, images: Tensor) -> list[dict[str, str]]:
        """What each of the pictures (B, 3, H, W) in [0, 1] shows."""
        return self.attributes_of(self.embed(images))

    @torch.no_grad()
    def degradation(self, images: Tensor) -> Tensor:
        """Estimated (grain, blur) of pictures (B, 3, H, W): standard deviation in grey levels
        of [0, 1], and Gaussian sigma in pixels of a 128-pixel picture; (B, 2)."""
        found: Tensor = self.faults(self.embed(images))
        return found * torch.tensor(FAULT_SCALE)


FAULT_SCALE = (0.1, 1.0)  # one unit of the two fault heads: grain, blur


def check_images(images: Tensor) -> None:
    """Raises ValueError unless images are (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; use (B, 3, H, W), RGB in [0, 1]"
        )


def save_features(net: FeatureNet, folder: str | Path, **about: Any) -> Path:
    """Writes half-precision weights (model.safetensors) and the shape (config.json)."""
    from safetensors.torch import save_file

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    config = {"architecture": "FeatureNet", **asdict(net.config), **about}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return out


def load_features(path: str | Path) -> FeatureNet:
    """The network of a folder written by `save_features`, in float32, ready to read pictures."""
    from safetensors.torch import load_file

    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no config.json; train it with: python -m training.scenery.evaluation "
            "train-features"
        )
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = FeatureConfig(
        size=raw["size"],
        channels=tuple(raw["channels"]),
        features=raw["features"],
        attributes={name: tuple(values) for name, values in raw["attributes"].items()},
    )
    net = FeatureNet(config)
    state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(
            f"{folder}/model.safetensors does not fit its config.json: "
            f"missing {missing}, unexpected {list(unexpected)}"
        )
    return net.eval().requires_grad_(False)
