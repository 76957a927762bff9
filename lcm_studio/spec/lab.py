"""What the Lab can be asked for, and what it answers with beside the events of every request. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.requests import BUNDLED_MODEL

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

TEACHER = "scenery-teacher"
MOST_FRAMES = 200


@dataclass(frozen=True, kw_only=True)
class System:
    """A model with a sampler and the network evaluations that it may use (`spec.samplers`)."""

    model: str = TEACHER
    sampler: str = "ode-heun"
    evaluations: int = 16
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Sampler, its settings and evaluations, in a few words."""
        more = "".join(f" {name}={value}" for name, value in self.settings.items())
        return f"{self.sampler}{more} {self.evaluations}"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What all systems of one run share: the prompt and the seed, which is the noise that they start from."""

    prompt: str = ""
    negative: str = ""
    seed: int = 0
    guidance: float | None = None
    class_label: int | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class Film(Conditions):
    """One picture, and the way to it in at most `frames` frames; 0 = only the picture."""

    system: System = field(default_factory=System)
    frames: int = 48


@dataclass(frozen=True, kw_only=True)
class Comparison(Conditions):
    """The same noise and prompt through several systems.

    `reference`: also solve the probability-flow ODE of each diffusion model finely, to measure distances from it.
    """

    systems: tuple[System, ...] = ()
    frames: int = 0
    reference: bool = True


@dataclass(frozen=True, kw_only=True)
class Trace(Conditions):
    """f(x_t, t) of a consistency model at `points` levels of one ODE path of its teacher, `evaluations` fine."""

    model: str = BUNDLED_MODEL
    teacher: str = TEACHER
    evaluations: int = 49
    points: int = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Inversion(Conditions):
    """A picture, uint8 `(H, W, 3)`, up the ODE to its noise and back, with `evaluations` each way at most.

    `likelihood`: also estimate its log-likelihood, by the divergence along the ODE; `seed` is that of the probes.
    """

    image: Pixels
    model: str = TEACHER
    sampler: str = "ode-heun"
    evaluations: int = 50
    settings: Mapping[str, Any] = field(default_factory=dict)
    guidance: float | None = 1.0
    frames: int = 16
    likelihood: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """What a network saw and said at one of its evaluations.

    `system`: index of the system (of an inversion 0 = up, 1 = back). `index`: of the frame. `evaluations`: done so far.
    `level`: the model's own; `sigma`: noise per unit of signal. `x_t`: the noisy sample, in VP scale, so that it has about
    the data's spread at every level; `x0_hat`: the clean estimate.
    """

    system: int
    index: int
    evaluations: int
    total: int
    level: float
    sigma: float
    x_t: Pixels
    x0_hat: Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Filmed:
    """The picture at the end of a film. `seconds`: of the network and all else, without the frames' decoding."""

    image: Pixels
    seed: int
    evaluations: int
    seconds: float
    frames: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    flagged: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What one system of a comparison made; `error` where it could not run, and then no image.

    `distance`: root mean square difference from the fine solution of the ODE, in levels of 255; None for samplers with
    fresh noise, which go elsewhere by design, and where there is no solution to hold it against.
    """

    system: int
    label: str
    model: str
    sampler: str
    image: Pixels | None = None
    evaluations: int = 0
    seconds: float = 0.0
    distance: float | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """The end of a comparison. `references`: {model: picture of its fine solution}, with their evaluations."""

    results: tuple[Result, ...]
    references: Mapping[str, Pixels] = field(default_factory=dict)
    reference_evaluations: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class TracePoint:
    """One level of an ODE path: `teacher`, its one-step estimate E[x_0 | x_t]; `student`, f(x_t, t).

    Distances are root mean squares in levels of 255: `*_to_start` from the same function at the path's first level (0 for
    a function that is consistent), `*_to_end` from the end of the path (0 for one that is right).
    """

    index: int
    total: int
    level: float
    sigma: float
    x_t: Pixels
    teacher: Pixels
    student: Pixels
    teacher_to_start: float
    teacher_to_end: float
    student_to_start: float
    student_to_end: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """The end of a trace: all points, falling, and the picture `end` of the path."""

    points: tuple[TracePoint, ...]
    end: Pixels
    evaluations: int
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Inverted:
    """A picture's noise and what came back.

    `round_trip`: rmse, max and psnr of the picture in levels of 255 (of what the autoencoder makes of it, where there is
    one: `autoencoder_rmse` is what that loses), and `latent_rmse` in the model's own numbers.
    `noise_std`: spread of the noise, of 1 if it is what the model samples from.
    `bits_per_dim`: of the picture in 8 bits (pixel models) or of its latents; None where it was not asked for.
    """

    noise: Pixels
    image: Pixels
    round_trip: Mapping[str, float]
    noise_std: float
    evaluations: int
    seconds: float
    bits_per_dim: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
