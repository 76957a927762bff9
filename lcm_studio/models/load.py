"""Opens a diffusers folder: allow-listed classes, checked safetensors, nothing that runs foreign code."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from lcm_studio.device import Placement, prepare
from lcm_studio.models.allowed import check_index, component_config
from lcm_studio.models.backends import open_backend
from lcm_studio.models.backends.memory import fitting, quantizer
from lcm_studio.models.catalog import read_info
from lcm_studio.models.controlnet import CLASS
from lcm_studio.models.families import FAMILIES
from lcm_studio.models.files import called, one_sentence, read_header, read_json, weight_files
from lcm_studio.models.latent import LatentModel
from lcm_studio.models.pixel import PixelModel
from lcm_studio.models.transformer import TransformerModel
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.models import ModelInfo

LoadedModel: TypeAlias = LatentModel | PixelModel | TransformerModel
FindDecoder: TypeAlias = Callable[[str], Path]
MAX_TOKENS = 100_000


def load_folder(
    folder: Path,
    placement: Placement,
    *,
    model_id: str | None = None,
    find_decoder: FindDecoder | None = None,
) -> LoadedModel:
    """The model in `folder`, on its device. Raises ModelError with the reason where it cannot be used."""
    info = read_info(folder, model_id)
    _, classes = check_index(folder)
    with quiet():
        parts = {
            name: load_component(
                folder,
                name,
                class_name,
                placement,
                quantize=info.quantize if name == "unet" else "",
            )
            for name, class_name in classes.items()
            if name not in ("scheduler", "image_encoder")
        }
    scheduler = component_config(folder, "scheduler")
    options = read_json(folder / "model_index.json")
    with one_sentence("a config", called(folder)):
        return assemble(
            info, parts, scheduler, placement, options=options, find_decoder=find_decoder
        )


def assemble(
    info: ModelInfo,
    parts: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    placement: Placement,
    *,
    options: Mapping[str, Any] | None = None,
    find_decoder: FindDecoder | None = None,
) -> LoadedModel:
    """A model of components that are in memory already (training validates with this)."""
    backend = open_backend(placement)
    if info.kind == "cm":
        return PixelModel(
            info=info,
            unet=parts["unet"],
            scheduler=scheduler,
            placement=placement,
            backend=backend,
        )
    from lcm_studio.models.codec import LatentCodec
    from lcm_studio.models.controlnet_load import load_controlnet
    from lcm_studio.models.ip_adapter import IPAdapter, load_encoder, load_ip_adapter
    from lcm_studio.models.safety import safety_check
    from lcm_studio.models.steering import Kept
    from lcm_studio.models.text import TextEncoders
    from lcm_studio.models.weights import LoraSwitch

    def load_decoder(name: str) -> Any:
        path = find_decoder(name) if find_decoder is not None else Path(name)
        return load_autoencoder(path, placement)

    codec = LatentCodec(parts["vae"], placement, load_decoder, backend)
    if info.kind in FAMILIES:
        return TransformerModel(
            info=info,
            parts=parts,
            codec=codec,
            scheduler=scheduler,
            placement=placement,
            loras=LoraSwitch(parts),
        )
    pairs = [
        (parts[f"tokenizer{i}"], parts[f"text_encoder{i}"])
        for i in ("", "_2")
        if f"text_encoder{i}" in parts
    ]
    encoders: Kept[str] = Kept(lambda path: load_encoder(Path(path), placement))

    def load_adapter(files: tuple[str, str]) -> IPAdapter:
        path, encoder = files
        with quiet():
            return load_ip_adapter(Path(path), parts["unet"], lambda: encoders(encoder), placement)

    zero = info.kind == "sdxl" and bool((options or {}).get("force_zeros_for_empty_prompt", True))

    return LatentModel(
        info=info,
        unet=parts["unet"],
        text=TextEncoders(pairs, placement, zero_negative=zero),
        codec=codec,
        scheduler=scheduler,
        placement=placement,
        loras=LoraSwitch(parts),
        safety=safety_check(parts.get("safety_checker"), parts.get("feature_extractor"), placement),
        components=parts,
        backend=backend,
        load_control=lambda path: load_controlnet(Path(path), parts["unet"], placement),
        load_adapter=load_adapter,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' warnings and progress bars, which say nothing a user could act on."""
    import diffusers
    import transformers

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    levels = [log.get_verbosity() for log in loggers]
    bars = [log.is_progress_bar_enabled() for log in loggers]
    try:
        for log in loggers:
            log.set_verbosity(logging.CRITICAL)
            log.disable_progress_bar()
        yield
    finally:
        for log, level, bar in zip(loggers, levels, bars, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()


def load_component(
    folder: Path, name: str, class_name: str, placement: Placement, *, quantize: str = ""
) -> Any:
    """One component by its own `from_pretrained`, weights from safetensors only."""
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    path = folder / name
    if name.startswith("tokenizer") or name == "feature_extractor":
        with one_sentence(name, called(folder)):
            part = _class(name, class_name).from_pretrained(str(path), local_files_only=True)
            length = getattr(part, "model_max_length", 1)
            if not isinstance(length, int) or not 0 < length <= MAX_TOKENS:
                raise ValueError(f"model_max_length={str(length)[:40]} is no length of a prompt")
            return part
    component_config(folder, name)
    files, variant = weight_files(path)
    parameters = sum(read_header(file).parameters for file in files)
    more = fitting(parameters * placement.torch_dtype().itemsize, placement)
    with one_sentence(name, called(folder)):
        if quantize:
            more["quantization_config"] = quantizer(quantize)
        module = _class(name, class_name).from_pretrained(
            str(path),
            use_safetensors=True,
            variant=variant,
            local_files_only=True,
            dtype=placement.torch_dtype(),
            **more,
        )
        if "device_map" in more:  # accelerate has placed it
            return module.eval().requires_grad_(False)
        return prepare(module, placement)


def load_autoencoder(path: Path, placement: Placement) -> Any:
    """A decoder folder (AutoencoderKL or AutoencoderTiny) that replaces a model's own."""
    config = read_json(path / "config.json")
    class_name = str(config.get("_class_name"))
    if class_name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ModelError(
            f"{path.name} is a {class_name}, no decoder; use an AutoencoderKL or AutoencoderTiny folder"
        )
    return load_component(path.parent, path.name, class_name, placement)


def _class(name: str, class_name: str) -> Any:
    if name == "safety_checker":
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

        return StableDiffusionSafetyChecker
    if name in ("unet", "transformer", "vae") or class_name.startswith(("Autoencoder", CLASS)):
        import diffusers

        return getattr(diffusers, class_name)
    import transformers

    if name == "feature_extractor":
        return transformers.CLIPImageProcessor
    if class_name in ("TokenizersBackend", "PreTrainedTokenizerFast"):  # one class, by two names
        return transformers.PreTrainedTokenizerFast
    return getattr(
        transformers, class_name.removesuffix("Fast") if "Tokenizer" in class_name else class_name
    )
