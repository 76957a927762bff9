"""Prompts that are one click away; only those whose words the chosen model knows are shown."""

from __future__ import annotations

from lcm_studio.spec.models import ModelInfo

GENERAL = (
    "a lighthouse on a cliff at dusk, soft light",
    "a quiet harbour in the morning mist, watercolour",
    "a fox in fresh snow, close portrait",
    "an old library with tall windows, warm light",
)


def examples(info: ModelInfo) -> list[str]:
    """The model's own, if its folder names some; of its vocabulary's phrases, if it has one; else general ones."""
    if not info.takes_prompt:
        return []
    if not info.vocabulary:
        return list(GENERAL)
    if info.examples:
        return list(info.examples)
    groups = [phrases for _, phrases in info.vocabulary if phrases][:5]
    turns = ([phrases[(3 * turn) % len(phrases)] for phrases in groups] for turn in range(4))
    return [", ".join(dict.fromkeys(picked)) for picked in turns]
