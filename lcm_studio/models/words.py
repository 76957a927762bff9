"""What a model's folder says of itself beside its pipeline: vocabulary.json, studio.json and edits.yaml. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcm_studio.models.files import read_json
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.fitted import Fitted, parse
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.regular import read_regular

MOST_BYTES = 256 * 1024
MOST_PHRASES = 200


def with_words(folder: Path, info: ModelInfo) -> ModelInfo:
    """`info` with what the folder's own files say; all of them are optional. Raises ModelError, naming the file."""
    if (folder / "vocabulary.json").is_file():
        info = _with_vocabulary(info, read_json(folder / "vocabulary.json"))
    if (folder / "studio.json").is_file():
        try:
            info = _overridden(info, read_json(folder / "studio.json"))
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(
                f"{folder.name}/studio.json holds something else than docs/method/architecture.md says ({error}); "
                "mend or remove it"
            ) from error
    if (folder / "edits.yaml").is_file():
        info = _with_fitted(info, read_fitted(folder / "edits.yaml"))
    return info


def read_fitted(path: Path) -> Fitted:
    """The numbers of an edits.yaml. Raises ModelError with one sentence."""
    import yaml

    try:
        return parse(yaml.safe_load(read_regular(path, MOST_BYTES).decode("utf-8")))
    except (BadRequest, OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        words = (error.strerror or "") if isinstance(error, OSError) else str(error)
        reason = " ".join(words.split())[:300]
        raise ModelError(
            f"{path.parent.name}/edits.yaml cannot be used ({reason}); mend it, or remove it for the textbook's numbers"
        ) from error


def _with_fitted(info: ModelInfo, fitted: Fitted) -> ModelInfo:
    guidance = dict(fitted.guidance)
    default = guidance.pop("default", info.guidance_edit)
    return replace(
        info,
        fitted=fitted,
        guidance_edit=default,
        guidance_tasks=tuple((dict(info.guidance_tasks) | guidance).items()),
        emphasis_tasks=tuple((dict(info.emphasis_tasks) | dict(fitted.emphasis)).items()),
    )


def _overridden(info: ModelInfo, given: dict[str, Any]) -> ModelInfo:
    guidance = given.get("guidance") or {}
    low, high = guidance.get("range", info.guidance_range)
    edit = guidance.get("edit", info.guidance_edit)
    by_task: Mapping[str, Any] = edit if isinstance(edit, Mapping) else {"default": edit}
    edit = by_task.get("default", info.guidance_edit)
    return replace(
        info,
        guidance_edit=None if edit is None else float(edit),
        guidance_tasks=tuple((str(k), float(v)) for k, v in by_task.items() if k != "default"),
        emphasis_tasks=tuple((str(k), float(v)) for k, v in (given.get("emphasis") or {}).items()),
        guidance_default=float(guidance.get("default", info.guidance_default)),
        guidance_start=_start(guidance.get("start", info.guidance_start)),
        guidance_range=(float(low), float(high)),
        steps_default=int(given.get("steps", info.steps_default)),
        consistency=given.get("consistency", info.consistency) is True,
        name=" ".join(str(given.get("name", info.name)).split())[:80],
        note=str(given.get("note", info.note))[:500],
        quantize=str(given.get("quantize", info.quantize))[:40],
        own_error=_positive(given.get("own_error")),
        shift=_shift(given.get("shift", info.shift)),
        eta=_share(given.get("eta", info.eta), info.eta),
    )


def _shift(given: Any) -> float:
    value = float(given)
    if not 0 < value < float("inf"):
        raise ValueError(f"shift={given} is not above 0; 1 spaces the steps evenly")
    return value


def _start(given: Any) -> float:
    value = float(given)
    if not 0 <= value <= 0.9:
        raise ValueError(f"guidance start={given} is out of range; use 0 to 0.9")
    return value


def _share(given: Any, kinds_own: float | None) -> float | None:
    if given is None or kinds_own is None:
        return kinds_own
    value = float(given)
    if not 0 <= value <= 1:
        raise ValueError(f"eta={given} is out of range; use 0 to 1")
    return value


def _positive(given: Any) -> float | None:
    value = 0.0 if given is None else float(given)
    return value if 0 < value < float("inf") else None


def _with_vocabulary(info: ModelInfo, given: Mapping[str, Any]) -> ModelInfo:
    groups = given.get("groups")
    if not isinstance(groups, list):
        return info
    return replace(
        info,
        vocabulary=tuple(
            (str(group.get("name", "")), _phrases(group.get("phrases")))
            for group in groups
            if isinstance(group, dict)
        ),
        examples=_phrases(given.get("examples")),
        glue=_phrases(given.get("glue")),
    )


def _phrases(given: Any) -> tuple[str, ...]:
    several = given if isinstance(given, list | tuple) else ()
    return tuple(str(phrase)[:500] for phrase in several[:MOST_PHRASES])
