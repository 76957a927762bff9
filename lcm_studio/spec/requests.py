"""What a user can ask for. Frozen, keyword-only, and the same from the page, the shell and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lcm_studio.spec import limits
from lcm_studio.spec.schema import number, text, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels: TypeAlias = NDArray[np.uint8]

BUNDLED_MODEL = "scenery-lcm"
ControlKind = Literal["canny", "scribble", "depth", "none"]
Priority = Literal["live", "normal"]
Sampler = Literal[
    "auto", "consistency", "ddim", "langevin", "langevin-2020", "sde", "ancestral", "pc",
    "ode-euler", "ode-heun", "dpmpp", "rk45",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """A LoRA `.safetensors` file and the weight it is applied with (1.0 = as trained)."""

    path: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    """A textual inversion: `path` is a `.safetensors` file, or the word of one in an `embeddings` folder.

    `word`: what stands for it in a prompt; "" = the token that the file names, and the file's name.
    `found`: the file, where the engine has looked the word up. `part`: the word by which that file, a LoRA, has it.
    """

    path: str
    word: str = ""
    found: str = ""
    part: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlSpec:
    """A ControlNet that a picture follows: `path` is its diffusers folder, its `.safetensors` file, or a name in `controlnets`.

    `image`: uint8 `(H, W)` or `(H, W, 3 or 4)`, of the proportions of the result; None = of an edit, its own picture. `kind`: what is made of it (`images.control`): canny, scribble, depth, or
    none, where it is a map already. `strength`: of its hold, 1 = as trained. `start`, `end`: the share of the steps at which
    it takes hold and lets go. `found`: the folder, where the engine has looked the name up.
    """

    path: str
    image: Pixels | None = None
    kind: ControlKind = "none"
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    found: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class IPAdapterSpec:
    """A picture beside the words of a prompt: `path` is an IP-Adapter's `.safetensors` file, or a name in `ip_adapters`.

    `image`: uint8 `(H, W)` or `(H, W, 3 or 4)`. `encoder`: the folder of its CLIP image encoder, "" = the one that lies near it.
    `strength`: of its hold, 1 = as trained. `start`, `end`: the share of the steps at which it takes hold and lets go.
    `found`: (file, encoder's folder), where the engine has looked them up.
    """

    path: str
    image: Pixels
    encoder: str = ""
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    found: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What generation and editing share.

    Fields made by `spec.schema` say for themselves what they are, and are written nowhere else: the shell's flags, the API's
    parameters, the checks, the settings in a PNG and, of those that only some models have, the page's controls come from them.
    The others:
    `timesteps`: an explicit falling list of the model's own levels; overrides `steps`.
    `sampler`: consistency = fresh noise at every step; ddim = plain diffusion models and teachers; others follow the
    score of a diffusion model (spec.samplers); auto = by the model and its LoRAs. `sampler_settings`: its own settings.
    `kind`: a row of `models.kinds`; auto = by the model and its LoRAs.
    `embeddings`: textual inversions by path. Those of the engine's `embeddings` folders, and those that a LoRA of the request
    bundles, need only their word in a prompt.
    `control`: a ControlNet and the picture that it follows. `ip_adapter`: an IP-Adapter and its picture.
    `priority`: "live" previews overtake "normal" requests. `previews`: send each step's clean estimate.
    """

    prompt: str = text("", title="Prompt", help="what to draw", kept=True)
    negative: str = text(
        "",
        title="Negative prompt",
        help="what to keep out, of models with real guidance",
        kept=True,
    )
    steps: int = whole(
        4,
        title="Steps",
        low=1,
        high=limits.MAX_EVALUATIONS,
        help="network evaluations per picture",
        unset="the model's",
        kept=True,
    )
    guidance: float | None = number(
        None,
        title="Guidance",
        low=0.0,
        high=limits.MAX_GUIDANCE,
        help="guidance scale: how closely the picture follows the words",
        unset="the model's",
        kept=True,
    )
    guided_steps: int | None = whole(
        None,
        title="Guided steps",
        low=1,
        high=limits.MAX_STEPS,
        help="real guidance and the negative prompt in so many first steps only, each of them at two evaluations",
        unset="as the model's kind has it",
        lacks="no_guided_steps",
        slider=(0, 8),
        start=0,
    )
    seed: int = whole(
        0,
        title="Seed",
        low=0,
        high=limits.MAX_SEED - limits.MAX_COUNT,
        help="picture i has seed + i, whatever the others are",
        kept=True,
    )
    count: int = whole(1, title="Images", low=1, high=limits.MAX_COUNT, help="pictures", kept=True)
    model: str = BUNDLED_MODEL
    loras: tuple[LoraSpec, ...] = ()
    embeddings: tuple[EmbeddingSpec, ...] = ()
    clip_skip: int = whole(
        0,
        title="Clip skip",
        unit="layers",
        low=0,
        high=limits.MAX_CLIP_SKIP,
        help="last layers of CLIP that are left out for the prompt, not for the negative one, as diffusers counts them: "
        "1 here is 2 in AUTOMATIC1111 and -2 in ComfyUI",
        lacks="no_clip_skip",
        most="most_skipped",
    )
    decoder: str = text(
        "default",
        title="Decoder",
        help="another autoencoder for decoding, by name or path",
        kept=True,
    )
    timesteps: tuple[int, ...] | None = None
    class_label: int | None = whole(
        None,
        title="Class",
        low=0,
        high=limits.MAX_CLASSES - 1,
        help="what a model of classes draws",
        unset="any",
        lacks="no_classes",
        most="last_class",
        kept=True,
    )
    sampler: Sampler = "auto"
    sampler_settings: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    kind: str = "auto"
    eta: float | None = number(
        None,
        title="Eta",
        low=0.0,
        high=1.0,
        help="share of fresh noise: less keeps detail, more corrects",
        unset="the kind's own",
        lacks="no_eta",
        ignored=True,
        native="eta",
    )
    control: ControlSpec | None = None
    ip_adapter: IPAdapterSpec | None = None
    previews: bool = False
    priority: Priority = "normal"


@dataclass(frozen=True, kw_only=True)
class Generate(Sampling):
    """Text (or a class label, or nothing) to images of `width` x `height` pixels."""

    width: int | None = whole(
        None,
        title="Width",
        low=limits.MIN_SIDE,
        high=limits.MAX_SIDE,
        help="pixels",
        unset="the model's",
        kept=True,
    )
    height: int | None = whole(
        None,
        title="Height",
        low=limits.MIN_SIDE,
        high=limits.MAX_SIDE,
        help="pixels",
        unset="the model's",
        kept=True,
    )
    guidance_start: float | None = number(
        None,
        title="Guidance from",
        low=0.0,
        high=0.9,
        help="real guidance begins after this share of the way from noise to picture; pictures of one prompt differ more",
        unset="the model's own",
        lacks="no_guidance_start",
        ignored=True,
        native="guidance_start",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit(Sampling):
    """An edit that keeps the known part of `image` fixed.

    `task`: a name of the edit registry (inpaint, outpaint, colorize, superres, denoise, deblur, sketch,
    interpolate). `image`, `image_b`: uint8 `(H, W, 3)`, or `(H, W, 4)` with alpha, which comes back unchanged.
    `mask`: uint8 `(H, W)`, 255 where the picture may change. `options`: the task's own settings, checked by it.
    """

    task: str
    image: Pixels
    image_b: Pixels | None = None
    mask: Pixels | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Request: TypeAlias = Generate | Edit
