"""Which kind a folder, a file or a LoRA is: by what the user said, what it holds, what it says of itself, and last its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lcm_studio.models.files import Header
from lcm_studio.models.kinds.kind import Kind
from lcm_studio.models.kinds.names import by_name, name_parts, steps_of
from lcm_studio.models.kinds.rows import kind_of, kinds_for, row_of
from lcm_studio.models.kinds.table import KINDS
from lcm_studio.models.lora_file import lora_facts
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Sampling

# real guidance on top of what a student has built in: little of it is enough
GUIDED, GUIDED_RANGE = 2.0, (1.0, 8.0)
METADATA = "lcm_studio.kind"  # what the studio's own exports say of themselves
DEFAULTS = {
    "lcm": "lcm", "sd": "plain", "sdxl": "plain", "cm": "cm", "sana": "sana-sprint", "flux": "flux-schnell",
    "sd3": "sd3", "z-image": "z-image-turbo",
}  # fmt: skip
# what a metadata field of other programs says, by words in it
SAYING = (
    "modelspec.title", "modelspec.implementation", "modelspec.description", "modelspec.tags", "ss_output_name",
    "ss_training_comment",
)  # fmt: skip


class Memory(Protocol):
    """What users answered before, by a file's contents."""

    def recall(self, path: Path) -> str | None: ...


class Nothing:
    """No memory."""

    def recall(self, path: Path) -> str | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Told:
    """A kind, and by what it is known; `steps` that the file was made for, where it says so."""

    kind: Kind
    by: str
    steps: int | None = None


def of_folder(
    family: str,
    scheduler: Mapping[str, Any],
    *,
    embedded: bool,
    names: Sequence[str],
    said: str | None = None,
    path: Path | None = None,
    memory: Memory | None = None,
) -> Told:
    """The kind of a whole model of `family`; `embedded`: its network takes the guidance scale as an input.

    `scheduler`: its config. `names`: of the folder, and what its configs say it was made from. `said`: by its studio.json.
    """
    rows = kinds_for(family, "model")
    known = {kind.name for kind in rows}
    if said in known:
        return Told(kind=kind_of(str(said)), by="its studio.json")
    answer = (memory or Nothing()).recall(path) if path is not None else None
    if answer in known:
        return Told(kind=kind_of(str(answer)), by="what you said of it", steps=steps_of(names))
    if family in ("lcm", "sdxl") and embedded:
        return Told(kind=kind_of("lcm"), by="its network, which takes the guidance scale")
    if family == "flux" and embedded:
        return Told(kind=kind_of("flux-dev"), by="its network, which takes the guidance scale")
    named = by_name(names, rows)
    by_class = _by_scheduler(scheduler, rows)
    if by_class is not None and by_class.few:
        if named is not None and named.way == by_class.way and named.few:
            return Told(kind=named, by="its scheduler and its name", steps=steps_of(names))
        if by_class.name != "lightning" or named is None:
            return Told(
                kind=by_class, by=f"its scheduler, {_class(scheduler)}", steps=steps_of(names)
            )
    if named is not None:
        return Told(kind=named, by="its name", steps=steps_of(names))
    if by_class is not None:
        return Told(kind=by_class, by=f"its scheduler, {_class(scheduler)}")
    row, by = kind_of(DEFAULTS[family]), "its network"
    if _class(scheduler) and _class(scheduler) != row.stock.partition(",")[0]:
        by += f" ({row.stock.partition(',')[0]} stands in for its {_class(scheduler)})"
    return Told(kind=row, by=by)


def of_file(
    family: str, header: Header, path: Path, folder: Told, memory: Memory | None = None
) -> Told:
    """The kind of a single checkpoint whose configs come from a folder that is a `folder`."""
    rows = kinds_for(family, "model")
    answer = (memory or Nothing()).recall(path)
    if answer in {kind.name for kind in rows}:
        return Told(
            kind=kind_of(str(answer)), by="what you said of it", steps=steps_of([path.stem])
        )
    if folder.kind.name in ("lcm", "cm"):
        return folder
    said = _by_metadata(header.metadata, rows)
    if said is not None:
        return said
    named = by_name(name_parts(path), rows)
    if named is not None:
        return Told(kind=named, by="its name", steps=steps_of(name_parts(path)))
    by = "its configs" if folder.by.startswith("its") else folder.by
    return Told(kind=folder.kind, by=by)


def of_lora(path: Path, family: str, memory: Memory | None = None) -> Told | None:
    """What a LoRA makes of a model of `family`; None for one that changes no sampling.

    Raises BadRequest, with what to choose from, for one that was made for few steps without a word of which kind.
    """
    rows = kinds_for(family, "lora")
    if not rows:
        return None
    facts = lora_facts(path)
    names = name_parts(path)
    answer = (memory or Nothing()).recall(path)
    if answer == "plain":
        return None
    if answer in {kind.name for kind in rows}:
        return Told(kind=kind_of(str(answer)), by="what you said of it", steps=steps_of(names))
    said = _by_metadata(facts.metadata, rows)
    if said is not None:
        return said
    named = by_name(names, rows)
    if named is not None and (facts.few_steps or _speaks(names, named)):
        return Told(kind=named, by="its name", steps=steps_of(names))
    if not facts.few_steps:
        return None
    choices = ", ".join(kind.name for kind in rows)
    raise BadRequest(
        f"{path.name} was made for few steps (it changes how the network is told of time), but neither the file nor "
        f"its name says of which kind: choose one of {choices}, or plain, as its kind (--model-kind); it will be remembered"
    )


def resolve(request: Sampling, info: ModelInfo, memory: Memory | None = None) -> ModelInfo:
    """`info` as this request samples it: by the kind asked for, else that of its LoRAs, else the model's own.

    A kind without guidance has it where the request wants it in the first steps.
    Raises BadRequest for a kind that this network cannot be, ModelError for a LoRA file that is none.
    """
    return with_guided_steps(_by_kind(request, info, memory), request.guided_steps)


def with_guided_steps(info: ModelInfo, steps: int | None) -> ModelInfo:
    """`info` with guidance and a negative prompt where real guidance is asked for in its first steps."""
    if not steps or info.guidance != "none" or not info.takes_guided_steps:
        return info
    return replace(
        info,
        guidance="cfg",
        guidance_default=GUIDED,
        guidance_range=GUIDED_RANGE,
        takes_negative=True,
    )


def _by_kind(request: Sampling, info: ModelInfo, memory: Memory | None) -> ModelInfo:
    if request.kind == info.sampling and info.sampling:
        return info
    if request.kind != "auto":
        return as_kind(info, asked_kind(request.kind, info), by="your choice")
    own = row_of(info)
    if request.sampler == "ddim" and own.name != "plain" and "plain" in info.kinds:
        return as_kind(info, kind_of("plain"), by="your choice of a sampler")
    if request.sampler == "consistency" and own.way != "renoise":
        if own.way == "euler" and own.spacing == "flow":
            raise BadRequest(
                f"sampler='consistency': {info.id} is a flow model, which follows straight paths; use sampler auto"
            )
        return as_kind(info, kind_of("lcm-lora"), by="your choice of a sampler")
    if own.name in ("lcm", "cm", "sana-sprint"):
        return info
    for lora in request.loras:
        told = of_lora(Path(lora.path), info.kind, memory)
        if told is not None:
            return as_kind(
                info, told.kind, by=f"{Path(lora.path).name}, by {told.by}", steps=told.steps
            )
    return info


def asked_kind(name: str, info: ModelInfo) -> Kind:
    """The row of a user's choice. Raises BadRequest where this model's network cannot be that."""
    kind = kind_of(name)
    if info.kind not in kind.families:
        raise BadRequest(
            f"kind={name}: {info.id} cannot be that; use auto, {', '.join(info.kinds) or 'auto'}"
        )
    return kind


def as_kind(info: ModelInfo, kind: Kind, *, by: str, steps: int | None = None) -> ModelInfo:
    """`info` with what the kind says of sampling and of what has an effect."""
    if info.kind not in kind.families:
        raise BadRequest(f"kind={kind.name}: {info.id} cannot be that")
    if info.guidance == "embedded" and kind.guidance != "embedded":
        kind = replace(
            kind,
            guidance="embedded",
            guidance_default=info.guidance_default,
            guidance_range=info.guidance_range,
        )
    most = len(kind.levels) or kind.most
    wanted = steps if steps is not None and 1 <= steps <= most else kind.steps
    return replace(
        info,
        sampling=kind.name,
        title=kind.title,
        why=f"{kind.title}, told by {by}: {kind.why}",
        licence=kind.licence,
        guidance=kind.guidance,
        guidance_default=kind.guidance_default,
        guidance_range=kind.guidance_range,
        guidance_start=0.0,
        steps_default=min(wanted, most),
        max_steps=most,
        takes_negative=kind.negative,
        eta=kind.eta,
        consistency=kind.few,
        kinds=tuple(row.name for row in KINDS if info.kind in row.families),
    )


def _speaks(names: Sequence[str], kind: Kind) -> bool:
    """Whether the name is so plain that a LoRA which changes attention alone is believed: it names LoRA or steps too."""
    return (
        any("lora" in name.lower() or steps_of([name]) is not None for name in names)
        and by_name(names, [kind]) is not None
    )


def _by_metadata(metadata: Mapping[str, str], rows: Sequence[Kind]) -> Told | None:
    own = metadata.get(METADATA)
    for kind in rows:
        if own == kind.name:
            return Told(kind=kind, by="its own metadata")
    texts = [str(metadata[name])[:200] for name in SAYING if name in metadata]
    kind_said = by_name(texts, rows)
    return (
        None
        if kind_said is None
        else Told(kind=kind_said, by="its metadata", steps=steps_of(texts))
    )


def _by_scheduler(config: Mapping[str, Any], rows: Sequence[Kind]) -> Kind | None:
    for kind in rows:
        wanted = kind.schedulers.get(_class(config))
        if wanted is not None and all(config.get(k, "leading") == v for k, v in wanted.items()):
            return kind
    return None


def _class(config: Mapping[str, Any]) -> str:
    return str(config.get("_class_name", ""))
