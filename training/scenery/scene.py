"""A scene as plain numbers: what is in the picture and where, before anything is drawn.

Coordinates are fractions of the picture: x grows to the right, y downwards, both in [0, 1].
Sizes of objects are fractions of the picture's shorter side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TIMES = ("dawn", "day", "sunset", "night")
PALETTES_PER_TIME = 4
SIDES = {"left": (0.13, 0.30), "middle": (0.43, 0.57), "right": (0.70, 0.87)}
TREE_COUNTS = {"one": (1, 1), "few": (2, 3), "many": (6, 8)}


@dataclass(frozen=True, kw_only=True)
class Body:
    """The sun or the moon."""

    kind: str  # "sun" or "moon"
    side: str  # "left", "middle" or "right"
    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A flat-bottomed heap of puffs, or (style "streak") a stack of capsules."""

    x: float
    y: float
    width: float
    style: str  # "puff" or "streak"
    puffs: tuple[tuple[float, float], ...]  # (offset in [-.5, .5], height in [0, 1])


@dataclass(frozen=True, kw_only=True)
class Peak:
    """One mountain: apex, extent of both flanks and the bends of its outlines."""

    x: float
    height: float
    left: float
    right: float
    bends: tuple[float, ...]  # nine offsets in [-1, 1]
    snowline: float  # depth of the snow cap as a share of the height


@dataclass(frozen=True, kw_only=True)
class Wave:
    """A smooth ridge: y(x) = level - sum of a * (1 + sin(2 pi (f x + p))) / 2."""

    level: float
    terms: tuple[tuple[float, float, float], ...]  # (amplitude, frequency, phase)

    def y(self, x: np.ndarray) -> np.ndarray:
        """Height line at x, both in [0, 1] fractions."""
        total = np.full_like(x, self.level)
        for amplitude, frequency, phase in self.terms:
            total -= amplitude * (0.5 + 0.5 * np.sin(2 * np.pi * (frequency * x + phase)))
        return total


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree standing at (x, y)."""

    x: float
    y: float
    height: float
    lean: float  # [-1, 1]
    shade: float  # [-1, 1] lighter or darker than its neighbours


@dataclass(frozen=True, kw_only=True)
class House:
    """A house whose ground line is y and whose centre is x."""

    colour: str  # "red", "blue", "white" or "yellow"
    x: float
    y: float
    width: float
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Boat:
    """A sailboat with its water line at y."""

    x: float
    y: float
    height: float
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Bird:
    """A bird in flight, two wings."""

    x: float
    y: float
    span: float
    flap: float  # [-1, 1] wings down or up


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """An arched footbridge; its feet are at left and right, the water line at y."""

    left: float
    right: float
    y: float
    rise: float
    red: bool


@dataclass(frozen=True, kw_only=True)
class Lighthouse:
    """A striped tower whose ground line is y."""

    x: float
    y: float
    height: float
    red: bool


@dataclass(frozen=True, kw_only=True)
class Tuft:
    """A small plant or stone of the foreground."""

    x: float
    y: float
    size: float
    kind: str  # "grass", "flower", "stone" or "reed"
    hue: float  # [0, 1]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything `render` needs; equal scenes give equal bytes."""

    seed: int
    time: str
    palette: int
    light: int  # -1: lit from the left, 1: from the right
    horizon: float
    body: Body | None
    stars: tuple[tuple[float, float, float], ...]  # (x, y, brightness in [0, 1])
    cloud_cover: str  # "none", "few" or "many"
    clouds: tuple[Cloud, ...]
    mountains: str  # "none", "hills", "rocky" or "snowy"
    rock: int
    peaks: tuple[Peak, ...]
    hills: tuple[Wave, ...]  # back to front
    ground: str  # "grass", "sand", "snow", "autumn" or "lavender"
    near: Wave  # edge of the nearest rise of ground
    water: str  # "none", "lake" or "sea"
    shore: float  # sea: y of the near shore
    lake: tuple[float, float, float, float]  # centre x, centre y, half width, half height
    tree_kind: str  # "none", "pine", "oak" or "palm"
    tree_count: str  # "none", "one", "few" or "many"
    trees: tuple[Tree, ...]
    house: House | None
    boat: Boat | None
    path: tuple[float, float, float] | None  # x at the far end, x at the bottom, bend
    # the second edition
    weather: str = "none"  # "none", "rain", "mist" or "snowfall"
    birds: tuple[Bird, ...] = ()
    bridge: Bridge | None = None
    lighthouse: Lighthouse | None = None
    tufts: tuple[Tuft, ...] = ()
    treeline: tuple[tuple[float, float], ...] = ()  # far trees: x, height
    wood: str = "none"  # kind of the far trees, "pine" or "oak"


def labels(scene: Scene) -> dict[str, str]:
    """Discrete attributes of a scene, one value for each name in `captions.ATTRIBUTES`."""
    return {
        "time": scene.time,
        "clouds": scene.cloud_cover,
        "body": scene.body.kind if scene.body else "none",
        "side": scene.body.side if scene.body else "none",
        "stars": "yes" if scene.stars else "no",
        "mountains": scene.mountains,
        "ground": scene.ground,
        "water": scene.water,
        "trees": scene.tree_kind,
        "count": scene.tree_count,
        "house": scene.house.colour if scene.house else "none",
        "boat": "yes" if scene.boat else "no",
        "path": "yes" if scene.path else "no",
        "weather": scene.weather,
        "birds": "yes" if scene.birds else "no",
        "bridge": "yes" if scene.bridge else "no",
        "lighthouse": "yes" if scene.lighthouse else "no",
    }
