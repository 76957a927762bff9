"""The fields that every recipe shares, and how a config file becomes a validated object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lcm_studio import bundled
from lcm_studio.jobs.config import load_config

LR_SCHEDULES = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "trapezoid",
)


MAX_BATCH = 65_536


def _a_word(value: Any) -> Any:
    """`no` without quotes is false in YAML."""
    return "no" if value is False else value


class Strict(BaseModel):
    """Frozen; a field that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Strict):
    """Where examples come from."""

    kind: Literal["scenes", "folder", "webdataset", "huggingface"] = Field(
        "scenes", description="scenes (rendered), folder, webdataset (shards) or huggingface"
    )
    path: str | None = Field(
        None, description="folder, shard pattern like DIR/x-{000..009}.tar, or data set id"
    )
    count: int = Field(20000, ge=1, le=10_000_000, description="scenes: how many are rendered")
    first: int = Field(0, ge=0, le=2**62, description="scenes: seed of the first one")
    limit: int = Field(0, ge=0, description="only so many examples, the first ones; 0 = all")
    edition: Literal[1, 2] = Field(
        2, description="scenes: 2 adds weather, birds, bridges, lighthouses and plants nearby to 1"
    )
    stored: bool = Field(
        True,
        description="scenes: rendered pictures are kept on disk; false: only their latents are (flip then mirrors "
        "the caption too)",
    )
    cache: str = Field("cache", description="folder for rendered pictures and encodings")
    crop: Literal["center", "random"] = Field(
        "center", description="place of the square that is cut out, as large as the shorter side"
    )
    flip: bool = Field(
        False, description="mirror half of the examples, drawn anew in every epoch; captions stay"
    )
    latents: Literal["cached", "online"] = Field(
        "cached", description="pictures are encoded once, or (online) in every step"
    )
    latents_precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="precision of the encoder; bf16 is nearly twice as fast on a processor with AMX and "
        "changes latents by about 1% of their spread",
    )
    crops: int = Field(
        4,
        ge=1,
        le=64,
        description="crop=random with latents=cached: crops of a picture that are cached and taken "
        "in turn, one in an epoch; online takes a new one in every epoch",
    )
    text: Literal["cached", "online"] = Field(
        "cached", description="captions go through a frozen text encoder once, or in every step"
    )
    text_cache_mb: int = Field(
        20000,
        ge=0,
        description="disk for cached captions, MB, at most half of what is free; those beyond it "
        "are encoded in the step",
    )

    @model_validator(mode="after")
    def _scenes_are_square(self) -> DataConfig:
        if self.kind == "scenes" and self.crop == "random":
            raise ValueError("crop=random has nothing to cut off from scenes: they are square")
        return self


class TrainConfig(Strict):
    """Shared by all recipes. Steps are optimizer steps; times in seconds; sizes in pixels."""

    steps: int = Field(1000, ge=1, le=1_000_000_000, description="optimizer steps in all")
    batch_size: int = Field(
        16, ge=1, le=MAX_BATCH, description="examples of one process in one micro-step"
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=MAX_BATCH, description="micro-steps in one step"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of weights, order, noise and times")
    resolution: int = Field(
        128, ge=16, le=8192, multiple_of=8, description="side of a picture, pixels"
    )
    learning_rate: float = Field(1e-4, gt=0, le=10, description="peak learning rate")
    scale_lr: bool = Field(
        False, description="multiply learning_rate by accumulation x batch_size x processes"
    )
    lr_scheduler: Literal[LR_SCHEDULES] = Field(  # type: ignore[valid-type]
        "constant", description="schedule; trapezoid = warm-up, constant, linear tail to 0"
    )
    lr_warmup_steps: int = Field(0, ge=0, description="steps from 0 to the peak")
    lr_tail: float = Field(0.3, gt=0, le=1, description="trapezoid: share of steps that decay")
    lr_cycles: float = Field(1, gt=0, description="cosine_with_restarts: number of cycles")
    lr_power: float = Field(1.0, gt=0, description="polynomial: exponent")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="first moment decay")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="second moment decay")
    adam_epsilon: float = Field(1e-8, gt=0, le=1, description="added to the denominator")
    adam_weight_decay: float = Field(1e-2, ge=0, le=10, description="decoupled weight decay")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon orthogonalises the updates of matrices, AdamW does the rest"
    )
    muon_scale: float = Field(
        2.0, gt=0, le=1000, description="muon: matrices' learning rate / the others'"
    )
    use_8bit_adam: bool = Field(False, description="AdamW of bitsandbytes, where installed")
    max_grad_norm: float = Field(1.0, ge=0, description="clip of the gradient's norm; 0 = none")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="EMA of weights for the output; 0 = none"
    )
    mixed_precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_a_word)] = Field(
        "no", description="autocast of networks"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations: memory for time"
    )
    allow_tf32: bool = Field(False, description="TF32 products on Ampere and later")
    enable_xformers: bool = Field(False, description="xformers attention, where installed")
    compile: bool = Field(False, description="torch.compile of the trained network")
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full: weights, gradients, averages, optimizer state and the teacher are split over "
        "the processes; none: every process holds all of them",
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$", description="auto, cpu, cuda or cuda:N"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 = torch's default")
    overlap: bool = Field(
        True,
        description="CPU: the next batch, and what the frozen teacher says of it, is made beside the step; "
        "same numbers",
    )
    log_every: int = Field(10, ge=1, description="steps between two events")
    checkpoint_every: int = Field(500, ge=1, description="steps between two checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")
    validate_every: int = Field(0, ge=0, description="steps between validation pictures; 0 = none")
    report_to: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        "none", description="further tracker beside events.jsonl"
    )
    data: DataConfig = Field(default_factory=DataConfig, description="examples")

    shardable: ClassVar[bool] = True

    @model_validator(mode="after")
    def _shards_can_be_made(self) -> TrainConfig:
        if self.sharding == "none":
            return self
        if not self.shardable:
            raise ValueError(
                "sharding=full is not for this recipe, whose trained network is small; set it to none"
            )
        if self.optimizer == "muon":
            raise ValueError(
                "sharding=full and optimizer=muon: muon needs whole matrices; set optimizer to adamw "
                "or sharding to none"
            )
        if self.use_8bit_adam:
            raise ValueError(
                "sharding=full and use_8bit_adam=true: the 8-bit state cannot be split; set "
                "use_8bit_adam to false or sharding to none"
            )
        return self


PRESETS = Path(__file__).resolve().parent / "presets"


def presets(recipe: str) -> tuple[str, ...]:
    """Names of a recipe's presets: training/presets/RECIPE-NAME.yaml."""
    start = f"{recipe}-"
    return tuple(sorted(path.stem.removeprefix(start) for path in PRESETS.glob(f"{start}*.yaml")))


def preset(recipe: str, name: str) -> dict[str, Any]:
    """The fields of a named preset; raises ValueError that lists the names there are."""
    if name not in presets(recipe):
        there = ", ".join(presets(recipe)) or "none"
        raise ValueError(f"preset={name!r} of {recipe} is unknown; there are: {there}")
    fields = load_config(PRESETS / f"{recipe}-{name}.yaml")
    for field, value in fields.items():
        if isinstance(value, str) and value.startswith("assets/"):
            fields[field] = str(bundled.ASSETS / value.removeprefix("assets/"))
    return fields
