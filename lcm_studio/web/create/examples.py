"""Prompts that are one click away; only those whose words the chosen model knows are shown."""

from __future__ import annotations

from lcm_studio.spec.models import ModelInfo

SCENERY = (
    "sunset, sun on the left, snowy mountains, lake, a few pine trees",
    "night, stars, moon on the right, hills, lavender field, white house",
    "dawn, many clouds, sea, sailboat, sand, one palm tree",
    "day, a few clouds, autumn field, path, one oak tree, red house",
)
GENERAL = (
    "a lighthouse on a cliff at dusk, soft light",
    "a quiet harbour in the morning mist, watercolour",
    "a fox in fresh snow, close portrait",
    "an old library with tall windows, warm light",
)


def examples(info: ModelInfo) -> list[str]:
    """For a model with a vocabulary: prompts of its own phrases; else general ones."""
    if not info.takes_prompt:
        return []
    if not info.vocabulary:
        return list(GENERAL)
    known = {phrase for _, phrases in info.vocabulary for phrase in phrases}
    curated = [text for text in SCENERY if known.issuperset(text.split(", "))]
    if curated:
        return curated
    groups = [phrases for _, phrases in info.vocabulary if phrases][:5]
    turns = ([phrases[(3 * turn) % len(phrases)] for phrases in groups] for turn in range(4))
    return [", ".join(dict.fromkeys(picked)) for picked in turns]
