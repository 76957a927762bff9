"""The samplers that a request can choose, with their settings: what doors draw and what is checked. No torch.

A new sampler is one row here and one function in `sampling/samplers/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.schema import Setting

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo

Family = Literal["consistency", "langevin", "sde", "ode"]
Value: TypeAlias = float | int | str | bool
SPACINGS = ("model", "karras", "log-snr")


@dataclass(frozen=True, kw_only=True)
class SamplerInfo:
    """A sampler. `least`: network evaluations that it needs; `source`: paper and equation; `formula`: its step, in the
    symbols of docs/method/maths.md. `score`: whether it follows the score, which only a diffusion model gives.
    `levels`: whether it visits levels that a list of `timesteps` may name.
    """

    name: str
    title: str
    family: Family
    words: str
    formula: str
    source: str
    least: int = 1
    score: bool = True
    levels: bool = True
    settings: tuple[Setting, ...] = ()

    @property
    def defaults(self) -> dict[str, Value]:
        """{name: default} of its settings."""
        return {s.name: s.default for s in self.settings}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """All settings, those of `given` checked. Raises BadRequest for an unknown one or a wrong value."""
        known = {s.name: s for s in self.settings}
        for name in given:
            if name not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise BadRequest(f"{self.name} has no setting {name!r}; {takes}")
        return self.defaults | {name: known[name].read(value) for name, value in given.items()}


def _spacing(default: str) -> Setting:
    return Setting(
        kind="choice", name="spacing", title="Spacing of levels", default=default, choices=SPACINGS,
        help="model: the timesteps of the model's own scheduler; karras: equal steps of sigma^(1/7), dense at low noise; "
        "log-snr: equal ratios of sigma.",
    )  # fmt: skip


_TOLERANCE = Setting(
    kind="number", name="tolerance", title="Tolerance", default=1e-2, low=1e-6, high=1.0,
    help="Largest error of a step, relative and absolute (rtol and atol), in units of the data; smaller costs more evaluations.",
)  # fmt: skip
_LEVELS = Setting(
    kind="whole", name="levels", title="Noise levels L", default=10, low=2, high=500,
    help="A geometric sequence of noise levels; the evaluations are shared between them.",
)  # fmt: skip
_STEP = Setting(
    kind="number", name="step", title="Step size", default=0.2, low=1e-4, high=2.0,
    help="epsilon / sigma_L^2: every step goes half of this share of the way to the clean estimate. The paper's "
    "epsilon = 2e-5 at sigma_L = 0.01 is 0.2.",
)  # fmt: skip
_DENOISE = Setting(
    kind="switch", name="denoise", title="Clean estimate at the end", default=True,
    help="Returns E[x_0 | x] of the last sample instead of the sample, which still holds noise.",
)  # fmt: skip

_ALL = (
    SamplerInfo(
        name="consistency", title="Consistency", family="consistency", score=False,
        words="Jumps to the clean picture and renoises it to the next level. Eta is the share of fresh noise z, 1 in the papers.",
        formula="x_0 = f(x_t, t);  x_t' = alpha' x_0 + sigma' (eta z + sqrt(1 - eta^2) eps_hat)",
        source="Song et al. 2023, Algorithm 1; Luo et al. 2023, Algorithm 3",
    ),
    SamplerInfo(
        name="ddim", title="DDIM", family="ode", score=False,
        words="Goes to the next level with the noise that the sample holds already.",
        formula="x_t' = alpha' x0_hat + sigma' eps_hat", source="Song et al. 2021 (DDIM), eq. 12, eta = 0",
    ),
    SamplerInfo(
        name="langevin", title="Annealed Langevin", family="langevin", least=3, levels=False,
        words="At each of L noise levels takes T noisy steps uphill in log density; then a lower level.",
        formula="x <- x + a_i/2 s(x, sigma_i) + sqrt(a_i) z,  a_i = epsilon sigma_i^2 / sigma_L^2",
        source="Song & Ermon 2019, Algorithm 1", settings=(_LEVELS, _STEP, _DENOISE),
    ),
    SamplerInfo(
        name="langevin-2020", title="Annealed Langevin, 2020", family="langevin", least=3, levels=False,
        words="The same with many levels, few steps at each and a step size that follows from both.",
        formula="x <- x + a_i s(x, sigma_i) + sqrt(2 a_i) z", source="Song & Ermon 2020, techniques 2 and 4",
        settings=(
            Setting(
                kind="whole", name="per_level", title="Steps at each level T", default=5, low=1, high=100,
                help="The levels are as many as the evaluations allow, and no more than technique 2 asks for.",
            ),
        ),
    ),
    SamplerInfo(
        name="sde", title="Reverse SDE", family="sde", least=2,
        words="Follows the reverse of the noising process in fixed steps, with fresh noise in each (Euler-Maruyama).",
        formula="dx = [f x - g^2 s(x, t)] dt + g dw", source="Song et al. 2021 (SDE), eq. 6",
        settings=(_spacing("model"),),
    ),
    SamplerInfo(
        name="ancestral", title="Ancestral (DDPM)", family="sde", least=2,
        words="Draws each next sample from the exact posterior that the clean estimate implies.",
        formula="x_t' ~ q(x_t' | x_t, x0_hat)", source="Ho et al. 2020, eq. 7; Song et al. 2021 (SDE), eq. 47",
        settings=(_spacing("model"),),
    ),
    SamplerInfo(
        name="pc", title="Predictor-corrector", family="sde", least=3,
        words="After each step of the reverse SDE, Langevin steps at the new level repair its error.",
        formula="x <- x + e s(x, t) + sqrt(2 e) z,  e = 2 (r |z| / |s|)^2",
        source="Song et al. 2021 (SDE), Algorithms 2 to 5",
        settings=(
            Setting(
                kind="number", name="snr", title="Signal-to-noise ratio r", default=0.16, low=1e-4, high=2.0,
                help="Size of the corrector's steps; the paper has 0.16 for VE and 0.01 for VP models.",
            ),
            Setting(
                kind="whole", name="corrector_steps", title="Corrector steps", default=1, low=0, high=20,
                help="Langevin steps at each level.",
            ),
            Setting(
                kind="choice", name="predictor", title="Predictor", default="ancestral", choices=("ancestral", "euler-maruyama"),
                help="The step of the reverse SDE.",
            ),
            _spacing("model"),
        ),
    ),
    SamplerInfo(
        name="ode-euler", title="ODE, Euler", family="ode", least=1,
        words="First-order steps along the probability-flow ODE. The same pictures as DDIM.",
        formula="dx/dsigma = (x - D(x; sigma)) / sigma = -sigma s(x; sigma)",
        source="Song et al. 2021 (SDE), eq. 13; Karras et al. 2022, eq. 3", settings=(_spacing("model"),),
    ),
    SamplerInfo(
        name="ode-heun", title="ODE, Heun", family="ode", least=3,
        words="Second-order steps: two evaluations each, the mean of both slopes.",
        formula="x' = x + h (k_1 + k_2) / 2", source="Karras et al. 2022, Algorithm 1", settings=(_spacing("karras"),),
    ),
    SamplerInfo(
        name="dpmpp", title="DPM-Solver++ (2M)", family="ode", least=1,
        words="Second order with one evaluation a step: it remembers the estimate before.",
        formula="x' = sigma'/sigma x - alpha' (e^-h - 1) D", source="Lu et al. 2022, Algorithm 2",
        settings=(_spacing("model"),),
    ),
    SamplerInfo(
        name="rk45", title="ODE, adaptive RK45", family="ode", least=10, levels=False,
        words="Chooses its own steps so that each errs by less than the tolerance; near the evaluations allowed, fixed steps take over.",
        formula="dx/dsigma = (x - D(x; sigma)) / sigma, errors of a step below the tolerance", source="Dormand & Prince 1980; Song et al. 2021 (SDE), sec. 4.3",
        settings=(_TOLERANCE,),
    ),
)  # fmt: skip
SAMPLERS: dict[str, SamplerInfo] = {row.name: row for row in _ALL}
NAMES = ("auto", *SAMPLERS)


def sampler_info(name: str) -> SamplerInfo:
    """The row of a sampler. Raises BadRequest for an unknown name."""
    if not isinstance(name, str) or name not in SAMPLERS:
        raise BadRequest(f"sampler={name!r}: use {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    return SAMPLERS[name]


def misfit(name: str, info: ModelInfo, *, consistency: bool | None = None) -> str:
    """Why the sampler cannot run on a model, in one sentence; "" where it can.

    `consistency`: whether the model is used as a consistency function (with an LCM-LoRA it is); None: as `info` says.
    """
    row = sampler_info(name)
    if row.score and (info.consistency if consistency is None else consistency):
        return (
            f"{name} follows the score, and {info.id} is a consistency model, which gives none; "
            "use sampler consistency, or a diffusion model"
        )
    return ""


def check_sampler(
    name: str,
    settings: Mapping[str, Any],
    evaluations: int,
    info: ModelInfo,
    *,
    consistency: bool | None = None,
    timesteps: bool = False,
) -> None:
    """Raises BadRequest with one sentence where the sampler, its settings or its evaluations do not fit."""
    if not isinstance(settings, Mapping):
        raise BadRequest(f"sampler_settings={settings!r}: give names with values")
    if name == "auto":
        if settings:
            raise BadRequest("settings of a sampler need its name; choose one instead of auto")
        return
    row = sampler_info(name)
    row.checked(settings)
    reason = misfit(name, info, consistency=consistency)
    if reason:
        raise BadRequest(reason)
    if timesteps and not row.levels:
        raise BadRequest(f"{name} chooses its own levels; leave timesteps out")
    if evaluations < row.least and not timesteps:
        raise BadRequest(
            f"{name} needs at least {row.least} evaluations, not {evaluations}; use {row.least} to {most(name)}"
        )


def most(name: str) -> int:
    """Network evaluations that a sampler may be given."""
    return limits.MAX_EVALUATIONS if name in SAMPLERS and SAMPLERS[name].score else limits.MAX_STEPS
