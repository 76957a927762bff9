"""ControlNets as diffusers folders: what one is made for, told from its config. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcm_studio.models.files import called, check_sizes, one_sentence, read_json, weight_files
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlKind

CLASS = "ControlNetModel"
FOLDER = "controlnets"  # beside the models
# the kind of picture that a name speaks of
KINDS: Mapping[str, ControlKind] = {
    "canny": "canny",
    "scribble": "scribble",
    "sketch": "scribble",
    "depth": "depth",
}


def control_config(folder: Path) -> dict[str, Any]:
    """The checked config of a ControlNet's folder. Raises ModelError where it is none, or cannot be loaded."""
    if folder.is_file():
        raise ModelError(
            f"{folder.name} is a single file; give the diffusers folder of the ControlNet (config.json and weights)"
        )
    config = read_json(folder / "config.json")
    if config.get("_class_name") != CLASS or "auto_map" in config:
        raise ModelError(
            f"{called(folder)} is a {str(config.get('_class_name'))[:60]}, no {CLASS}; choose another folder"
        )
    check_sizes(config, f"config.json of {called(folder)}")
    weight_files(folder)
    return config


def check_fit(folder: Path, info: ModelInfo) -> None:
    """Raises ModelError where the folder is no ControlNet, BadRequest where it was made for another family."""
    config = control_config(folder)
    with one_sentence("its config", called(folder)):
        if fits(config, info):
            return
        family = "SDXL" if _for_xl(config) else "Stable Diffusion"
        width = _width(config)
    raise BadRequest(
        f"{called(folder)} was made for {family} with text features of width {width}, and {info.id} has "
        f"{sum(info.text_widths)}; use a ControlNet for this kind of model"
    )


def fits(config: Mapping[str, Any], info: ModelInfo) -> bool:
    """Whether a ControlNet's network is of the shape of a model's."""
    if not info.takes_control or _for_xl(config) != (info.kind == "sdxl"):
        return False
    return not info.text_widths or _width(config) == sum(info.text_widths)


def kind_by_name(name: str) -> ControlKind:
    """What the picture for it is made into, by the ControlNet's name; none where that says nothing."""
    return next((kind for word, kind in KINDS.items() if word in name.lower()), "none")


def _for_xl(config: Mapping[str, Any]) -> bool:
    return config.get("addition_embed_type") == "text_time"


def _width(config: Mapping[str, Any]) -> int:
    value = config.get("cross_attention_dim", 1280)
    return int(value[0] if isinstance(value, list) else value)
