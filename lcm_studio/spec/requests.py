"""What a user can ask for. Frozen, keyword-only, and the same from the page, the shell and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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

    `steps`: network evaluations per image. `guidance`: guidance scale, None = the model's default.
    `seed`: image i of the request is the image of seed + i alone. `count`: images.
    `timesteps`: an explicit falling list of the model's own levels; overrides `steps`.
    `sampler`: consistency = fresh noise at every step; ddim = plain diffusion models and teachers; others follow the
    score of a diffusion model (spec.samplers); auto = by the model and its LoRAs. `sampler_settings`: its own settings.
    `kind`: a row of `models.kinds`; auto = by the model and its LoRAs.
    `embeddings`: textual inversions by path. Those of the engine's `embeddings` folders, and those that a LoRA of the request
    bundles, need only their word in a prompt.
    `clip_skip`: last layers of the CLIP text encoders that are left out for the prompt, as diffusers counts them: 0 = none,
    1 = what AUTOMATIC1111 calls 2. The negative prompt keeps all layers, as in diffusers.
    `guided_steps`: real guidance, by `guidance` and the negative prompt, in so many first steps only, each at two evaluations;
    None = as the kind has it: in every step, or in none.
    `control`: a ControlNet and the picture that it follows. `ip_adapter`: an IP-Adapter and its picture.
    `eta` in [0, 1]: share of fresh noise where the kind has one, None = its default.
    `priority`: "live" previews overtake "normal" requests. `previews`: send each step's clean estimate.
    """

    prompt: str = ""
    negative: str = ""
    steps: int = 4
    guidance: float | None = None
    guided_steps: int | None = None
    seed: int = 0
    count: int = 1
    model: str = BUNDLED_MODEL
    loras: tuple[LoraSpec, ...] = ()
    embeddings: tuple[EmbeddingSpec, ...] = ()
    clip_skip: int = 0
    decoder: str = "default"
    timesteps: tuple[int, ...] | None = None
    class_label: int | None = None
    sampler: Sampler = "auto"
    sampler_settings: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    kind: str = "auto"
    eta: float | None = None
    control: ControlSpec | None = None
    ip_adapter: IPAdapterSpec | None = None
    previews: bool = False
    priority: Priority = "normal"


@dataclass(frozen=True, kw_only=True)
class Generate(Sampling):
    """Text (or a class label, or nothing) to images of `width` x `height` pixels; None = the model's size."""

    width: int | None = None
    height: int | None = None


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
