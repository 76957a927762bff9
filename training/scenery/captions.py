"""Captions: comma-separated phrases in any order, and the way back from them to attributes."""

from __future__ import annotations

import numpy as np

from training.scenery.scene import Scene, labels

DROP = 0.1  # chance that a phrase is left out of a caption

_TIME = {"dawn": "dawn", "day": "day", "sunset": "sunset", "night": "night"}
_CLOUDS = {"none": "clear sky", "few": "a few clouds", "many": "many clouds"}
_MOUNTAINS = {"hills": "hills", "rocky": "rocky mountains", "snowy": "snowy mountains"}
_GROUND = {
    "grass": "green grass",
    "sand": "sand",
    "snow": "snow",
    "autumn": "autumn field",
    "lavender": "lavender field",
}
_WHERE = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
_COUNT = {"one": "one {} tree", "few": "a few {} trees", "many": "many {} trees"}

# phrase -> the attributes it names, by category; insertion order is the order of chips in a UI
_PHRASES: dict[str, dict[str, dict[str, str]]] = {
    "time": {text: {"time": value} for value, text in _TIME.items()},
    "sky": {
        **{text: {"clouds": value} for value, text in _CLOUDS.items()},
        "stars": {"stars": "yes"},
        "birds": {"birds": "yes"},
    },
    "weather": {text: {"weather": text} for text in ("rain", "mist", "snowfall")},
    "sun and moon": {
        f"{body} {where}": {"body": body, "side": side}
        for body in ("sun", "moon")
        for side, where in _WHERE.items()
    },
    "mountains": {text: {"mountains": value} for value, text in _MOUNTAINS.items()},
    "ground": {
        **{text: {"ground": value} for value, text in _GROUND.items()},
        "path": {"path": "yes"},
    },
    "water": {
        "lake": {"water": "lake"},
        "sea": {"water": "sea"},
        "sailboat": {"boat": "yes"},
        "bridge": {"bridge": "yes"},
        "lighthouse": {"lighthouse": "yes"},
    },
    "trees": {
        text.format(kind): {"trees": kind, "count": count}
        for kind in ("pine", "oak", "palm")
        for count, text in _COUNT.items()
    },
    "house": {f"{c} house": {"house": c} for c in ("red", "blue", "white", "yellow")},
}
_MEANING = {text: named for group in _PHRASES.values() for text, named in group.items()}
_SECOND = ("weather", "birds", "bridge", "lighthouse")  # attributes that edition 2 adds

# Prompts that show what a model of these words can do, and words that may stand between its phrases.
EXAMPLES = (
    "sunset, sun on the left, snowy mountains, lake, a few pine trees",
    "night, stars, moon on the right, hills, lavender field, white house",
    "dawn, many clouds, sea, sailboat, sand, one palm tree",
    "day, a few clouds, autumn field, path, one oak tree, red house",
)
_GLUE = (
    "a an and at by in into is its near of on onto over the to under with without against above below behind beside "
    "between from one two three four few some many very"
)
GLUE = tuple(_GLUE.split(" "))
PHRASES: tuple[str, ...] = tuple(_MEANING)
WORDS: tuple[str, ...] = tuple(sorted({word for text in PHRASES for word in text.split()}))
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": ("dawn", "day", "sunset", "night"),
    "clouds": ("none", "few", "many"),
    "body": ("none", "sun", "moon"),
    "side": ("none", "left", "middle", "right"),
    "stars": ("no", "yes"),
    "mountains": ("none", "hills", "rocky", "snowy"),
    "ground": ("grass", "sand", "snow", "autumn", "lavender"),
    "water": ("none", "lake", "sea"),
    "trees": ("none", "pine", "oak", "palm"),
    "count": ("none", "one", "few", "many"),
    "house": ("none", "red", "blue", "white", "yellow"),
    "boat": ("no", "yes"),
    "path": ("no", "yes"),
    "weather": ("none", "rain", "mist", "snowfall"),
    "birds": ("no", "yes"),
    "bridge": ("no", "yes"),
    "lighthouse": ("no", "yes"),
}


def attributes(edition: int = 1) -> dict[str, tuple[str, ...]]:
    """Values of each attribute that scenes of this edition have."""
    return {
        name: values for name, values in ATTRIBUTES.items() if edition > 1 or name not in _SECOND
    }


def vocabulary(edition: int = 1) -> dict[str, tuple[str, ...]]:
    """Phrases by category, in the order of chips in a UI; categories without phrases are left out."""
    known = attributes(edition).keys()
    groups = {
        name: tuple(text for text, named in group.items() if named.keys() <= known)
        for name, group in _PHRASES.items()
    }
    return {name: group for name, group in groups.items() if group}


def phrases(scene: Scene) -> list[str]:
    """Every phrase that is true of the scene, in the vocabulary's order."""
    seen = labels(scene)
    return [
        text
        for text, named in _MEANING.items()
        if all(seen[attribute] == value for attribute, value in named.items())
    ]


def caption(scene: Scene, rng: np.random.Generator, *, drop: float = DROP) -> str:
    """The scene's phrases in random order, each left out with chance `drop`, at least one kept."""
    if not 0 <= drop < 1:
        raise ValueError(f"drop={drop} is not a chance below 1; use a value in [0, 1)")
    every = phrases(scene)
    order = [every[i] for i in rng.permutation(len(every))]
    kept = [text for text in order if rng.random() >= drop]
    return ", ".join(kept or order[:1])


def parse(text: str) -> dict[str, str]:
    """Attributes that a caption names; phrases outside the vocabulary are passed over."""
    found: dict[str, str] = {}
    for phrase in text.lower().split(","):
        found.update(_MEANING.get(" ".join(phrase.split()), {}))
    return found
