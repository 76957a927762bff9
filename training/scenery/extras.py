"""The second edition of the scenes: weather, birds, a bridge, a lighthouse, far woods and plants nearby.

They are drawn from a stream of their own, so that what the first edition put into a scene stays where it was.
"""

from __future__ import annotations

from dataclasses import replace

from training.scenery.draws import Draws
from training.scenery.scene import Bird, Bridge, Lighthouse, Scene, Tuft

_STREAM = 0x2ED


def with_extras(scene: Scene) -> Scene:
    """The scene of the second edition for a scene of the first."""
    d = Draws(scene.seed, _STREAM)
    weather = _weather(d, scene)
    birds = _birds(d, scene, weather)
    bridge = _bridge(d, scene)
    lighthouse = _lighthouse(d, scene)
    wood, treeline = _treeline(d, scene)
    return replace(
        scene, weather=weather, birds=birds, bridge=bridge, lighthouse=lighthouse,
        boat=None if bridge else scene.boat, wood=wood, treeline=treeline,
        tufts=_tufts(d, scene),
    )  # fmt: skip


def _weather(d: Draws, scene: Scene) -> str:
    if scene.ground == "snow":
        falls = "snowfall" if scene.cloud_cover != "none" else "none"
        return d.pick({"none": 0.55, falls: 0.30, "mist": 0.15})
    if scene.cloud_cover == "many" and not scene.stars:
        return d.pick({"none": 0.5, "rain": 0.38, "mist": 0.12})
    if scene.time in ("dawn", "day") or scene.cloud_cover == "none":
        return d.pick({"none": 0.86, "mist": 0.14})
    return "none"


def _birds(d: Draws, scene: Scene, weather: str) -> tuple[Bird, ...]:
    if scene.time == "night" or weather in ("rain", "snowfall") or d.chance(0.68):
        return ()
    x, y = d.real(0.2, 0.8), d.real(0.12, max(0.16, scene.horizon - 0.20))
    flock: list[Bird] = []
    for _ in range(d.integer(3, 6)):
        bird = Bird(
            x=round(x + d.real(-0.16, 0.16), 4), y=round(y + d.real(-0.05, 0.05), 4),
            span=d.real(0.030, 0.046), flap=d.real(-0.4, 1),
        )  # fmt: skip
        if all(abs(bird.x - b.x) > 0.045 or abs(bird.y - b.y) > 0.03 for b in flock):
            flock.append(bird)
    return tuple(flock)


def _bridge(d: Draws, scene: Scene) -> Bridge | None:
    if scene.water != "lake" or d.chance(0.66):
        return None
    x, y, rx, ry = scene.lake
    half = rx * d.real(0.62, 0.86)
    middle = x + (rx - half) * d.real(-0.5, 0.5)
    return Bridge(
        left=round(middle - half, 4), right=round(middle + half, 4),
        y=round(y + ry * d.real(0.05, 0.45), 4), rise=d.real(0.085, 0.13), red=d.chance(0.5),
    )  # fmt: skip


def _lighthouse(d: Draws, scene: Scene) -> Lighthouse | None:
    if scene.water != "sea" or d.chance(0.6):
        return None
    standing = [tree.x for tree in scene.trees] + ([scene.house.x] if scene.house else [])
    places = [d.real(0.10, 0.26), d.real(0.74, 0.90)]
    free = {x: min((abs(x - s) for s in standing), default=1.0) for x in places}
    x = max(free, key=lambda place: free[place])
    if free[x] < 0.07 or (scene.house and abs(scene.house.x - x) < scene.house.width / 2 + 0.07):
        return None
    return Lighthouse(
        x=x, y=round(scene.shore + 0.035, 4), height=d.real(0.34, 0.42), red=d.chance(0.7)
    )


def _treeline(d: Draws, scene: Scene) -> tuple[str, tuple[tuple[float, float], ...]]:
    """A far wood along a part of the horizon; never by the sea or among palms."""
    kinds = {"grass": {"pine": 1, "oak": 1}, "snow": {"pine": 1}, "autumn": {"oak": 2, "pine": 1}}
    if scene.water == "sea" or scene.ground not in kinds or d.chance(0.55):
        return "none", ()
    start, length = d.real(-0.1, 0.6), d.real(0.3, 0.8)
    number = int(length / 0.032)
    trees = tuple(
        (round(start + (i + d.real(0.2, 0.8)) * length / number, 4), d.real(0.035, 0.062))
        for i in range(number)
    )
    return d.pick(kinds[scene.ground]), tuple(t for t in trees if -0.02 < t[0] < 1.02)


def _tufts(d: Draws, scene: Scene) -> tuple[Tuft, ...]:
    """Small things on free ground nearby; farther ones are smaller."""
    kinds = {
        "grass": {"grass": 5, "flower": 4, "stone": 1}, "sand": {"stone": 3, "reed": 2},
        "snow": {"stone": 2, "reed": 1}, "autumn": {"reed": 4, "grass": 2, "stone": 1},
    }  # fmt: skip
    if scene.ground not in kinds or d.chance(0.3):
        return ()
    near = {"none": 0.66, "lake": scene.lake[1] + scene.lake[3] + 0.08, "sea": scene.shore + 0.12}
    tufts: list[Tuft] = []
    for _ in range(d.integer(4, 11)):
        x, y = d.real(0.03, 0.97), d.real(near[scene.water], 0.97)
        kind, hue, size = d.pick(kinds[scene.ground]), d.real(0, 1), d.real(0.7, 1.15)
        if (
            scene.house
            and abs(x - scene.house.x) < scene.house.width * 0.7
            and y < scene.house.y + 0.04
        ):
            continue
        if scene.path and abs(x - (scene.path[0] + scene.path[1]) / 2) < 0.22:
            continue
        size = round(size * (0.028 + 0.046 * (y - 0.5) / 0.5), 4)
        tufts.append(Tuft(x=x, y=y, size=size, kind=kind, hue=hue))
    return tuple(sorted(tufts, key=lambda tuft: tuft.y))
