"""A teacher with Stable Diffusion 1.5's shapes and random weights: what a GPU step costs needs no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def write_teacher(folder: Path, like: Path) -> Path:
    """A StableDiffusionPipeline folder in float16, 860 M parameters; tokenizer and scheduler of `like`."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    shutil.copytree(like / "tokenizer", folder / "tokenizer")
    shutil.copytree(like / "scheduler", folder / "scheduler")
    index = json.loads((like / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKL"]
    (folder / "model_index.json").write_text(json.dumps(index))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = CLIPTokenizer.from_pretrained(like / "tokenizer")
    with torch.device(device):
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
            scaling_factor=0.18215,
        )
    for name, network in (("text_encoder", text), ("unet", unet), ("vae", vae)):
        network.half().save_pretrained(folder / name)
    return folder


def write_tiny_decoder(folder: Path) -> Path:
    """An AutoencoderTiny with random weights and the shapes of TAESD, for a model of `write_teacher`."""
    from diffusers import AutoencoderTiny

    AutoencoderTiny(latent_channels=4).half().save_pretrained(folder)
    return folder
