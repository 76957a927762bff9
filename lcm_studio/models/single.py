"""Single `.safetensors` checkpoints: the weights from one file, everything else from a diffusers folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.models.catalog import check_index, component_config, describe
from lcm_studio.models.files import Header, called, first_line, one_sentence, read_header, read_json
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.models import ModelInfo

if TYPE_CHECKING:
    from lcm_studio.device import Placement
    from lcm_studio.models.load import FindDecoder, LoadedModel

ORIGINAL = "model.diffusion_model."
DIFFUSERS_UNET = "down_blocks."


def single_info(path: Path, folders: Iterable[Path] = ()) -> ModelInfo:
    """What the checkpoint is. Raises ModelError where it is none, or no folder with its configs is there."""
    header = read_header(path)
    folder = config_folder(path, header, folders)
    info = describe(folder, path.stem, parameters=header.parameters, size=header.bytes)
    return replace(info, path=str(path))


def config_folder(path: Path, header: Header, folders: Iterable[Path] = ()) -> Path:
    """The diffusers folder whose configs and tokenizer fit: NAME/ beside NAME.safetensors, config/, or a known model.

    Raises ModelError with the remedy where there is none.
    """
    if not any(_is_unet(name) for name in header.shapes):
        raise ModelError(
            f"{path.name} holds no diffusion network; a LoRA goes into --lora, a decoder into --decoder"
        )
    nearby = [path.with_suffix(""), path.parent / "config"]
    for folder in (*nearby, *folders):
        if (folder / "model_index.json").is_file() and _fits(header, folder):
            return folder
    raise ModelError(
        f"{path.name} needs the configs of its family; put a diffusers folder (model_index.json, tokenizer, "
        f"configs) beside it as {path.stem}/"
    )


def load_single(
    path: Path,
    placement: Placement,
    *,
    folders: Iterable[Path] = (),
    find_decoder: FindDecoder | None = None,
) -> LoadedModel:
    """The model of a single file. Raises ModelError where it does not fit its configs."""
    from lcm_studio.device import prepare
    from lcm_studio.models.load import assemble, load_component, quiet

    header = read_header(path)
    folder = config_folder(path, header, folders)
    info = single_info(path, folders)
    _, classes = check_index(folder)
    with quiet(), one_sentence("a config", called(folder)):
        if any(name.startswith(DIFFUSERS_UNET) for name in header.shapes):
            parts = {
                name: load_component(folder, name, class_name, placement)
                for name, class_name in classes.items()
                if name not in ("scheduler", "image_encoder", "unet")
            }
            parts["unet"] = prepare(_unet(path, folder, placement), placement)
        else:
            parts = _original(path, folder, placement)
        return assemble(
            info,
            parts,
            component_config(folder, "scheduler"),
            placement,
            options=read_json(folder / "model_index.json"),
            find_decoder=find_decoder,
        )


def _is_unet(name: str) -> bool:
    return name.startswith((ORIGINAL, DIFFUSERS_UNET))


def _fits(header: Header, folder: Path) -> bool:
    """Whether input channels, text width and the guidance embedding of the configs are those of the weights."""
    try:
        config = component_config(folder, "unet")
    except ModelError:
        return False
    names = {name: shape for name, shape in header.shapes.items() if _is_unet_part(name)}
    entry = next(
        (
            shape
            for name, shape in names.items()
            if name in (f"{ORIGINAL}input_blocks.0.0.weight", "conv_in.weight")
        ),
        None,
    )
    text = next((s for n, s in names.items() if n.endswith("attn2.to_k.weight")), None)
    embedded = any(name.endswith("cond_proj.weight") for name in names)
    if entry is None or text is None:
        return False
    first = config.get("block_out_channels", (0,))[0]
    return (
        tuple(entry[:2]) == (first, config.get("in_channels"))
        and text[-1] == config.get("cross_attention_dim")
        and embedded == (config.get("time_cond_proj_dim") is not None)
    )


def _is_unet_part(name: str) -> bool:
    return not name.startswith(("first_stage_model.", "cond_stage_model.", "conditioner."))


def _unet(path: Path, folder: Path, placement: Placement) -> Any:
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    unet = UNet2DConditionModel.from_config(component_config(folder, "unet"))
    try:
        unet.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ModelError(
            f"{path.name} does not fit the configs in {folder.name}; use those it was trained with"
        ) from error
    return unet.to(placement.torch_dtype())


def _original(path: Path, folder: Path, placement: Placement) -> dict[str, Any]:
    """All components by diffusers' own conversion of original checkpoints, without the network."""
    import diffusers

    from lcm_studio.device import prepare

    class_name = read_json(folder / "model_index.json")["_class_name"]
    try:
        pipe = getattr(diffusers, class_name).from_single_file(
            str(path),
            config=str(folder),
            local_files_only=True,
            dtype=placement.torch_dtype(),
            **_embedded_unet(path, folder, placement),
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path.name} cannot be read with the configs in {folder.name} ({first_line(error)}); "
            "use those it was trained with"
        ) from error
    networks = ("unet", "vae", "text_encoder", "text_encoder_2", "safety_checker")
    return {
        name: prepare(part, placement) if name in networks else part
        for name, part in pipe.components.items()
        if part is not None and name not in ("scheduler", "image_encoder")
    }


def _embedded_unet(path: Path, folder: Path, placement: Placement) -> dict[str, Any]:
    """The UNet of a w-embedded checkpoint: diffusers' conversion leaves its guidance projection out."""
    config = component_config(folder, "unet")
    if config.get("time_cond_proj_dim") is None:
        return {}
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from safetensors.torch import load_file

    state = load_file(path)
    name = next(name for name in state if name.endswith("cond_proj.weight"))
    projection = state[name]
    unet = UNet2DConditionModel.from_config(config)
    converted = convert_ldm_unet_checkpoint(state, config)
    unet.load_state_dict({**converted, "time_embedding.cond_proj.weight": projection})
    return {"unet": unet.to(placement.torch_dtype())}
