"""Tiny, randomly initialised pipelines of transformers: flux, sd3, z-image, sana."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests import tiny

SIDE = 8  # latent cells: the models' own pictures have 64 pixels
CHAT = "{% for m in messages %}<user> {{ m.content }} {% endfor %}<answer>"


def words(length: int = 64) -> Any:
    """A tokenizer of whole words, as a stock folder may name it (TokenizersBackend)."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "<user>", "<answer>", *tiny.WORDS])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )
    made.chat_template = CHAT
    return made


def t5(vocabulary: int) -> Any:
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(11)
    return T5EncoderModel(
        T5Config(vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    ).eval()


def kl(channels: int, shift: float) -> Any:
    """An f = 8 autoencoder with a shift, as flow models have."""
    vae = tiny.vae(channels)
    vae.register_to_config(shift_factor=shift, scaling_factor=0.4)
    return vae


def build(kind: str) -> Any:
    """The stock pipeline of a kind: flux (schnell), flux-dev, sd3, z-image, sana."""
    import diffusers as d
    import torch
    from transformers import Gemma2Config, Gemma2Model, Qwen3Config, Qwen3Model

    clip, word = tiny.tokenizer(), words()
    torch.manual_seed(12)
    if kind in ("flux", "flux-dev"):
        dev = kind == "flux-dev"
        return d.FluxPipeline(
            transformer=d.FluxTransformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                axes_dims_rope=(4, 4, 8),
                guidance_embeds=dev,
            ).eval(),
            scheduler=d.FlowMatchEulerDiscreteScheduler(
                shift=3.0 if dev else 1.0, use_dynamic_shifting=dev
            ),
            vae=kl(4, 0.1),
            text_encoder=tiny.text_encoder(len(clip)),
            tokenizer=clip,
            text_encoder_2=t5(len(word)),
            tokenizer_2=word,
        )
    if kind == "sd3":
        return d.StableDiffusion3Pipeline(
            transformer=d.SD3Transformer2DModel(
                sample_size=SIDE,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=4,
                joint_attention_dim=64,
                caption_projection_dim=32,
                pooled_projection_dim=64,
                pos_embed_max_size=16,
            ).eval(),
            scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=kl(4, 0.06),
            text_encoder=tiny.text_encoder(len(clip), projected=True),
            tokenizer=clip,
            text_encoder_2=tiny.text_encoder(len(clip), projected=True),
            tokenizer_2=clip,
            text_encoder_3=None,
            tokenizer_3=None,
        )
    if kind == "z-image":
        return d.ZImagePipeline(
            transformer=d.ZImageTransformer2DModel(
                in_channels=4,
                dim=32,
                n_layers=1,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=32,
                axes_dims=[4, 6, 6],
                axes_lens=[600, 64, 64],
            ).eval(),
            scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=kl(4, 0.1),
            text_encoder=Qwen3Model(
                Qwen3Config(
                    vocab_size=len(word),
                    hidden_size=32,
                    intermediate_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    head_dim=16,
                    pad_token_id=0,
                )
            ).eval(),
            tokenizer=words(1024),
        )
    return d.SanaSprintPipeline(
        transformer=d.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
            sample_size=SIDE,
            guidance_embeds=True,
            qk_norm="rms_norm_across_heads",
        ).eval(),
        scheduler=d.SCMScheduler(),
        vae=d.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ).eval(),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(word),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                pad_token_id=0,
            )
        ).eval(),
        tokenizer=words(1024),
    )


@cache
def pipeline(kind: str) -> Any:
    """`build(kind)`, once per test run."""
    pipe = build(kind)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(kind: str, folder: Path) -> Path:
    """Writes the pipeline of `kind` as a diffusers folder and returns it."""
    pipeline(kind).save_pretrained(folder)
    config = folder / "transformer" / "config.json"
    # where a config names no size it is that of the published models, 1024 pixels, which is long on a tiny model too
    config.write_text(json.dumps({"sample_size": SIDE} | json.loads(config.read_text())))
    return folder
