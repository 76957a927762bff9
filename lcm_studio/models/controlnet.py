"""ControlNets as diffusers folders or single files: what one is made for, told from its config or its tensors. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcm_studio.models.files import (
    Header,
    called,
    check_sizes,
    one_sentence,
    read_header,
    read_json,
    weight_files,
)
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlKind

CLASS = "ControlNetModel"
FOLDER = "controlnets"  # beside the models
PREFIX = "control_model."  # of the original code's names
# the kind of picture that a name speaks of
KINDS: Mapping[str, ControlKind] = {
    "canny": "canny",
    "scribble": "scribble",
    "sketch": "scribble",
    "depth": "depth",
}
# marks in a file's names of what goes by the same word, and is something else
OTHERS: tuple[tuple[str, str], ...] = (
    ("lora_controlnet", "a Control-LoRA"),
    ("lllite_", "a ControlNet-LLLite"),
    ("task_embedding", "a ControlNet-Union"),
    ("difference", "a difference to a UNet, as A1111 extracted it"),
    ("adapter.body.0.", "a T2I-Adapter"),
    ("body.0.in_conv.", "a T2I-Adapter"),
    ("body.0.resnets.", "a T2I-Adapter"),
    ("to_k_ip.", "an IP-Adapter"),
    ("lora_", "a LoRA"),
)


@dataclass(frozen=True, kw_only=True)
class ControlFacts:
    """`xl`: for SDXL. `width`: of the text features that it takes."""

    xl: bool
    width: int


def facts_of(path: Path) -> ControlFacts:
    """What a ControlNet was made for. Raises ModelError where it is none, or cannot be loaded."""
    if not path.is_file():
        config = control_config(path)
        with one_sentence("its config", called(path)):
            xl = config.get("addition_embed_type") == "text_time"
            return ControlFacts(xl=xl, width=_width(config))
    header = read_header(path)
    check_network(header, path.name)
    names = header.shapes
    xl = any(name.endswith(("add_embedding.linear_1.weight", "label_emb.0.0.weight")) for name in names)  # fmt: skip
    width = next(s[-1] for name, s in names.items() if name.endswith("attn2.to_k.weight"))
    return ControlFacts(xl=xl, width=width)


def check_network(header: Header, name: str) -> None:
    """Raises ModelError where a single file holds no ControlNet, by the name of what it is where that is known."""
    marks = ("controlnet_cond_embedding.conv_in.weight", "input_hint_block.0.weight")
    tensors = header.shapes
    for mark, what in OTHERS:
        if any(mark in tensor for tensor in tensors):
            raise ModelError(
                f"{name} is {what}, which the studio does not run as a ControlNet; use a {CLASS}"
            )
    whole = any(tensor.endswith(marks) for tensor in tensors)
    if not whole or not any(tensor.endswith("attn2.to_k.weight") for tensor in tensors):
        raise ModelError(
            f"{name} is no ControlNet (it has no layers for the control picture); choose another file"
        )


def control_config(folder: Path) -> dict[str, Any]:
    """The checked config of a ControlNet's folder. Raises ModelError where it is none, or cannot be loaded."""
    config = read_json(folder / "config.json")
    if config.get("_class_name") != CLASS or "auto_map" in config:
        raise ModelError(
            f"{called(folder)} is a {str(config.get('_class_name'))[:60]}, no {CLASS}; choose another folder"
        )
    check_sizes(config, f"config.json of {called(folder)}")
    weight_files(folder)
    return config


def check_fit(path: Path, info: ModelInfo) -> None:
    """Raises ModelError where the folder or file is no ControlNet, BadRequest where it was made for another family."""
    facts = facts_of(path)
    if fits(facts, info):
        return
    family = "SDXL" if facts.xl else "Stable Diffusion"
    raise BadRequest(
        f"{called(path)} was made for {family} with text features of width {facts.width}, and {info.id} has "
        f"{sum(info.text_widths)}; use a ControlNet for this kind of model"
    )


def fits(facts: ControlFacts, info: ModelInfo) -> bool:
    """Whether a ControlNet's network is of the shape of a model's."""
    if not info.takes_control or facts.xl != (info.kind == "sdxl"):
        return False
    return not info.text_widths or facts.width == sum(info.text_widths)


def kind_by_name(name: str) -> ControlKind:
    """What the picture for it is made into, by the ControlNet's name; none where that says nothing."""
    return next((kind for word, kind in KINDS.items() if word in name.lower()), "none")


def _width(config: Mapping[str, Any]) -> int:
    value = config.get("cross_attention_dim", 1280)
    return int(value[0] if isinstance(value, list) else value)
