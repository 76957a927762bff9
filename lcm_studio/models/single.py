"""Single `.safetensors` checkpoints: the weights from one file, everything else from a diffusers folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.models.allowed import check_index, component_config
from lcm_studio.models.catalog import describe
from lcm_studio.models.files import Header, called, first_line, one_sentence, read_header, read_json
from lcm_studio.models.kinds import row_of
from lcm_studio.models.kinds.recognise import Memory, Told, as_kind, of_file
from lcm_studio.models.lora_file import facts_of
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.models import ModelInfo

if TYPE_CHECKING:
    from lcm_studio.device import Placement
    from lcm_studio.models.load import FindDecoder, LoadedModel

ORIGINAL = "model.diffusion_model."
PREFIXES = (ORIGINAL, "diffusion_model.", "model.", "unet.", "")
OTHER_PARTS = ("first_stage_model.", "cond_stage_model.", "conditioner.")
CONTROL = ("controlnet_cond_embedding.", "input_hint_block.")
OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("double_blocks.0.img_attn.qkv.weight",), "FLUX"),
    (("joint_blocks.0.x_block.attn.qkv.weight",), "Stable Diffusion 3"),
    (("attention_y_norm.weight", "blocks.0.cross_attn.kv_linear.weight"), "SANA or PixArt"),
    (("cap_embedder.0.weight",), "Z-Image or Lumina"),
    (("down_blocks.0.motion_modules", "temporal_transformer"), "a video model"),
)


def single_info(
    path: Path, folders: Iterable[Path] = (), memory: Memory | None = None
) -> ModelInfo:
    """What the checkpoint is. Raises ModelError where it is none, or no folder with its configs is there."""
    header = read_header(path)
    folder = config_folder(path, header, folders)
    info = describe(folder, path.stem, parameters=header.parameters, size=header.bytes)
    folder_told = Told(kind=row_of(info), by="its configs")
    told = of_file(info.kind, header, path, folder_told, memory)
    info = as_kind(info, told.kind, by=told.by, steps=told.steps)
    return replace(info, path=str(path))


def config_folder(path: Path, header: Header, folders: Iterable[Path] = ()) -> Path:
    """The diffusers folder whose configs and tokenizer fit: NAME/ beside NAME.safetensors, config/, or a known model.

    Raises ModelError with the remedy where there is none.
    """
    _refuse_others(path, header)
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
    from lcm_studio.models.backends.memory import check_room
    from lcm_studio.models.load import assemble, load_component, quiet

    header = read_header(path)
    folder = config_folder(path, header, folders)
    info = single_info(path, folders)
    check_room(header.parameters, placement, path.name)
    _, classes = check_index(folder)
    with quiet(), one_sentence("a config", called(folder)):
        if not any(name.startswith(OTHER_PARTS) for name in header.shapes):
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


def layout_of(names: Iterable[str]) -> tuple[str, bool] | None:
    """(prefix, whether in diffusers' names) of a UNet's tensors among `names`; None where there is none."""
    for name in names:
        for entry, diffusers in (("input_blocks.0.0.weight", False), ("conv_in.weight", True)):
            prefix = name.removesuffix(entry)
            if name.endswith(entry) and prefix in PREFIXES:
                return prefix, diffusers
    return None


def _shapes(header: Header) -> dict[str, tuple[int, ...]]:
    """The shapes of the UNet's tensors, without their prefix."""
    layout = layout_of(header.shapes)
    if layout is None:
        return {}
    prefix = layout[0]
    return {
        name.removeprefix(prefix): shape
        for name, shape in header.shapes.items()
        if name.startswith(prefix) and not name.startswith(OTHER_PARTS)
    }


def _fits(header: Header, folder: Path) -> bool:
    """Whether input channels, text width and the guidance embedding of the configs are those of the weights."""
    try:
        config = component_config(folder, "unet")
    except ModelError:
        return False
    shapes = _shapes(header)
    entry = shapes.get("conv_in.weight") or shapes.get("input_blocks.0.0.weight")
    text = _text_width(shapes)
    embedded = any(name.endswith("cond_proj.weight") for name in shapes)
    if entry is None or text is None:
        return False
    first = config.get("block_out_channels", (0,))[0]
    return (
        tuple(entry[:2]) == (first, config.get("in_channels"))
        and text == config.get("cross_attention_dim")
        and embedded == (config.get("time_cond_proj_dim") is not None)
    )


def _text_width(shapes: dict[str, tuple[int, ...]]) -> int | None:
    return next((s[-1] for n, s in shapes.items() if n.endswith("attn2.to_k.weight")), None)


def _refuse_others(path: Path, header: Header) -> None:
    """Raises ModelError, by the name of what it is, for networks that the studio does not load from one file."""
    if any(mark in name for name in header.shapes for mark in CONTROL):
        raise ModelError(
            f"{path.name} is a ControlNet, no whole network; put it into controlnets/ beside the models, or give it as --control"
        )
    shapes = _shapes(header)
    entry = shapes.get("conv_in.weight") or shapes.get("input_blocks.0.0.weight")
    if entry is not None and len(entry) == 4 and entry[1] == 9:
        raise ModelError(
            f"{path.name} is an inpainting variant (9 input channels); use the text-to-image model, "
            "the studio inpaints with it"
        )
    if entry is not None and len(entry) == 4 and entry[1] == 8:
        raise ModelError(
            f"{path.name} takes a second picture as input (8 channels, as InstructPix2Pix); use a text-to-image model"
        )
    if _text_width(shapes) == 1280:
        raise ModelError(
            f"{path.name} is the SDXL refiner, which goes over pictures of the base model; use the base model"
        )
    for marks, what in OTHERS:
        if any(name.endswith(mark) or mark in name for name in header.shapes for mark in marks):
            raise ModelError(
                f"{path.name} is a single file of {what}; use its diffusers folder (model_index.json and all)"
            )
    try:
        facts_of(header, path.name)
    except ModelError as error:
        if not shapes:
            text = str(error).replace(", no LoRA;", ";")
            if "holds no LoRA layers" in text:
                text = f"{path.name} holds no diffusion network; a LoRA goes into --lora, a decoder into --decoder"
            raise ModelError(text) from error
        return
    raise ModelError(f"{path.name} holds a LoRA, no whole network; it goes into --lora")


def _state(path: Path) -> dict[str, Any]:
    """The UNet's tensors without their prefix."""
    from safetensors.torch import load_file

    state = load_file(path)
    layout = layout_of(state)
    prefix = layout[0] if layout else ""
    return {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix) and not name.startswith(OTHER_PARTS)
    }


def _unet(path: Path, folder: Path, placement: Placement) -> Any:
    """A UNet alone, in diffusers' names or in those of the original code."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = component_config(folder, "unet")
    unet = UNet2DConditionModel.from_config(config)
    try:
        state = _state(path)
        if "conv_in.weight" not in state:
            projection = [v for n, v in state.items() if n.endswith("cond_proj.weight")]
            original = {f"{ORIGINAL}{name}": value for name, value in state.items()}
            state = convert_ldm_unet_checkpoint(original, config)
            if projection:  # diffusers' conversion leaves it out
                state["time_embedding.cond_proj.weight"] = projection[0]
        unet.load_state_dict(state)
    except (RuntimeError, KeyError, IndexError) as error:
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
    if component_config(folder, "unet").get("time_cond_proj_dim") is None:
        return {}
    return {"unet": _unet(path, folder, placement)}
