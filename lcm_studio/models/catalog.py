"""What a model folder is, read from its JSON files and safetensors headers. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcm_studio.models.files import (
    called,
    check_sizes,
    one_sentence,
    read_header,
    read_json,
    weight_files,
)
from lcm_studio.models.kinds.names import name_parts
from lcm_studio.models.kinds.recognise import as_kind, of_folder
from lcm_studio.models.kinds.table import kind_of
from lcm_studio.models.words import with_words
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.models import ModelInfo, ModelKind

PIPELINES = {
    "LatentConsistencyModelPipeline": "sd",
    "LatentConsistencyModelImg2ImgPipeline": "sd",
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "ConsistencyModelPipeline": "cm",
    "SanaSprintPipeline": "sana",
    "FluxPipeline": "flux",
    "StableDiffusion3Pipeline": "sd3",
    "ZImagePipeline": "z-image",
}
_TOKENIZERS = (
    "CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast",
    "Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend",
)  # fmt: skip
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel", "UNet2DModel"),
    "transformer": (
        "SanaTransformer2DModel",
        "FluxTransformer2DModel",
        "SD3Transformer2DModel",
        "ZImageTransformer2DModel",
    ),
    "vae": ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC"),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection", "Gemma2Model", "Qwen3Model"),
    "text_encoder_2": ("CLIPTextModelWithProjection", "T5EncoderModel"),
    "text_encoder_3": ("T5EncoderModel",),
    "tokenizer": _TOKENIZERS,
    "tokenizer_2": _TOKENIZERS,
    "tokenizer_3": _TOKENIZERS,
    "safety_checker": ("StableDiffusionSafetyChecker",),
    "feature_extractor": ("CLIPImageProcessor", "CLIPFeatureExtractor", "CLIPImageProcessorPil"),
    "image_encoder": ("CLIPVisionModelWithProjection",),
}
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
WEIGHTLESS = ("scheduler", "tokenizer", "tokenizer_2", "tokenizer_3", "feature_extractor")
SCHEDULER = re.compile(r"[A-Z][A-Za-z0-9]{2,60}Scheduler")
NEEDED = {
    "sd": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": (
        "unet",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ),
    "cm": ("unet", "scheduler"),
    "sana": ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"),
    "flux": (
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ),
    "sd3": (
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ),
    "z-image": ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"),
}
FLOWS = ("sana", "flux", "sd3", "z-image")  # fmt: skip


def check_index(folder: Path) -> tuple[str, dict[str, str]]:
    """(family, {component: class name}) of a folder's model_index.json, against the allow-list.

    Raises ModelError for a pipeline, component or class that the studio does not load.
    """
    index = read_json(folder / "model_index.json")
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        raise ModelError(
            f"{called(folder)} is a {pipeline!r}, which the studio does not load; "
            f"it takes {', '.join(PIPELINES)}"
        )
    classes: dict[str, str] = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        if len(value) != 2 or value[1] is None:
            continue
        library, class_name = value
        known = (
            bool(SCHEDULER.fullmatch(str(class_name)))
            if name == "scheduler"
            else class_name in COMPONENTS.get(name, ())
        )
        if not known or library not in LIBRARIES:
            raise ModelError(
                f"model_index.json of {called(folder)} names {library}.{class_name} for {name}, "
                "which is not on the list of classes that are safe to load; use a stock diffusers folder"
            )
        classes[name] = class_name
    family = PIPELINES[pipeline]
    if family == "sdxl" and "text_encoder" not in classes and "text_encoder_2" in classes:
        raise ModelError(
            f"{called(folder)} is the SDXL refiner, which goes over pictures of the base model; use the base model"
        )
    missing = [name for name in NEEDED[family] if name not in classes]
    if missing:
        raise ModelError(f"{called(folder)} lacks {', '.join(missing)}; copy the whole folder")
    return family, classes


def component_config(folder: Path, name: str) -> dict[str, Any]:
    """The config of a component, refused where it asks for remote code."""
    file = "scheduler_config.json" if name == "scheduler" else "config.json"
    config = read_json(folder / name / file)
    if "auto_map" in config or "custom_pipelines" in config:
        raise ModelError(
            f"{name}/{file} of {called(folder)} asks for remote code, which the studio never runs; "
            "use a stock diffusers folder"
        )
    check_sizes(config, f"{name}/{file} of {called(folder)}")
    return config


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
