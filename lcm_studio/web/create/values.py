"""The Create form's values as a Generate request and back. No Gradio here: the page's listeners, Live and tests use it.

Gradio lets NaN, None and text of any length through its own components, so nothing of the form is trusted:
what cannot be read becomes one sentence here, and ranges are checked by ``engine.validate``.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import EmbeddingSpec, Generate, LoraSpec, Priority
from lcm_studio.web.create import own, samplers

if TYPE_CHECKING:
    from lcm_studio.web.server.loras import LoraStore
    from lcm_studio.web.studio import Studio

LORA_ROWS = 3
NAMES = (
    "prompt", "negative", "model", "steps", "guidance", "seed", "randomize", "count", "width", "height",
    "embeddings", "decoder", "kind", "sampler", "timesteps", "live", "more", *own.FIELDS, *samplers.FIELDS, "control", "control_picture", "control_kind", "control_strength", "control_start", "control_end",
    "ip_adapter", "ip_adapter_picture", "ip_adapter_strength", "ip_adapter_start", "ip_adapter_end",
    *(f"{kind}{i}" for i in range(LORA_ROWS) for kind in ("lora", "weight")),
)  # fmt: skip


def to_request(
    form: Mapping[str, Any],
    info: ModelInfo,
    *,
    previews: bool = False,
    priority: Priority = "normal",
    store: LoraStore | None = None,
    steering: Mapping[str, Any] | None = None,
) -> Generate:
    """The request of a form for the model it names. Raises BadRequest with one sentence.

    `store`: has the files that names of LoRAs and textual inversions stand for. `steering`: `control` and `ip_adapter` of the form (`create.steering_values`).
    """
    chosen, inversions = loras(form), embeddings(form) if info.takes_weights else ()
    if store is not None:
        chosen, inversions = store.resolve(chosen), store.resolve_embeddings(inversions)
    return Generate(
        prompt=text(form, "prompt"),
        negative=text(form, "negative") if info.takes_negative else "",
        steps=whole(form, "steps"),
        guidance=None if info.guidance == "none" else number(form, "guidance", "Guidance"),
        seed=whole(form, "seed"),
        count=whole(form, "count"),
        model=text(form, "model") or info.id,
        decoder=text(form, "decoder") or "default",
        kind=text(form, "kind") or "auto",
        sampler=form.get("sampler") or "auto",
        sampler_settings=samplers.settings_of_form(form),
        loras=chosen,
        embeddings=inversions,
        timesteps=timesteps(text(form, "timesteps")),
        width=whole(form, "width"),
        height=whole(form, "height"),
        **own.values_of(form, info),
        **(steering or {}),
        previews=previews,
        priority=priority,
    )


def info_of(studio: Studio, form: Mapping[str, Any], *, kind: str = "kind") -> ModelInfo:
    """The model that a form names as it will be sampled: by the kind that is chosen in its field `kind`, else by its LoRAs.

    Raises BadRequest or ModelError.
    """
    return studio.engine.info_as(
        studio.allowed_model(text(form, "model")),
        loras=studio.loras.resolve(loras(form)),
        kind=text(form, kind) or "auto",
        guided_steps=guided_steps(form),
    )


def guided_steps(form: Mapping[str, Any]) -> int | None:
    """How many first steps alone are to be guided; 0 and nothing leave that to the kind."""
    return whole(form, "guided_steps") or None if filled(form.get("guided_steps")) else None


def new_seed() -> int:
    """A fresh seed that is easy to read and to say."""
    return secrets.randbelow(2**31)


def without_replaced_seed(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The form without a seed that no request can have, where each request gets a new one."""
    seed = form.get("seed")
    usable = isinstance(seed, int | float) and 0 <= seed <= limits.MAX_SEED and seed == int(seed)
    return form if usable or not form.get("randomize") else {**form, "seed": 0}


def text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be text; write it in quotes")
    if len(value) > limits.MAX_PROMPT:
        raise BadRequest(f"{name} has {len(value)} characters; use at most {limits.MAX_PROMPT}")
    return value.strip()


def number(form: Mapping[str, Any], name: str, title: str = "") -> float:
    value = form.get(name)
    title = title or name
    if value is None or value == "":
        raise BadRequest(f"{title} is empty; enter a number")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRequest(f"{title}={value!r} is no finite number; enter one")
    return float(value)


def filled(value: object) -> str:
    """What a field that may stay empty holds, as text: of a 0 "0", of None and blanks ""."""
    return str("" if value is None else value).strip()


def typed(value: object) -> float | str:
    """A filled field as a number where it is one; what is none is refused by those who know the range."""
    words = filled(value)
    try:
        return float(words.replace(",", "."))
    except ValueError:
        return words


def whole(form: Mapping[str, Any], name: str) -> int:
    value = number(form, name)
    if value != int(value):
        raise BadRequest(f"{name}={value:g} is no whole number; enter one")
    return int(value)


def loras(form: Mapping[str, Any]) -> tuple[LoraSpec, ...]:
    rows = ((text(form, f"lora{i}"), i) for i in range(LORA_ROWS))
    return tuple(
        LoraSpec(path=path, weight=number(form, f"weight{i}", "LoRA weight"))
        for path, i in rows
        if path
    )


def embeddings(form: Mapping[str, Any]) -> tuple[EmbeddingSpec, ...]:
    """One textual inversion a line: a file or a word, or `word = file`."""
    return tuple(
        EmbeddingSpec(
            path=path.strip() if equals else word.strip(), word=word.strip() * bool(equals)
        )
        for word, equals, path in (
            line.partition("=") for line in text(form, "embeddings").split("\n")
        )
        if word.strip()
    )


def embedding_lines(rows: Any) -> str:
    """The same back, of a picture's settings."""
    return "\n".join(
        f"{row['word']} = {row['path']}" if row.get("word") else str(row["path"])
        for row in rows or ()
    )


def timesteps(words: str) -> tuple[int, ...] | None:
    if not words:
        return None
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise BadRequest(
            f"timesteps={words!r}: give whole numbers that fall, such as 999,499"
        ) from None


def from_settings(said: Mapping[str, Any], info: ModelInfo) -> dict[str, Any]:
    """Form values of a picture's settings, for the model `info` that they name."""
    steps = int(said.get("steps") or info.steps_default)
    rows = list(said.get("loras") or [])[:LORA_ROWS]
    guidance = said.get("guidance")
    sampler = str(said.get("sampler") or "auto")
    form: dict[str, Any] = {
        "prompt": str(said.get("prompt") or ""),
        "negative": str(said.get("negative") or ""),
        "model": str(said.get("model") or info.id),
        "steps": steps,
        "more": steps > 8,
        "guidance": info.guidance_default if guidance is None else float(guidance),
        "seed": int(said.get("seed") or 0),
        "randomize": False,
        "count": int(said.get("count") or 1),
        "width": int(said.get("width") or info.width),
        "height": int(said.get("height") or info.height),
        "decoder": str(said.get("decoder") or "default"),
        "embeddings": embedding_lines(said.get("embeddings")),
        "kind": str(said.get("kind") or "auto"),
        "sampler": sampler,
        **samplers.form_of_settings(sampler, dict(said.get("sampler_settings") or {})),
        "timesteps": ",".join(str(t) for t in said.get("timesteps") or ()),
        **own.of_settings(said),
    }
    for i in range(LORA_ROWS):
        row = rows[i] if i < len(rows) else {}
        form[f"lora{i}"] = str(row.get("path", ""))
        form[f"weight{i}"] = float(row.get("weight", 1.0))
    return form
