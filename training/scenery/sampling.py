"""Draws scenes: which things go together, and where they stand."""

from __future__ import annotations

from dataclasses import replace

from training.scenery.draws import Draws
from training.scenery.extras import with_extras
from training.scenery.scene import (
    PALETTES_PER_TIME,
    SIDES,
    TREE_COUNTS,
    Boat,
    Body,
    Cloud,
    House,
    Peak,
    Scene,
    Tree,
    Wave,
)

Box = tuple[float, float, float, float]  # x0, x1, y0, y1


EDITIONS = (1, 2)


def sample_scene(seed: int, edition: int = 1) -> Scene:
    """The scene of this seed: the same seed gives the same scene on every machine.

    Edition 1 has what the models of 128 pixels learnt; edition 2 adds what `extras` draws.
    """
    if edition not in EDITIONS:
        raise ValueError(f"edition={edition} is none of {EDITIONS}; use 1 or 2")
    scene = _first_edition(seed)
    return with_extras(scene) if edition == 2 else scene


def _first_edition(seed: int) -> Scene:
    if seed < 0:
        raise ValueError(f"seed={seed} is negative; use a seed of 0 or more")
    d = Draws(seed)
    time = d.pick({"dawn": 0.22, "day": 0.30, "sunset": 0.24, "night": 0.24})
    ground = d.pick({"grass": 0.34, "sand": 0.18, "snow": 0.18, "autumn": 0.17, "lavender": 0.13})
    water = d.pick(_WATER[ground])
    mountains = d.pick(_MOUNTAINS_AT_SEA if water == "sea" else _MOUNTAINS[ground])
    horizon = d.real(0.40, 0.50) if water != "none" else d.real(0.46, 0.62)
    body = _body(d, time, horizon, mountains)
    cover = d.pick({"none": 0.38, "few": 0.36, "many": 0.26})
    light = {"left": -1, "right": 1}.get(body.side if body else "", d.pick({"-1": 1, "1": 1}))
    shore = round(horizon + d.real(0.20, 0.27), 4)
    lake = (
        d.real(0.38, 0.62),
        round(horizon + d.real(0.16, 0.19), 4),
        d.real(0.36, 0.46),
        d.real(0.09, 0.115),
    )
    house, trees, kind, count = _on_the_ground(d, ground, water, horizon, shore, lake)
    return Scene(
        seed=seed, time=time, palette=d.integer(0, PALETTES_PER_TIME - 1), light=int(light),
        horizon=horizon, body=body, stars=_stars(d, time, cover, horizon), cloud_cover=cover,
        clouds=_clouds(d, cover, time, horizon, body), mountains=mountains, rock=d.integer(0, 2),
        peaks=_below(body, _peaks(d, mountains, water), horizon), hills=_hills(d, mountains, water, horizon),
        ground=ground, near=_near(d, water, horizon, shore), water=water, shore=shore, lake=lake,
        tree_kind=kind, tree_count=count, trees=trees, house=house,
        boat=_boat(d, water, horizon, lake, house, trees), path=_path(d, ground, water, house),
    )  # fmt: skip


_WATER = {
    "grass": {"none": 0.46, "lake": 0.36, "sea": 0.18},
    "sand": {"none": 0.28, "lake": 0.12, "sea": 0.60},
    "snow": {"none": 0.60, "lake": 0.40},
    "autumn": {"none": 0.56, "lake": 0.44},
    "lavender": {"none": 0.85, "sea": 0.15},
}
_MOUNTAINS = {
    "grass": {"none": 0.16, "hills": 0.30, "rocky": 0.26, "snowy": 0.28},
    "sand": {"none": 0.25, "hills": 0.30, "rocky": 0.45},
    "snow": {"none": 0.14, "hills": 0.22, "rocky": 0.14, "snowy": 0.50},
    "autumn": {"none": 0.16, "hills": 0.30, "rocky": 0.24, "snowy": 0.30},
    "lavender": {"none": 0.20, "hills": 0.42, "rocky": 0.20, "snowy": 0.18},
}
_MOUNTAINS_AT_SEA = {"none": 0.60, "hills": 0.22, "rocky": 0.18}
_TREES = {
    "grass": {"none": 0.22, "pine": 0.30, "oak": 0.38, "palm": 0.10},
    "sand": {"none": 0.34, "palm": 0.66},
    "snow": {"none": 0.22, "pine": 0.78},
    "autumn": {"none": 0.20, "pine": 0.26, "oak": 0.54},
    "lavender": {"none": 0.30, "pine": 0.25, "oak": 0.45},
}


def _body(d: Draws, time: str, horizon: float, mountains: str) -> Body | None:
    if d.chance(0.22):
        return None
    side = d.pick({"left": 1, "middle": 1, "right": 1})
    x = d.real(*SIDES[side])
    if time == "night":
        return Body(kind="moon", side=side, x=x, y=d.real(0.10, 0.20), radius=d.real(0.045, 0.065))
    if time == "day":
        return Body(kind="sun", side=side, x=x, y=d.real(0.10, 0.19), radius=d.real(0.05, 0.065))
    clearance = {"none": 0.05, "hills": 0.19}.get(mountains, 0.26)
    y = round(max(0.12, horizon - clearance - d.real(0.0, 0.06)), 4)
    return Body(kind="sun", side=side, x=x, y=y, radius=d.real(0.06, 0.085))


def _stars(
    d: Draws, time: str, cover: str, horizon: float
) -> tuple[tuple[float, float, float], ...]:
    if time != "night" or d.chance(0.85 if cover == "many" else 0.2):
        return ()
    stars: list[tuple[float, float, float]] = []
    wanted = d.integer(14, 22)
    for _ in range(200):
        star = (d.real(0.03, 0.97), d.real(0.03, horizon - 0.12), d.real(0.55, 1.0))
        if all((star[0] - s[0]) ** 2 + (star[1] - s[1]) ** 2 > 0.006 for s in stars):
            stars.append(star)
        if len(stars) == wanted:
            break
    return tuple(stars)


def _clouds(
    d: Draws, cover: str, time: str, horizon: float, body: Body | None
) -> tuple[Cloud, ...]:
    number = {"none": 0, "few": d.integer(2, 3), "many": d.integer(6, 8)}[cover]
    style = d.pick({"puff": 0.75 if time == "day" else 0.45, "streak": 0.4})
    clouds = []
    for i in range(number):
        width = d.real(0.24, 0.36) if cover == "few" else d.real(0.24, 0.40)
        for _ in range(20):
            x = round((i + d.real(0.15, 0.85)) / number, 4)
            y = d.real(0.10, max(0.16, horizon - 0.20))
            if not body or _clear_of(body, x, y, width):
                break
        if body:
            x = _beside(body, x, y, width)
        puffs = tuple(
            (round(-0.34 + 0.68 * (k + d.real(0.2, 0.8)) / 4, 4), d.real(0.45, 1.0))
            for k in range(4)
        )
        clouds.append(Cloud(x=x, y=y, width=width, style=style, puffs=puffs))
    return tuple(sorted(clouds, key=lambda cloud: cloud.y))


def _clear_of(body: Body, x: float, y: float, width: float, slack: float = 0.6) -> bool:
    """Whether a cloud leaves the disc to be seen, but for `slack` of its radius."""
    beside = abs(x - body.x) > 0.5 * width + (1 - slack) * body.radius
    below, above = y - 0.30 * width > body.y + 0.2 * body.radius, y < body.y - 0.5 * body.radius
    return beside or below or above


def _beside(body: Body, x: float, y: float, width: float) -> float:
    """The cloud's x, moved just so far that it covers little of the disc."""
    if _clear_of(body, x, y, width, slack=0.35):
        return x
    way = 1 if (x > body.x and body.x < 0.75) or body.x < 0.25 else -1
    return round(body.x + way * (0.5 * width + 0.66 * body.radius), 4)


def _below(body: Body | None, peaks: tuple[Peak, ...], horizon: float) -> tuple[Peak, ...]:
    """The peaks, lowered where they would hide the sun or the moon."""
    if not body:
        return peaks
    tallest = round(horizon - body.y - 0.1 * body.radius, 4)
    return tuple(
        replace(peak, height=min(peak.height, tallest))
        if abs(peak.x - body.x) < body.radius + 0.4 * max(peak.left, peak.right)
        else peak
        for peak in peaks
    )


def _peaks(d: Draws, mountains: str, water: str) -> tuple[Peak, ...]:
    if mountains not in ("rocky", "snowy"):
        return ()
    number = d.integer(3, 5)
    scale = 0.75 if water == "sea" else 1.15 if mountains == "snowy" else 1.0
    start = d.real(-0.10, 0.05)
    peaks = []
    for i in range(number):
        height = round(scale * d.real(0.15, 0.29), 4)
        peaks.append(
            Peak(
                x=round(start + (i + d.real(0.2, 0.8)) * 1.1 / number, 4),
                height=height,
                left=round(height * d.real(0.75, 1.15), 4),
                right=round(height * d.real(0.75, 1.15), 4),
                bends=tuple(d.real(-1, 1) for _ in range(9)),
                snowline=d.real(0.48, 0.64),
            )
        )
    return tuple(sorted(peaks, key=lambda peak: -peak.height))


def _wave(d: Draws, level: float, amplitude: float) -> Wave:
    terms = (
        (round(amplitude * d.real(0.6, 1.0), 4), d.real(0.6, 1.1), d.real(0, 1)),
        (round(amplitude * d.real(0.15, 0.35), 4), d.real(1.6, 2.4), d.real(0, 1)),
    )
    return Wave(level=round(level, 4), terms=terms)


def _hills(d: Draws, mountains: str, water: str, horizon: float) -> tuple[Wave, ...]:
    if mountains == "none":
        return ()
    if mountains == "hills":
        scale = 0.7 if water == "sea" else 1.0
        return tuple(
            _wave(d, horizon - scale * rise, scale * 0.10) for rise in (0.075, 0.035, -0.005)
        )
    if water == "sea":
        return ()
    return (_wave(d, horizon - 0.005, 0.05),)


def _near(d: Draws, water: str, horizon: float, shore: float) -> Wave:
    if water == "sea":
        return _wave(d, shore + 0.02, 0.05)
    level = 0.84 if water == "lake" else horizon + (1 - horizon) * d.real(0.42, 0.6)
    return _wave(d, level, 0.05)


def _on_the_ground(
    d: Draws, ground: str, water: str, horizon: float, shore: float, lake: Box
) -> tuple[House | None, tuple[Tree, ...], str, str]:
    """House and trees, which must not hide one another."""
    house = None
    if d.chance(0.45):
        y = {
            "none": horizon + d.real(0.10, 0.20),
            "lake": lake[1] + lake[3] + d.real(0.10, 0.18),
            "sea": shore + d.real(0.10, 0.18),
        }[water]
        house = House(
            colour=d.pick({"red": 1, "blue": 1, "white": 1, "yellow": 1}),
            x=d.real(0.17, 0.83), y=round(y, 4), width=d.real(0.20, 0.27), mirrored=d.chance(0.5),
        )  # fmt: skip
    kind = d.pick(_TREES[ground])
    if kind == "none":
        return house, (), "none", "none"
    count = d.pick({"one": 0.28, "few": 0.38, "many": 0.34})
    return house, _trees(d, kind, count, water, horizon, shore, lake, house), kind, count


def _trees(
    d: Draws, kind: str, count: str, water: str, horizon: float, shore: float, lake: Box,
    house: House | None,
) -> tuple[Tree, ...]:  # fmt: skip
    """Trees apart from one another; nearer ones are taller."""
    far = {"none": horizon + 0.05, "lake": lake[1] + lake[3] + 0.05, "sea": shore + 0.07}[water]
    tallest = {"one": 0.40, "few": 0.34, "many": 0.27}[count]
    wanted = d.integer(*TREE_COUNTS[count])
    gap = {"one": 1.0, "few": 0.20, "many": 0.10}[count]
    trees: list[Tree] = []
    for attempt in range(400):
        slack = 1.0 if attempt < 200 else 0.6
        x, y = d.real(0.06, 0.94), d.real(far, 0.95)
        nearness = (y - far) / max(0.05, 0.95 - far)
        height = (0.62 + 0.38 * nearness) * tallest * d.real(0.85, 1.1)
        if kind == "palm":
            height *= 1.1
        if any(abs(x - t.x) < slack * gap for t in trees):
            continue
        if house and abs(x - house.x) < slack * (house.width / 2 + 0.10):
            continue
        trees.append(
            Tree(x=x, y=y, height=round(height, 4), lean=d.real(-1, 1), shade=d.real(-1, 1))
        )
        if len(trees) == wanted:
            break
    return tuple(sorted(trees, key=lambda tree: tree.y))


def _boat(
    d: Draws, water: str, horizon: float, lake: Box, house: House | None,
    trees: tuple[Tree, ...],
) -> Boat | None:  # fmt: skip
    if water == "none" or d.chance(0.6):
        return None
    if water == "sea":
        places = [d.real(0.15, 0.85) for _ in range(12)]
        y = horizon + d.real(0.07, 0.12)
    else:
        places = [lake[0] + lake[2] * d.real(-0.55, 0.55) for _ in range(12)]
        y = lake[1] + lake[3] * d.real(-0.1, 0.3)
    tall = [tree.x for tree in trees if tree.y - tree.height < y]
    standing = tall + ([house.x, house.x] if house else [])
    x = max(places, key=lambda place: min((abs(place - s) for s in standing), default=0.0))
    return Boat(x=round(x, 4), y=round(y, 4), height=d.real(0.15, 0.2), mirrored=d.chance(0.5))


def _path(
    d: Draws, ground: str, water: str, house: House | None
) -> tuple[float, float, float] | None:
    if water != "none" or ground == "sand" or d.chance(0.6):
        return None
    far = house.x if house else d.real(0.25, 0.75)
    return (far, d.real(0.3, 0.7), d.real(-1, 1))
