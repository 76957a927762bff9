"""What the second edition of the scenes adds: weather, birds, bridge, lighthouse, far woods, plants nearby."""

from __future__ import annotations

import numpy as np

from training.scenery.canvas import Canvas
from training.scenery.objects import draw_shadow
from training.scenery.palettes import LAMP, LEAVES, RGB, SNOW, Palette, bright, lit, mix
from training.scenery.scene import Bird, Bridge, Lighthouse, Scene, Tuft

_STREAM = 0x7A1
_WHITE: RGB = (255, 255, 255)
_PETALS: tuple[RGB, ...] = ((250, 214, 70), (244, 244, 250), (230, 90, 110), (150, 120, 230))


def draw_treeline(c: Canvas, scene: Scene, p: Palette) -> None:
    """Far trees on the horizon, paler than near ones, snow on them in winter."""
    leaf = LEAVES["autumn" if scene.wood == "oak" and scene.ground == "autumn" else scene.wood]
    tone = mix(mix(lit(leaf, p), p.shade, 0.25), p.sky[2], 0.30)
    if scene.ground == "snow":
        tone = mix(tone, lit(SNOW, p), 0.18)
    for x, height in scene.treeline:
        at = (x, scene.horizon + 0.008)
        if scene.wood == "pine":
            c.polygon(c.at(at, [(-0.30, 0), (0.30, 0), (0, 1)], height), tone)
        else:
            c.polygon(c.at(at, [(-0.07, 0), (0.07, 0), (0.07, 0.5), (-0.07, 0.5)], height), tone)
            middle = c.at(at, [(0, 0.58)], height)[0]
            c.circle((float(middle[0]), float(middle[1])), 0.40 * height, tone)


def draw_mist(c: Canvas, scene: Scene, p: Palette) -> None:
    """A pale bank that is thickest at the horizon."""
    pale = mix(p.sky[2], _WHITE, 0.22 if scene.time == "night" else 0.5)
    rows = slice(0, c.h)
    y = (np.arange(c.h) + 0.5) / c.h
    bank = 0.80 * np.exp(-(((y - scene.horizon) / 0.11) ** 2)) + 0.16
    c.blend(bank.astype(np.float32)[:, None, None], rows, slice(0, c.w), pale)


def draw_birds(c: Canvas, birds: tuple[Bird, ...], p: Palette) -> None:
    """Two curved wings each."""
    dark = mix(p.shade, (20, 20, 30), 0.45)
    t = np.linspace(0, 1, 6)
    for bird in birds:
        lift = 0.30 + 0.22 * bird.flap
        thick = 0.085 * (1 - t)
        wing = lift * np.sin(np.pi * np.minimum(1, 0.62 * t + 0.0)) + 0.02
        for side in (-1, 1):
            upper = np.stack([side * 0.5 * t, wing + thick], 1)
            lower = np.stack([side * 0.5 * t, wing - thick - 0.02], 1)
            c.polygon(c.at((bird.x, bird.y), np.concatenate([upper, lower[::-1]]), bird.span), dark)


def draw_bridge(c: Canvas, bridge: Bridge, p: Palette) -> None:
    """An arched deck on posts, with a railing and its reflection."""
    wood = bright((196, 66, 52) if bridge.red else (150, 110, 76), p)
    dark = mix(wood, p.shade, 0.42)
    t = np.linspace(0, 1, 25)
    x = bridge.left + (bridge.right - bridge.left) * t
    arch = bridge.rise * np.sin(np.pi * t) * c.side / c.h

    def band(low: np.ndarray, high: np.ndarray, colour: RGB, alpha: float = 1.0) -> None:
        outline = np.concatenate([np.stack([x, low], 1), np.stack([x, high], 1)[::-1]])
        c.veil(outline, colour, alpha)

    deck = bridge.y - arch
    band(bridge.y + 0.55 * arch + 0.012, bridge.y + 0.55 * arch + 0.034, dark, 0.35)
    posts = np.linspace(0.08, 0.92, 7)
    half = 0.0055 * c.side / c.w
    for at in posts:
        px, rise = float(np.interp(at, t, x)), float(np.interp(at, t, arch))
        foot = bridge.y + 0.012
        column = [
            (px - half, bridge.y - rise),
            (px + half, bridge.y - rise),
            (px + half, foot),
            (px - half, foot),
        ]
        if rise > 0.02:
            c.polygon(column, dark)
        top = bridge.y - rise - 0.045
        c.polygon(
            [
                (px - half, top),
                (px + half, top),
                (px + half, bridge.y - rise),
                (px - half, bridge.y - rise),
            ],
            wood,
        )
    band(deck - 0.004, deck + 0.020, dark)
    band(deck - 0.010, deck + 0.006, wood)
    band(deck - 0.052, deck - 0.042, mix(wood, _WHITE, 0.12))


def draw_lighthouse(c: Canvas, tower: Lighthouse, light: int, glowing: bool, p: Palette) -> None:
    """A tapering tower with bands, a gallery and a lamp, whose beam shows at dusk and at night."""
    at = (tower.x, tower.y)
    white = bright((248, 246, 240), p)
    band = bright((206, 60, 52) if tower.red else (52, 86, 150), p)

    def half(y: float) -> float:
        return 0.115 - 0.045 * y

    def ring(low: float, high: float, colour: RGB, wide: float = 1.0) -> None:
        a, b = half(low) * wide, half(high) * wide
        c.polygon(c.at(at, [(-a, low), (a, low), (b, high), (-b, high)], tower.height), colour)
        dark = [
            (-light * a, low),
            (-light * a * 0.2, low),
            (-light * b * 0.2, high),
            (-light * b, high),
        ]
        c.polygon(c.at(at, dark, tower.height), mix(colour, p.shade, 0.26))

    draw_shadow(c, tower.x, tower.y, tower.height * 0.20, light, p)
    ring(0.0, 0.80, white)
    for low in (0.10, 0.38, 0.66):
        ring(low, low + 0.14, band)
    if glowing:
        lamp = c.at(at, [(0, 0.86)], tower.height)[0]
        way = 1 if tower.x < 0.5 else -1
        beam = [
            tuple(lamp),
            (lamp[0] + way * 0.75, lamp[1] - 0.085),
            (lamp[0] + way * 0.75, lamp[1] + 0.045),
        ]
        c.veil(beam, LAMP, 0.20)
    ring(0.80, 0.825, mix(band, p.shade, 0.4), 1.45)
    ring(0.825, 0.90, LAMP if glowing else mix(lit((196, 224, 240), p), p.shade, 0.15), 0.72)
    cap = [(-0.085, 0.90), (0.085, 0.90), (0, 1.0)]
    c.polygon(c.at(at, cap, tower.height), band)


def draw_tuft(c: Canvas, tuft: Tuft, ground: str, light: int, p: Palette) -> None:
    """Blades, a flower on its stem, or a stone."""
    at = (tuft.x, tuft.y)
    if tuft.kind == "stone":
        grey = lit(mix((150, 148, 152), (176, 150, 124), tuft.hue), p)
        outline = [(-0.5, 0), (-0.38, 0.3), (-0.05, 0.44), (0.34, 0.32), (0.5, 0)]
        c.polygon(c.at(at, outline, tuft.size), mix(grey, p.shade, 0.3))
        c.polygon(
            c.at(at, [(0.4 * light, 0.05), (-0.05, 0.44), (0.34 * light, 0.3)], tuft.size), grey
        )
        return
    green = (
        (96, 150, 70)
        if ground == "grass"
        else (190, 160, 96)
        if ground != "autumn"
        else (168, 104, 56)
    )
    blade = mix(lit(green, p), p.shade, 0.10 + 0.25 * tuft.hue)
    if tuft.kind == "flower":
        c.polygon(c.at(at, [(-0.05, 0), (0.05, 0), (0.04, 0.7), (-0.04, 0.7)], tuft.size), blade)
        head = c.at(at, [(0, 0.8)], tuft.size)[0]
        petal = bright(_PETALS[int(tuft.hue * 3.999)], p)
        c.circle((float(head[0]), float(head[1])), 0.26 * tuft.size, petal)
        c.circle((float(head[0]), float(head[1])), 0.10 * tuft.size, mix(petal, p.shade, 0.4))
        return
    tall = 1.5 if tuft.kind == "reed" else 1.0
    for lean, share in ((-0.42, 0.72), (-0.15, 1.0), (0.14, 0.9), (0.40, 0.66)):
        foot, tip = 0.25 * lean, lean
        c.polygon(
            c.at(at, [(foot - 0.07, 0), (foot + 0.07, 0), (tip, share * tall)], tuft.size), blade
        )


def draw_falling(c: Canvas, scene: Scene, p: Palette) -> None:
    """Rain as slanted streaks under a greyer light, or flakes of two sizes."""
    rng = np.random.Generator(np.random.PCG64([_STREAM, scene.seed]))
    if scene.weather == "rain":
        grey = mix(p.sky[1], (110, 120, 140), 0.5)
        whole = np.full((c.h, 1, 1), 0.16, np.float32)
        c.blend(whole, slice(0, c.h), slice(0, c.w), grey)
        drop = mix(p.sky[2], _WHITE, 0.55)
        slant = 0.10 + 0.16 * float(rng.random())
        for _ in range(46):
            x, y, length = (
                rng.uniform(-0.05, 1.0),
                rng.uniform(-0.05, 1.0),
                rng.uniform(0.045, 0.085),
            )
            wide = 0.0030
            dx = slant * length
            streak = [(x, y), (x + wide, y), (x + wide - dx, y + length), (x - dx, y + length)]
            c.veil([(float(a), float(b)) for a, b in streak], drop, 0.55)
        return
    flake = mix(_WHITE, p.sky[2], 0.12)
    for _ in range(52):
        x, y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.0042, 0.0085)
        c.circle((float(x), float(y)), float(radius), flake)
