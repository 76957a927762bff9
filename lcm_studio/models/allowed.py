"""The pipelines, components and classes that a model folder may name. Nothing else of it is loaded. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcm_studio.models.files import called, check_sizes, read_json
from lcm_studio.spec.errors import ModelError

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
_LATENT = ("vae", "text_encoder", "tokenizer", "scheduler")
_TWO_TEXTS = (*_LATENT, "text_encoder_2", "tokenizer_2")
NEEDED = {
    "sd": ("unet", *_LATENT),
    "sdxl": ("unet", *_TWO_TEXTS),
    "cm": ("unet", "scheduler"),
    "sana": ("transformer", *_LATENT),
    "flux": ("transformer", *_TWO_TEXTS),
    "sd3": ("transformer", *_TWO_TEXTS),
    "z-image": ("transformer", *_LATENT),
}


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
