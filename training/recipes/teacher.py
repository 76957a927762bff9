"""`teacher`: a text-conditional latent diffusion model trained from nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcm_studio.maths.schedule import NoiseSchedule
from training.config import TrainConfig
from training.errors import TrainingFault
from training.growth import grow_unet
from training.networks import open_part
from training.objectives.diffusion import diffusion_loss
from training.pruning import pruned
from training.recipes.base import Draw
from training.recipes.latents import LatentRecipe, PromptedConfig, load_vae
from training.text import Tokens, make_text_encoder, write_tokenizer

SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}


class TeacherConfig(PromptedConfig):
    """Fields of the teacher recipe."""

    autoencoder: str = Field("", description="folder of the VAE (a diffusers folder)")
    start_from: str = Field(
        "",
        description="folder of a teacher of this recipe to go on from; its UNet may have fewer "
        "latent channels than the autoencoder",
    )
    adapt: bool = Field(
        False,
        description="start_from is a teacher of another autoencoder or of fewer words: keep the "
        "weights inside its UNet and the words that it knows, begin the rest anew",
    )
    resize: bool = Field(
        False,
        description="start_from is a teacher of other channels or fewer layers_per_block: begin as it, levels of a "
        "multiple of its channels wider, those of fewer with the most important of its own",
    )
    prediction_type: str = Field("v_prediction", description="epsilon, v_prediction or sample")
    channels: tuple[int, ...] = Field((64, 112, 160), description="UNet widths, fine to coarse")
    layers_per_block: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] = Field(
        1, description="residual layers of a UNet block, or of each level's, fine to coarse"
    )
    heads: int = Field(4, ge=1, description="attention heads")
    norm_groups: int = Field(16, ge=1, description="groups of the UNet's group norms")
    text_width: int = Field(128, ge=8, description="width of the text encoder")
    text_layers: int = Field(2, ge=1, description="layers of the text encoder")
    text_length: int = Field(40, ge=4, description="tokens of a prompt, start and end included")
    min_snr_gamma: float = Field(5.0, ge=0, description="min-SNR weighting; 0 = plain")
    proportion_empty_prompts: float = Field(
        0.1, ge=0, le=1, description="share of examples trained without their caption"
    )

    @model_validator(mode="after")
    def _levels_agree(self) -> TeacherConfig:
        layers = self.layers_per_block
        if not isinstance(layers, int) and len(layers) != len(self.channels):
            raise ValueError(
                f"layers_per_block={list(layers)} has {len(layers)} numbers and channels={list(self.channels)} "
                f"{len(self.channels)}; give one number, or one for each of the channels"
            )
        if self.resize and (self.adapt or not self.start_from):
            raise ValueError("resize=true needs a teacher in start_from, and adapt=false")
        return self


def make_unet(
    *,
    latent_channels: int,
    size: int,
    channels: tuple[int, ...],
    text_width: int,
    layers: int | tuple[int, ...] = 1,
    heads: int = 4,
    norm_groups: int = 16,
    time_cond_proj_dim: int | None = None,
) -> Any:
    """An untrained UNet2DConditionModel with attention everywhere but at the finest level."""
    from diffusers import UNet2DConditionModel

    levels = len(channels)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=heads,  # diffusers reads this field as the number of heads
        norm_num_groups=norm_groups,
        time_cond_proj_dim=time_cond_proj_dim,
    )


def continue_unet(unet: Any, old: Any) -> None:
    """Gives `unet` the weights of `old`; latent channels that `old` lacks start unheard and zero."""
    state = unet.state_dict()
    for name, value in old.state_dict().items():
        there = state.get(name)
        fits = there is not None and (
            there.shape == value.shape
            or (name == "conv_in.weight" and there.shape[1] > value.shape[1])
            or (name.startswith("conv_out.") and there.shape[0] > value.shape[0])
        )
        if there is None or not fits:
            raise TrainingFault(
                "config",
                f"start_from: {name} is {tuple(value.shape)} there and "
                f"{tuple(there.shape) if there is not None else 'nothing'} here; "
                "give the same channels, layers_per_block and text_width",
            )
        if there.shape != value.shape:
            there.zero_()
        there[tuple(slice(n) for n in value.shape)] = value


def adapt_unet(unet: Any, old: Any) -> None:
    """Gives `unet` the weights of `old` but for those that read or write latents, which stay untrained.

    The layout of a picture and the way words act on it are learned again far sooner from there than from
    nothing, even where latents mean something else.
    """
    inside = {
        name: value
        for name, value in old.state_dict().items()
        if not name.startswith(("conv_in.", "conv_out."))
    }
    state = unet.state_dict()
    for name, value in inside.items():
        if name not in state or state[name].shape != value.shape:
            here = tuple(state[name].shape) if name in state else "nothing"
            raise TrainingFault(
                "config",
                f"start_from: {name} is {tuple(value.shape)} there and {here} here; "
                "give the same channels, layers_per_block and text_width",
            )
    unet.load_state_dict({**state, **inside})


def adapt_text_encoder(text: Any, tokenizer: Any, old: Any, old_tokenizer: Any) -> None:
    """Gives `text` the weights of `old`: tokens are matched by name, positions by number; others stay untrained."""
    tables = ("token_embedding.weight", "position_embedding.weight")
    state = text.state_dict()
    ids, old_ids = tokenizer.get_vocab(), old_tokenizer.get_vocab()
    shared = [(ids[token], old_ids[token]) for token in ids if token in old_ids]
    for name, value in old.state_dict().items():
        if name.endswith(tables[0]):
            here, there = (torch.tensor(column) for column in zip(*shared, strict=True))
            state[name][here] = value[there].to(state[name])
        elif name.endswith(tables[1]):
            length = min(len(value), len(state[name]))
            state[name][:length] = value[:length]
        elif name in state and state[name].shape != value.shape:
            raise TrainingFault(
                "config",
                f"start_from: {name} of the text encoder is {tuple(value.shape)} there and "
                f"{tuple(state[name].shape)} here; give the same text_width and text_layers",
            )
        elif name in state:
            state[name].copy_(value)


def make_tokenizer(folder: Path, words: tuple[str, ...], length: int) -> Any:
    """A CLIPTokenizer over `words` and the comma, written to `folder`."""
    from transformers import CLIPTokenizer

    write_tokenizer(folder, (*words, ","), length)
    return CLIPTokenizer.from_pretrained(folder)


def scheduler_config(prediction_type: str) -> dict[str, Any]:
    """The training noise schedule as a diffusers config."""
    return {**SCHEDULER, "prediction_type": prediction_type}


def _must_be_model(root: Path) -> None:
    if not (root / "model_index.json").is_file():
        raise TrainingFault(
            "missing_weights",
            f"start_from={root} holds no model_index.json; give the output of a teacher run",
        )


class Teacher(LatentRecipe):
    """UNet and text encoder trained together on cached latents."""

    name: ClassVar[str] = "teacher"
    Config: ClassVar[type[TrainConfig]] = TeacherConfig
    config: TeacherConfig

    def build(self) -> dict[str, nn.Module]:
        c = self.config
        self.vae = load_vae(c.autoencoder, self.device)
        self.open_data()
        if not c.start_from:
            self._start()
        elif c.adapt:
            self._adapt(Path(c.start_from))
        elif c.resize:
            self._resize(Path(c.start_from))
        else:
            self._go_on(Path(c.start_from))
        self.tokens = Tokens(self.tokenizer)
        self.text.to(self.device)
        self.placed(self.unet)
        self.schedule = NoiseSchedule.from_config(scheduler_config(c.prediction_type))
        return {"unet": self.unet, "text_encoder": self.text}

    def _adapt(self, root: Path) -> None:
        _must_be_model(root)
        self._start()
        with torch.no_grad():
            adapt_unet(self.unet, open_part(root, "unet"))
            old = open_part(root, "text_encoder"), open_part(root, "tokenizer")
            adapt_text_encoder(self.text, self.tokenizer, *old)

    def _go_on(self, root: Path) -> None:
        from diffusers import UNet2DConditionModel

        _must_be_model(root)
        self.tokenizer = open_part(root, "tokenizer")
        self.text = open_part(root, "text_encoder").requires_grad_(True)
        old = open_part(root, "unet")
        latents = {"in_channels": self.latents.shape[1], "out_channels": self.latents.shape[1]}
        self.unet = UNet2DConditionModel.from_config({**old.config, **latents})
        continue_unet(self.unet, old)

    def _resize(self, root: Path) -> None:
        _must_be_model(root)
        c = self.config
        self.tokenizer = open_part(root, "tokenizer")
        self.text = open_part(root, "text_encoder").requires_grad_(True)
        old = open_part(root, "unet")
        torch.manual_seed(c.seed)
        was = old.config.block_out_channels
        if len(was) == len(c.channels) and any(a < b for a, b in zip(c.channels, was, strict=True)):
            old = pruned(old, [min(a, b) for a, b in zip(c.channels, was, strict=True)])
        self.unet = self._new_unet(old.config.cross_attention_dim)
        with torch.no_grad():
            grow_unet(self.unet, old, torch.Generator().manual_seed(c.seed))

    def _start(self) -> None:
        c = self.config
        words = tuple(
            sorted(
                {
                    w.strip(",.")
                    for i in range(len(self.source))
                    for w in self.source.caption(i, 0).lower().split()
                }
            )
        )
        self._folder = tempfile.TemporaryDirectory(prefix="tokenizer-")
        self.tokenizer = make_tokenizer(Path(self._folder.name), words, c.text_length)
        torch.manual_seed(c.seed)
        self.text = make_text_encoder(self.tokenizer, width=c.text_width, layers=c.text_layers)
        self.unet = self._new_unet(c.text_width)

    def _new_unet(self, text_width: int) -> Any:
        c = self.config
        return make_unet(
            latent_channels=self.latents.shape[1],
            size=self.latents.shape[-1],
            channels=c.channels,
            text_width=text_width,
            layers=c.layers_per_block,
            heads=c.heads,
            norm_groups=c.norm_groups,
        )

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        x0 = self.x0(draw)
        texts = self.captions(draw, self.config.proportion_empty_prompts)
        g = draw.generator
        # one stratified time for each example: less variance than independent draws
        n = len(texts)
        u = (torch.arange(n) + torch.rand(n, generator=g, dtype=torch.float64)) / n
        return {
            "x0": x0,
            "eps": torch.randn(x0.shape, generator=g).to(x0),
            "t": (u * len(self.schedule)).long().to(self.device),
            "ids": self.tokens(texts).to(self.device),
        }

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        context = self.text(batch["ids"]).last_hidden_state
        return diffusion_loss(
            lambda x, t: self.unet(x, t, context).sample,
            batch["x0"],
            batch["eps"],
            batch["t"],
            self.schedule,
            gamma=self.config.min_snr_gamma,
        )

    def pipeline(self) -> Any:
        """The model as it is now, as a StableDiffusionPipeline."""
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=DDIMScheduler(**scheduler_config(self.config.prediction_type)),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        from training.progress.sheets import sheet

        sheet(
            self.pipeline(),
            self.sheet_prompts(),
            folder / f"step-{step:06d}.png",
            steps=(20,),
            guidance=self.config.validation_guidance,
        )
        return {}

    def export(self, folder: Path) -> None:
        """A StableDiffusionPipeline folder in float16."""
        from training.export import save_pipeline

        save_pipeline(self.pipeline(), folder)
