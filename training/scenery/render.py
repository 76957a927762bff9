"""Draws a scene from back to front: sky, ridges, ground, water, then what stands on it."""

from __future__ import annotations

import cv2
import numpy as np

from training.scenery.canvas import Canvas
from training.scenery.details import (
    draw_birds,
    draw_bridge,
    draw_falling,
    draw_lighthouse,
    draw_mist,
    draw_treeline,
    draw_tuft,
)
from training.scenery.objects import draw_boat, draw_house, draw_tree
from training.scenery.palettes import (
    GROUNDS,
    HILLS,
    RGB,
    ROCKS,
    SKIES,
    SNOW,
    Palette,
    bright,
    lit,
    mix,
)
from training.scenery.scene import Cloud, Peak, Scene, Wave


def render(scene: Scene, size: int | tuple[int, int] = 128, supersample: int = 2) -> np.ndarray:
    """The scene as RGB uint8 (H, W, 3); `size` is one side or (width, height)."""
    width, height = (size, size) if isinstance(size, int) else size
    if min(width, height) < 8 or supersample < 1:
        raise ValueError(
            f"size={size}, supersample={supersample}: use sides of 8 or more and supersample >= 1"
        )
    c = Canvas(width * supersample, height * supersample)
    p = SKIES[scene.time][scene.palette]
    _sky(c, scene, p)
    for cloud in scene.clouds:
        _cloud(c, cloud, p)
    _mountains(c, scene, p)
    if scene.water == "sea":
        _sea(c, scene, p)
    _ground(c, scene, p)
    if scene.treeline:
        draw_treeline(c, scene, p)
    if scene.water == "lake":
        _lake(c, scene, p)
    if scene.weather == "mist":
        draw_mist(c, scene, p)
    if scene.birds:
        draw_birds(c, scene.birds, p)
    _standing(c, scene, p)
    if scene.weather in ("rain", "snowfall"):
        draw_falling(c, scene, p)
    if supersample == 1:
        return c.pixels
    small: np.ndarray = cv2.resize(c.pixels, (width, height), interpolation=cv2.INTER_AREA)
    return small


def _sky(c: Canvas, scene: Scene, p: Palette) -> None:
    rows = slice(0, c.h)
    sky = np.repeat(c.ramp(rows, p.sky, (0.0, scene.horizon * 0.58, scene.horizon)), c.w, 1)
    body = scene.body
    if body:
        x = ((np.arange(c.w) + 0.5) - body.x * c.w) / c.side
        y = ((np.arange(c.h) + 0.5) - body.y * c.h) / c.side
        squared = (x * x)[None, :] + (y * y)[:, None]
        reach = 3.6 if body.kind == "sun" else 2.6
        strength = 0.75 if body.kind == "sun" else 0.5
        glow = strength * np.exp(-squared / (2 * (reach * body.radius) ** 2) * 1.6)
        sky += (np.asarray(p.glow, np.float32) - sky) * glow.astype(np.float32)[:, :, None]
    c.pixels[:] = sky + 0.5
    for x0, y0, brightness in scene.stars:
        c.circle((x0, y0), 0.0068 + 0.004 * brightness, mix(p.sky[1], (255, 250, 232), brightness))
    if body:
        c.circle((body.x, body.y), body.radius, p.body)
        if body.kind == "moon":
            for dx, dy, r in ((-0.32, 0.25, 0.26), (0.3, -0.12, 0.2), (-0.05, -0.5, 0.15)):
                spot = c.at((body.x, body.y), [(dx, dy)], body.radius)[0]
                c.circle(tuple(spot), r * body.radius, mix(p.body, p.glow, 0.28))


def _cloud(c: Canvas, cloud: Cloud, p: Palette) -> None:
    at = (cloud.x, cloud.y)
    if cloud.style == "streak":
        for i, (offset, height) in enumerate(cloud.puffs[:3]):
            half = cloud.width * (0.26 + 0.24 * height)
            middle = c.at(at, [(offset * 0.5, 0.026 * (1 - i))], 1.0)[0]
            strip = _capsule(c, (middle[0], middle[1]), half, 0.0155)
            c.veil(strip, mix(*p.cloud, 0.3 * i), 0.85)
        return
    tall = cloud.width * 0.33
    outlines = []
    for offset, height in cloud.puffs:
        x, y = c.at(at, [(offset * cloud.width * 1.0, tall * 0.18)])[0]
        outlines.append(c.ellipse(x, y, cloud.width * 0.17, tall * (0.35 + 0.5 * height)))
    outlines.append(_capsule(c, at, cloud.width * 0.5, tall * 0.26))
    every = np.concatenate(outlines)
    low, high = every.min(0), every.max(0)
    box = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    cover, rows, columns = c.mask(box)
    cover[:] = 0
    for outline in outlines:
        part, r, k = c.mask(outline)
        view = cover[r.start - rows.start : r.stop - rows.start,
                     k.start - columns.start : k.stop - columns.start]  # fmt: skip
        np.maximum(view, part[: view.shape[0], : view.shape[1]], out=view)
    level = (np.arange(rows.start, rows.stop) + 0.5) / c.h
    floor = cloud.y + 0.01
    flat = np.clip((floor + 0.012 - level) / 0.024, 0, 1).astype(np.float32)[:, None, None]
    ramp = c.ramp(rows, p.cloud, (cloud.y - tall * 0.75, floor))
    c.blend(cover * flat * np.float32(0.94), rows, columns, ramp)


def _capsule(c: Canvas, at: tuple[float, float], half: float, radius: float) -> np.ndarray:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
    right = np.stack([half - radius + radius * np.cos(turn), radius * np.sin(turn)], 1)
    return c.at(at, np.concatenate([right, -right]))


def _mountains(c: Canvas, scene: Scene, p: Palette) -> None:
    haze = p.sky[2]
    base = scene.horizon + 0.01
    for peak in scene.peaks:
        _peak(c, scene, peak, p, base)
    if scene.peaks:
        _mist(c, base - 0.10, base, haze, 0.5)
    colour = lit(HILLS[scene.ground], p)
    last = len(scene.hills) - 1
    for i, wave in enumerate(scene.hills):
        depth = 1.0 if last == 0 else i / last
        tone = mix(mix(colour, p.shade, 0.22), haze, 0.58 - 0.46 * depth)
        _ridge(c, wave, base + 0.03, tone, mix(tone, haze, 0.30))


def _ridge(c: Canvas, wave: Wave, bottom: float, top_colour: RGB, bottom_colour: RGB) -> None:
    x = np.linspace(-0.02, 1.02, 49)
    y = wave.y(x)
    outline = np.concatenate([np.stack([x, y], 1), [(1.02, bottom), (-0.02, bottom)]])
    c.shaded(outline, top_colour, bottom_colour, float(y.min()), bottom)


def _mist(c: Canvas, top: float, bottom: float, colour: RGB, alpha: float) -> None:
    rows = slice(max(0, round(top * c.h)), min(c.h, round(bottom * c.h)))
    rise = np.linspace(0, alpha, rows.stop - rows.start, dtype=np.float32)[:, None, None]
    c.blend(rise, rows, slice(0, c.w), colour)


def _peak(c: Canvas, scene: Scene, peak: Peak, p: Palette, base: float) -> None:
    """A mountain as a lit and a shaded facet, with an optional zigzag snow cap."""
    t = np.array([0.0, 0.3, 0.62, 1.0])
    b = np.asarray(peak.bends)
    left = -peak.left * (t + np.append(0, np.append(0.07 * b[0:2], 0)))
    right = peak.right * (t + np.append(0, np.append(0.07 * b[2:4], 0)))
    spine = 0.5 * (left + right) + 0.16 * peak.height * np.append(0, b[4:7]) * (0.4 + t)
    y = peak.height * (1 - t)
    at = (peak.x, base)
    share = min(1.0, peak.height / 0.3)
    rock = mix(lit(ROCKS[scene.rock], p), p.sky[2], 0.38 - 0.14 * share)
    snow = mix(bright(SNOW, p), p.sky[2], 0.08)
    dark = right if scene.light < 0 else left

    def facet(a: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.concatenate([np.stack([a, y], 1), np.stack([z, y], 1)[::-1]])

    c.polygon(c.at(at, facet(left, right)), rock)
    c.polygon(c.at(at, facet(spine, dark)), mix(rock, p.shade, 0.40))
    if scene.mountains != "snowy":
        return
    s = peak.snowline
    cut = [(left, s), (0.5 * (left + spine), s - 0.12), (spine, s + 0.10 + 0.05 * b[7]),
           (0.5 * (spine + right), s - 0.13), (right, s + 0.02)]  # fmt: skip
    edge = [(float(np.interp(d, t, line)), peak.height * (1 - d)) for line, d in cut]
    c.polygon(c.at(at, [(0.0, peak.height), *edge]), snow)
    half = edge[2:] if scene.light < 0 else edge[:3]
    bend = (float(np.interp(0.3, t, spine)), peak.height * 0.7)
    shaded = (
        [(0.0, peak.height), bend, *half] if scene.light < 0 else [(0.0, peak.height), *half, bend]
    )
    c.polygon(c.at(at, shaded), mix(snow, p.shade, 0.30))


def _ground(c: Canvas, scene: Scene, p: Palette) -> None:
    far, middle, near = (lit(colour, p) for colour in GROUNDS[scene.ground])
    far = mix(far, p.sky[2], 0.15)
    top = scene.horizon
    if scene.water == "sea":
        _shore(c, scene, p, far, middle)
    else:
        box = [(-0.1, top), (1.1, top), (1.1, 1.1), (-0.1, 1.1)]
        c.shaded(box, far, middle, top, 0.9)
        if scene.ground == "lavender":
            _rows(c, scene, p, middle)
    if scene.path:
        _path(c, scene, p)
    if scene.water != "sea" and not scene.path and scene.ground != "lavender":
        _ridge(c, scene.near, 1.1, mix(middle, near, 0.75), mix(near, p.shade, 0.18))


def _shore(c: Canvas, scene: Scene, p: Palette, far: RGB, middle: RGB) -> None:
    x = np.linspace(-0.02, 1.02, 33)
    y = scene.near.y(x)
    for lift, colour in ((0.022, mix(p.water, lit((255, 255, 255), p), 0.62)), (0.0, far)):
        outline = np.concatenate([np.stack([x, y - lift], 1), [(1.02, 1.1), (-0.02, 1.1)]])
        c.shaded(
            outline, colour, colour if lift else mix(middle, p.shade, 0.10), float(y.min()), 1.0
        )


def _rows(c: Canvas, scene: Scene, p: Palette, colour: RGB) -> None:
    """Rows of lavender that meet at the horizon."""
    vanish = 0.5 + 0.3 * scene.light
    for k in range(-9, 10):
        x0, x1 = 0.5 + 0.24 * k - 0.06, 0.5 + 0.24 * k + 0.06
        far0, far1 = vanish + 0.05 * (x0 - 0.5), vanish + 0.05 * (x1 - 0.5)
        strip = [(far0, scene.horizon), (far1, scene.horizon), (x1, 1.02), (x0, 1.02)]
        c.veil(strip, mix(colour, p.shade, 0.35), 0.55)


def _path(c: Canvas, scene: Scene, p: Palette) -> None:
    assert scene.path is not None
    far_x, near_x, bend = scene.path
    start = scene.house.y - 0.005 if scene.house else scene.horizon + 0.01
    t = np.linspace(0, 1, 17)
    half = (0.028 if scene.house else 0.012) + 0.10 * t**1.4
    x = far_x + (near_x - far_x) * t + 0.10 * bend * np.sin(np.pi * t) * (1 + 0.3 * t)
    y = start + (1.03 - start) * t**1.25
    outline = np.concatenate([np.stack([x - half, y], 1), np.stack([x + half, y], 1)[::-1]])
    tone = lit((236, 212, 172) if scene.ground != "snow" else (196, 188, 192), p)
    c.shaded(outline, mix(tone, p.sky[2], 0.2), mix(tone, p.shade, 0.12), start, 1.0)


def _reflect(c: Canvas, p: Palette, line: float, bottom: float, stretch: float) -> np.ndarray:
    """The picture above `line`, flipped into rows line..bottom: float32 (h, W, 3)."""
    y0, y1 = round(line * c.h), min(c.h, round(bottom * c.h))
    source = y0 - 1 - (np.arange(y1 - y0) * stretch).astype(np.intp)
    mirrored = c.pixels[np.clip(source, 0, c.h - 1)]
    blurred = cv2.blur(mirrored, (max(1, c.w // 32), max(1, c.h // 100)))
    water: np.ndarray = blurred.astype(np.float32)
    depth = np.linspace(0.24, 0.62, y1 - y0, dtype=np.float32)[:, None, None]
    water += (np.asarray(p.water, np.float32) - water) * depth
    return water


def _ripples(c: Canvas, scene: Scene, p: Palette, line: float, bottom: float) -> None:
    """A few pale strokes, and the light's broken column under the sun or the moon."""
    pale = mix(p.sky[2], (255, 255, 255), 0.25)
    rng = np.random.Generator(np.random.PCG64(scene.seed + 1))
    for _ in range(5):
        x, t, half = rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.9), rng.uniform(0.05, 0.10)
        at = (float(x), float(line + (bottom - line) * t))
        c.veil(_capsule(c, at, float(half) * (0.6 + float(t)), 0.006), pale, 0.30)
    if not scene.body:
        return
    for i in range(5):
        t = (i + 0.4) / 5
        half = scene.body.radius * (0.7 + 0.5 * t) * (1.0 if i % 2 else 0.72)
        at = (scene.body.x, line + (bottom - line) * t)
        c.veil(_capsule(c, at, half, 0.0085), mix(p.body, p.glow, 0.3), 0.72 - 0.3 * t)


def _sea(c: Canvas, scene: Scene, p: Palette) -> None:
    y0, y1 = round(scene.horizon * c.h), round((scene.shore + 0.06) * c.h)
    c.pixels[y0:y1] = _reflect(c, p, scene.horizon, (y1 + 0.01) / c.h, 1.5)[: y1 - y0] + 0.5
    _ripples(c, scene, p, scene.horizon, scene.shore - 0.03)


def _lake(c: Canvas, scene: Scene, p: Palette) -> None:
    x, y, rx, ry = scene.lake
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wobble = 1 + 0.06 * np.sin(2 * turn + scene.rock) + 0.05 * np.sin(3 * turn + 2 * scene.palette)
    outline = np.stack([x + rx * np.cos(turn) * wobble, y + ry * np.sin(turn) * wobble], 1)
    bank = outline + np.array([0, 0.012])
    image = c.pixels.copy()
    top, bottom = y - ry * 1.1, y + ry * 1.1
    mirrored = _reflect(c, p, scene.horizon + 0.01, bottom, 2.0)
    y0 = round((scene.horizon + 0.01) * c.h)
    c.pixels[y0 : y0 + len(mirrored)] = mirrored + 0.5
    _ripples(c, scene, p, top + 0.02, bottom - 0.03)
    water, c.pixels = c.pixels, image
    c.polygon(bank, mix(lit(GROUNDS[scene.ground][1], p), p.shade, 0.3))
    cover, rows, columns = c.mask(outline)
    c.blend(cover, rows, columns, water[rows, columns].astype(np.float32))


def _standing(c: Canvas, scene: Scene, p: Palette) -> None:
    """Boat, bridge, lighthouse and small plants first, then trees and house from back to front."""
    if scene.boat:
        draw_boat(c, scene.boat, scene.light, p)
    glowing = scene.time in ("night", "sunset")
    if scene.bridge:
        draw_bridge(c, scene.bridge, p)
    if scene.lighthouse:
        draw_lighthouse(c, scene.lighthouse, scene.light, glowing, p)
    for tuft in scene.tufts:
        draw_tuft(c, tuft, scene.ground, scene.light, p)
    trees = [tree for tree in scene.trees if not scene.house or tree.y < scene.house.y]
    for tree in trees:
        draw_tree(c, tree, scene.tree_kind, scene.ground, scene.light, p)
    if scene.house:
        draw_house(c, scene.house, scene.light, glowing, p)
        for tree in scene.trees[len(trees) :]:
            draw_tree(c, tree, scene.tree_kind, scene.ground, scene.light, p)
