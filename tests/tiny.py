"""Tiny, randomly initialised pipelines of every kind, saved as diffusers folders. Seconds to build, no network."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

WORDS = ["sunset", "noon", "night", "snowy", "mountains", "lake", "red", "house"]
WORDS += ["tree", "sea", "clear", "sky", "a", "the", "of"]


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes that CLIP's byte-pair vocabulary is built on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols, extra = [], 0
    for byte in range(256):
        if byte in visible:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(256 + extra))
            extra += 1
    return symbols


def tokenizer(length: int = 16) -> Any:
    """A CLIPTokenizer of single letters and a few whole words."""
    from transformers import CLIPTokenizer

    letters = _byte_symbols()
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
                tokens.append("".join(pair))
            pieces = ["".join(pair), *pieces[2:]]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def text_encoder(
    vocabulary: int, *, projected: bool = False, width: int = 32, length: int = 16
) -> Any:
    """A two-layer CLIP text encoder."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(2 + projected)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        projection_dim=width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def vae(channels: int = 4, *, tiny: bool = False) -> Any:
    """An autoencoder with f = 8 (AutoencoderKL) or f = 8 AutoencoderTiny."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny

    torch.manual_seed(3)
    if tiny:
        return AutoencoderTiny(
            latent_channels=channels,
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        ).eval()
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=64,
    ).eval()


def unet(
    cond_dim: int = 32, *, w_dim: int | None = None, sdxl: bool = False, channels: int = 4
) -> Any:
    """A conditional UNet of two levels for 8 x 8 latents."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(4)
    extra: dict[str, Any] = {}
    if sdxl:
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 32,
            "use_linear_projection": True,
        }
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cond_dim,
        attention_head_dim=8,
        norm_num_groups=8,
        time_cond_proj_dim=w_dim,
        **extra,
    ).eval()


def lcm_scheduler(prediction: str = "epsilon") -> Any:
    """SD's noise schedule with the LCM sampler."""
    from diffusers import LCMScheduler

    return LCMScheduler(prediction_type=prediction)


def build(kind: str) -> Any:
    """A stock pipeline: lcm, lcm-v, sd, sd-plain (DDIM), sd-15 (PNDM, as 1.5 is saved), sdxl, sdxl-base (Euler), sdxl-lcm
    (w-embedded), cm, cm-class."""
    import torch
    from diffusers import (
        CMStochasticIterativeScheduler,
        ConsistencyModelPipeline,
        DDIMScheduler,
        EulerDiscreteScheduler,
        LatentConsistencyModelPipeline,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DModel,
    )

    if kind in ("cm", "cm-class"):
        torch.manual_seed(5)
        net = UNet2DModel(
            sample_size=16,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
            num_class_embeds=7 if kind == "cm-class" else None,
        ).eval()
        return ConsistencyModelPipeline(unet=net, scheduler=CMStochasticIterativeScheduler())
    words = tokenizer()
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    parts = {"vae": vae(), "tokenizer": words, "text_encoder": text_encoder(len(words))}
    if kind in ("lcm", "lcm-v"):
        return LatentConsistencyModelPipeline(
            **parts,
            unet=unet(w_dim=16),
            scheduler=lcm_scheduler("v_prediction" if kind == "lcm-v" else "epsilon"),
            **none,
        )
    if kind == "sd":
        return StableDiffusionPipeline(**parts, unet=unet(), scheduler=lcm_scheduler(), **none)
    if kind == "sd-plain":
        ddim = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            clip_sample=False, set_alpha_to_one=True, steps_offset=1,
        )  # fmt: skip
        return StableDiffusionPipeline(**parts, unet=unet(), scheduler=ddim, **none)
    if kind == "sd-15":
        pndm = PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
            set_alpha_to_one=False, steps_offset=1,
        )  # fmt: skip
        pndm.register_to_config(clip_sample=False)
        return StableDiffusionPipeline(**parts, unet=unet(), scheduler=pndm, **none)
    if kind in ("sdxl", "sdxl-lcm", "sdxl-base"):
        scheduler = lcm_scheduler()
        if kind == "sdxl-base":
            scheduler = EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                timestep_spacing="leading", steps_offset=1,
            )  # fmt: skip
            scheduler.register_to_config(clip_sample=False)
        return StableDiffusionXLPipeline(
            **parts,
            tokenizer_2=words,
            text_encoder_2=text_encoder(len(words), projected=True),
            unet=unet(cond_dim=64, w_dim=16 if kind == "sdxl-lcm" else None, sdxl=True),
            scheduler=scheduler,
            add_watermarker=False,
        )
    raise ValueError(kind)


@cache
def pipeline(kind: str) -> Any:
    """`build(kind)`, once per test run."""
    return build(kind)


def save(kind: str, folder: Path, *, vocabulary: bool = False) -> Path:
    """Writes the pipeline of `kind` as a diffusers folder and returns it."""
    pipeline(kind).save_pretrained(folder)
    if vocabulary:
        groups = {"groups": [{"name": "all", "phrases": WORDS}]}
        (folder / "vocabulary.json").write_text(json.dumps(groups))
    return folder
