"""What a model folder is, read from its JSON files and safetensors headers. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcm_studio.models.allowed import WEIGHTLESS, check_index, component_config
from lcm_studio.models.files import called, one_sentence, read_header, read_json, weight_files
from lcm_studio.models.kinds.names import name_parts
from lcm_studio.models.kinds.recognise import as_kind, of_folder
from lcm_studio.models.kinds.rows import kind_of
from lcm_studio.models.words import with_words
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.models import ModelInfo, ModelKind

FLOWS = ("sana", "flux", "sd3", "z-image")


def read_info(folder: Path, model_id: str | None = None) -> ModelInfo:
    """What the doors need to know of the diffusers folder at `folder`.

    Raises ModelError with the reason where it could not be loaded, as far as that shows without torch.
    """
    with one_sentence("what it is made of", called(folder)):
        _, classes = check_index(folder)
        parameters, size = _weights(folder, classes)
    return describe(folder, model_id or called(folder), parameters=parameters, size=size)


def describe(folder: Path, model_id: str, *, parameters: int, size: int) -> ModelInfo:
    """What the configs of `folder` say, whichever files the weights are in. Raises ModelError."""
    with one_sentence("a config", called(folder)):
        info = _describe(folder, model_id, parameters=parameters, size=size)
    if min(info.width, info.height, info.max_steps, info.steps_default) < 1:
        raise ModelError(
            f"the configs of {called(folder)} give pictures of {info.width}x{info.height} in "
            f"{info.steps_default} of {info.max_steps} steps; copy the folder again"
        )
    return info


def _describe(folder: Path, model_id: str, *, parameters: int, size: int) -> ModelInfo:
    family, classes = check_index(folder)
    scheduler = component_config(folder, "scheduler")
    common = {"id": model_id, "path": str(folder), "parameters": parameters, "bytes": size}
    if family in FLOWS:
        return with_words(folder, _flow_info(common, family, scheduler))
    unet = component_config(folder, "unet")
    if classes["scheduler"].startswith("FlowMatch"):
        raise ModelError(
            f"{called(folder)} is a UNet with a flow-matching scheduler, which the studio does not know; "
            "use the folder as its makers published it"
        )
    if family == "cm":
        info = _pixel_info(common, unet, scheduler, classes)
    else:
        vae = component_config(folder, "vae")
        info = _latent_info(common, family, unet, vae, scheduler, classes)
    return with_words(folder, info)


def _pixel_info(
    common: dict[str, Any], unet: dict[str, Any], scheduler: dict[str, Any], classes: dict[str, str]
) -> ModelInfo:
    if classes["unet"] != "UNet2DModel" or classes["scheduler"] != "CMStochasticIterativeScheduler":
        raise ModelError(
            f"{common['id']} needs a UNet2DModel and a CMStochasticIterativeScheduler "
            "to be a consistency model"
        )
    width, height = _sides(unet.get("sample_size"), 64)
    info = ModelInfo(
        **common,
        kind="cm",
        width=width,
        height=height,
        multiple=2 ** (len(unet.get("block_out_channels", (1,))) - 1),
        guidance="none",
        takes_prompt=False,
        classes=int(unet.get("num_class_embeds") or 0),
    )
    info = as_kind(info, kind_of("cm"), by="its network")
    return replace(info, max_steps=int(scheduler.get("num_train_timesteps", 40)))


def _latent_info(
    common: dict[str, Any],
    family: str,
    unet: dict[str, Any],
    vae: dict[str, Any],
    scheduler: dict[str, Any],
    classes: dict[str, str],
) -> ModelInfo:
    channels = int(vae.get("latent_channels", 4))
    if int(unet.get("in_channels", 4)) != channels:
        raise ModelError(
            f"{common['id']} takes {unet.get('in_channels')} input channels for {channels} latent ones "
            "(an inpainting variant?); use the text-to-image model, the studio inpaints with it"
        )
    factor = vae_factor(vae)
    width, height = (side * factor for side in _sides(unet.get("sample_size"), 64))
    embedded = unet.get("time_cond_proj_dim") is not None
    kind: ModelKind = "sdxl" if family == "sdxl" else ("lcm" if embedded else "sd")
    folder = Path(common["path"])
    told = of_folder(
        kind,
        scheduler,
        embedded=embedded,
        names=(*name_parts(folder), *_origins(folder, unet)),
        said=_said_kind(folder),
        path=folder,
    )
    info = ModelInfo(
        **common,
        kind=kind,
        width=width,
        height=height,
        multiple=factor,
        guidance=told.kind.guidance,
        **_texts(folder, classes),
    )
    info = as_kind(info, told.kind, by=told.by, steps=told.steps)
    if told.kind.spacing == "lcm" and not told.kind.levels:
        info = replace(info, max_steps=min(info.max_steps, original_steps(scheduler)))
    return info


def _texts(folder: Path, classes: Mapping[str, str]) -> dict[str, Any]:
    """Widths and layers of the CLIP text encoders; transformers' defaults where a config has none."""
    names = [name for name in ("text_encoder", "text_encoder_2") if name in classes]
    configs = [component_config(folder, name) for name in names]
    return {
        "text_widths": tuple(int(config.get("hidden_size", 512)) for config in configs),
        "text_layers": min(int(config.get("num_hidden_layers", 12)) for config in configs),
    }


def _flow_info(common: dict[str, Any], family: str, scheduler: dict[str, Any]) -> ModelInfo:
    folder = Path(common["path"])
    transformer = component_config(folder, "transformer")
    vae = component_config(folder, "vae")
    wanted = "SCMScheduler" if family == "sana" else "FlowMatchEulerDiscreteScheduler"
    if scheduler.get("_class_name") != wanted:
        raise ModelError(
            f"{called(folder)} comes with {scheduler.get('_class_name')}, its family is sampled by {wanted}; "
            "use the folder as its makers published it"
        )
    factor = vae_factor(vae)
    side = {"sana": 32, "flux": 128, "sd3": 128, "z-image": 128}[family]
    width, height = (n * factor for n in _sides(transformer.get("sample_size"), side))
    told = of_folder(
        family,
        scheduler,
        embedded=bool(transformer.get("guidance_embeds")),
        names=(*name_parts(folder), *_origins(folder, transformer)),
        said=_said_kind(folder),
        path=folder,
    )
    info = ModelInfo(
        **common,
        kind=family,  # type: ignore[arg-type]
        width=width,
        height=height,
        multiple=factor if family == "sana" else 2 * factor,
        guidance=told.kind.guidance,
    )
    return as_kind(info, told.kind, by=told.by, steps=told.steps)


def _origins(folder: Path, *configs: Mapping[str, Any]) -> list[str]:
    """What the configs say that the model was made from."""
    index = folder / "model_index.json"
    found = [config.get("_name_or_path") for config in configs]
    found.append(read_json(index).get("_name_or_path") if index.is_file() else None)
    return [Path(str(name)).name for name in found if isinstance(name, str) and name]


def _said_kind(folder: Path) -> str | None:
    file = folder / "studio.json"
    said = read_json(file).get("kind") if file.is_file() else None
    return said if isinstance(said, str) else None


def original_steps(scheduler: Mapping[str, Any]) -> int:
    """Levels of the grid that a consistency model was distilled on; diffusers' default where the config has none."""
    value = scheduler.get("original_inference_steps")
    return 50 if value is None else int(value)


def vae_factor(vae: Mapping[str, Any]) -> int:
    """Pixels per latent cell of an autoencoder config, as diffusers' pipelines count it."""
    blocks = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or (1,) * 4
    return int(2 ** (len(blocks) - 1))


def _sides(sample_size: Any, fallback: int) -> tuple[int, int]:
    if isinstance(sample_size, list | tuple) and len(sample_size) == 2:
        return int(sample_size[1]), int(sample_size[0])
    side = int(sample_size or fallback)
    return side, side


def _weights(folder: Path, classes: Mapping[str, str]) -> tuple[int, int]:
    parameters = size = 0
    for name in classes:
        if name in WEIGHTLESS:
            continue
        for path in weight_files(folder / name)[0]:
            header = read_header(path)
            parameters += header.parameters
            size += header.bytes
    return parameters, size


def scan(folders: tuple[Path, ...]) -> tuple[tuple[ModelInfo, ...], dict[str, str]]:
    """(models, {folder name: why it cannot be loaded}) of all diffusers folders directly under `folders`."""
    models: dict[str, ModelInfo] = {}
    broken: dict[str, str] = {}
    for root in folders:
        if not root.is_dir():
            continue
        for folder in sorted(root.iterdir()):
            if not (folder / "model_index.json").is_file() or folder.name in models:
                continue
            try:
                models[folder.name] = read_info(folder)
            except ModelError as error:
                broken[folder.name] = str(error)
    return tuple(models.values()), broken
