"""What the doors need to know of a model to draw its controls; read from its folder without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lcm_studio.spec.fitted import Fitted

ModelKind = Literal["lcm", "sd", "sdxl", "cm", "sana", "flux", "sd3", "z-image"]
GuidanceKind = Literal["embedded", "cfg", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model that can be chosen.

    `kind`: the family of its network. lcm = Stable Diffusion that takes the guidance scale as an input; sd, sdxl = Stable
    Diffusion; cm = pixel-space consistency model; sana, flux, sd3, z-image = transformers.
    `name`: what the page calls it where its id is a path, "" for its id; a run's model bears the run's.
    `sampling`: the row of `models.kinds` by which it is sampled; "" = that of its family. `title`, `why`: of that row, for the
    user. `licence`: what must be said of its use. `kinds`: the rows that can be chosen for it.
    `eta`: the default share of fresh noise, None where it has no effect.
    `guidance`: embedded = fed to the network; cfg = two evaluations and a negative prompt; none.
    `guidance_start`: the share of the way from noise that goes without guidance, of new pictures (Kynkaanniemi et al. 2024).
    `guidance_edit`: the default of edits, where it is another than that of new pictures; `guidance_tasks`: those of
    single tasks, as (task, scale). See `guidance_for`. `emphasis_tasks`: of the prompt at an edit's first level, likewise.
    `fitted`: the numbers of edits that were fitted to it (its edits.yaml). `examples`: prompts that it is good at. `glue`: words
    that its prompts may hold beside its vocabulary.
    `width`, `height`: native pixels; `multiple`: sizes are multiples of it.
    `own_error`: how far its clean estimates of its own pictures are off, 99 of 100 of them (`engine.likeness`), if its folder says so.
    `shift`: how far an LCM's later steps lie towards noise (`maths.grids.lcm_timesteps`); 1 = evenly spaced, as stock.
    `quantize`: the kind of number that the network's weights are kept in ("int8"), or as they are.
    `text_widths`: of the token embeddings of its CLIP text encoders, which textual inversions must have.
    `text_layers`: of those text encoders, the fewest; `clip_skip` goes up to one less (SDXL: two).
    `max_steps`: levels of its grid. `vocabulary`: groups of phrases that it was trained on, if it says so.
    """

    id: str
    path: str
    kind: ModelKind
    width: int
    height: int
    multiple: int
    guidance: GuidanceKind
    guidance_default: float = 1.0
    guidance_start: float = 0.0
    guidance_edit: float | None = None
    guidance_tasks: tuple[tuple[str, float], ...] = ()
    emphasis_tasks: tuple[tuple[str, float], ...] = ()
    fitted: Fitted | None = field(default=None, hash=False)
    guidance_range: tuple[float, float] = (1.0, 1.0)
    steps_default: int = 4
    max_steps: int = 50
    takes_prompt: bool = True
    takes_negative: bool = False
    text_widths: tuple[int, ...] = ()
    text_layers: int = 12
    classes: int = 0
    vocabulary: tuple[tuple[str, tuple[str, ...]], ...] = ()
    examples: tuple[str, ...] = ()
    glue: tuple[str, ...] = ()
    parameters: int = 0
    bytes: int = 0
    name: str = ""
    consistency: bool = True
    sampling: str = ""
    title: str = ""
    why: str = ""
    licence: str = ""
    kinds: tuple[str, ...] = ()
    eta: float | None = None
    note: str = ""
    quantize: str = ""
    own_error: float | None = None
    shift: float = 1.0

    @property
    def called(self) -> str:
        """Its name, else its id without its folders."""
        return self.name or self.id.rstrip("/").rsplit("/", 1)[-1]

    @property
    def takes_weights(self) -> bool:
        """Whether its CLIP text encoders take weights, breaks and long prompts (`spec.prompts`)."""
        return self.takes_prompt and self.kind in ("lcm", "sd", "sdxl")

    @property
    def takes_control(self) -> bool:
        """Whether there are ControlNets for its network."""
        return self.kind in ("lcm", "sd", "sdxl")

    @property
    def takes_guided_steps(self) -> bool:
        """Whether real guidance can be had in the first steps only: it is no input of the network."""
        return self.takes_prompt and self.guidance != "embedded"

    @property
    def most_skipped(self) -> int:
        """The largest `clip_skip`: one layer is left; SDXL takes the last but one by itself."""
        if not self.takes_weights:
            return 0
        return max(0, self.text_layers - (2 if self.kind == "sdxl" else 1))

    @property
    def last_class(self) -> int:
        """The largest `class_label`."""
        return max(0, self.classes - 1)

    # Why it has no such setting (`Setting.lacks`), "" where it has.

    @property
    def no_clip_skip(self) -> str:
        if not self.takes_weights:
            return "has no CLIP text encoder"
        return "" if self.most_skipped else "has no layer of CLIP to spare"

    @property
    def no_guided_steps(self) -> str:
        if self.takes_guided_steps:
            return ""
        return (
            "takes guidance as an input of its network" if self.takes_prompt else "takes no prompt"
        )

    @property
    def no_guidance_start(self) -> str:
        return "" if self.guidance == "cfg" else "has no real guidance"

    @property
    def no_classes(self) -> str:
        return "" if self.classes else "has no classes"

    @property
    def no_eta(self) -> str:
        return "has none" if self.eta is None else ""

    def guidance_for(self, task: str = "") -> float:
        """The guidance scale of a request that names none: of an edit by its task, of a new picture by ""."""
        of_edits = self.guidance_default if self.guidance_edit is None else self.guidance_edit
        return dict(self.guidance_tasks).get(task, of_edits) if task else self.guidance_default

    def emphasis_for(self, task: str) -> float:
        """The emphasis of the prompt of an edit that names none: 0 = none."""
        return dict(self.emphasis_tasks).get(task, 0.0)


@dataclass(frozen=True, kw_only=True)
class LoadState:
    """What the page shows of the models: `status` is of the last one asked for.

    `model`: its id. `message`: for the user. `loaded`: ids that are ready. `done`, `total`: bytes of its download; 0 where there is none.
    """

    status: Literal["idle", "loading", "ready", "failed"] = "idle"
    model: str = ""
    message: str = ""
    loaded: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
