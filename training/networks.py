"""Networks of diffusers folders as generation opens them: checked safetensors of any variant, no pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lcm_studio.spec.errors import ModelError
from training.errors import TrainingFault


def check_teacher(folder: str | Path) -> Any:
    """The `ModelInfo` of a Stable Diffusion or SDXL folder that can be distilled; no weights are loaded.

    Raises TrainingFault "missing_weights" where it could not be opened, "config" for another kind of model.
    """
    from lcm_studio.models.catalog import read_info

    root = Path(folder)
    if not str(folder) or not (root / "model_index.json").is_file():
        raise TrainingFault(
            "missing_weights",
            f"teacher={str(folder)!r} holds no model_index.json; give a diffusers pipeline folder",
        )
    try:
        info = read_info(root)
    except ModelError as error:
        raise TrainingFault("missing_weights", f"teacher={str(folder)!r}: {error}") from None
    if info.kind == "cm":
        raise TrainingFault(
            "config",
            f"teacher={str(folder)!r} is a pixel-space model; give a Stable Diffusion or SDXL folder",
        )
    if info.guidance == "embedded":
        raise TrainingFault(
            "config", f"{folder} is a consistency model; distil the model it was made from"
        )
    return info


def open_part(root: Path, name: str) -> Any:
    """The component `name` of a pipeline's folder: a tokenizer, or a network in float32, frozen, on the CPU.

    Raises TrainingFault "missing_weights" where generation would refuse it.
    """
    from lcm_studio.models.allowed import check_index

    try:
        _, classes = check_index(root)
        if name not in classes:
            raise ModelError(f"{root} has no {name}; fetch it again")
        return _open(root, name, classes[name])
    except ModelError as error:
        raise TrainingFault("missing_weights", str(error)) from None


def open_network(folder: Path, class_name: str) -> Any:
    """The network in `folder`, which is one component and needs no pipeline around it; as `open_part`."""
    try:
        return _open(folder.resolve().parent, folder.resolve().name, class_name)
    except ModelError as error:
        raise TrainingFault("missing_weights", str(error)) from None


def _open(root: Path, name: str, class_name: str) -> Any:
    from lcm_studio.device import Placement
    from lcm_studio.models.load import load_component, quiet

    with quiet():
        return load_component(root, name, class_name, Placement(device="cpu", dtype="fp32"))


def weight_bytes(folder: Path) -> tuple[int, int]:
    """(numbers, bytes) of the weights that would be loaded from a component's folder; headers alone are read.

    Raises TrainingFault "missing_weights" where there are none.
    """
    from lcm_studio.models.files import read_header, weight_files

    try:
        headers = [read_header(path) for path in weight_files(folder)[0]]
    except ModelError as error:
        raise TrainingFault("missing_weights", str(error)) from None
    return sum(h.parameters for h in headers), sum(h.bytes for h in headers)
