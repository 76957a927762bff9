"""ControlNets in memory: from a diffusers folder, or from one file in diffusers' or the original code's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lcm_studio.device import Placement, prepare
from lcm_studio.models.controlnet import CLASS, PREFIX, check_network, control_config
from lcm_studio.models.files import read_header
from lcm_studio.spec.errors import ModelError

EMBEDDING = "controlnet_cond_embedding"
# of SDXL's size and pooled text, which diffusers' conversion of ControlNets leaves out
ADDED = {
    f"add_embedding.linear_{i + 1}.{part}": f"label_emb.0.{2 * i}.{part}"
    for i in range(2)
    for part in ("weight", "bias")
}


def load_controlnet(path: Path, unet: Any, placement: Placement) -> Any:
    """A ControlNet's network for `unet`. Raises ModelError where the folder or file is none, or does not fit it."""
    from lcm_studio.models.load import load_component, quiet

    if path.is_file():
        return prepare(_from_file(path, unet, placement), placement)
    control_config(path)
    with quiet():
        return load_component(path.parent, path.name, CLASS, placement)


def _from_file(path: Path, unet: Any, placement: Placement) -> Any:
    """A ControlNet of the UNet's shape with the file's weights: a file has no config."""
    from diffusers import ControlNetModel
    from safetensors.torch import load_file

    check_network(read_header(path), path.name)
    try:
        state = in_diffusers_names(load_file(path), unet.config)
        network = ControlNetModel.from_unet(
            unet,
            conditioning_embedding_out_channels=_channels(state),
            load_weights_from_unet=False,
        )
        network.load_state_dict(state)
    except (RuntimeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{path.name} is no ControlNet of this model's shape; use one for this kind of model, or its diffusers folder, "
            "whose config says what it is"
        ) from error
    return network.to(placement.torch_dtype())


def in_diffusers_names(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file by diffusers' names, whatever stands before them in the file."""
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    entry = f"{EMBEDDING}.conv_in.weight"
    whole = next((name for name in state if name.endswith(entry)), None)
    if whole is not None:
        prefix = whole.removesuffix(entry)
        return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    original = {name.removeprefix(PREFIX): value for name, value in state.items()}
    converted: dict[str, Tensor] = convert_controlnet_checkpoint(dict(original), config)
    return converted | {new: original[old] for new, old in ADDED.items() if old in original}


def _channels(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Channels of the layers that take the control picture in, the first and every second."""
    first = len(state[f"{EMBEDDING}.conv_in.weight"])
    blocks = [name for name in state if name.startswith(f"{EMBEDDING}.blocks.") and name.endswith(".weight")]  # fmt: skip
    return (first, *(len(state[f"{EMBEDDING}.blocks.{i}.weight"]) for i in range(1, len(blocks), 2)))  # fmt: skip
