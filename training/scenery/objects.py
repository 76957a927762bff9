"""Things that stand in a landscape: trees, houses, boats and their shadows."""

from __future__ import annotations

import numpy as np

from training.scenery.canvas import Canvas
from training.scenery.palettes import (
    LAMP,
    LEAVES,
    RGB,
    SNOW,
    TRUNK,
    WALLS,
    Palette,
    bright,
    lit,
    mix,
)
from training.scenery.scene import Boat, House, Tree


def draw_shadow(c: Canvas, x: float, y: float, radius: float, light: int, p: Palette) -> None:
    """A soft-edged patch of shade on the ground, away from the light."""
    shift = -light * radius * 0.35 * c.side / c.w
    c.veil(c.ellipse(x + shift, y, radius, radius * 0.24), p.shade, 0.32)


def draw_tree(c: Canvas, tree: Tree, kind: str, ground: str, light: int, p: Palette) -> None:
    """One pine, oak or palm with a lit and a dark side."""
    draw = {"pine": _pine, "oak": _oak, "palm": _palm}[kind]
    leaf = LEAVES["autumn" if kind == "oak" and ground == "autumn" else kind]
    leaf = mix(leaf, (255, 240, 150) if tree.shade > 0 else (20, 60, 90), abs(tree.shade) * 0.13)
    draw_shadow(c, tree.x, tree.y, tree.height * 0.26, light, p)
    draw(c, tree, lit(leaf, p), light, p, ground)


def _pine(c: Canvas, tree: Tree, leaf: RGB, light: int, p: Palette, ground: str) -> None:
    at = (tree.x, tree.y)
    trunk = [(-0.035, -0.01), (0.035, -0.01), (0.03, 0.2), (-0.03, 0.2)]
    c.polygon(c.at(at, trunk, tree.height), lit(mix(TRUNK, p.shade, 0.2), p))
    dark = mix(leaf, p.shade, 0.48)
    for base, top, half in ((0.10, 0.56, 0.25), (0.33, 0.78, 0.20), (0.56, 1.0, 0.145)):
        whole = [(-half, base), (0, base - 0.035), (half, base), (0, top)]
        bright = [(light * half, base), (0.02 * -light, base - 0.035), (0, top)]
        c.polygon(c.at(at, whole, tree.height), dark)
        c.polygon(c.at(at, bright, tree.height), leaf)
        if ground == "snow":
            _pine_snow(c, at, tree.height, base, top, half, light, p)


def _pine_snow(
    c: Canvas, at: tuple[float, float], height: float, base: float, top: float, half: float,
    light: int, p: Palette,
) -> None:  # fmt: skip
    edge = top - 0.48 * (top - base)
    reach = half * 0.48
    cap = [(0, top), (reach, edge), (reach * 0.3, edge + 0.05), (-reach * 0.2, edge - 0.02),
           (-reach, edge)]  # fmt: skip
    snow = lit(SNOW, p)
    c.polygon(c.at(at, cap, height), mix(snow, p.shade, 0.30))
    side = [(0, top), (light * reach, edge), (light * reach * 0.3, edge + 0.05), (0, edge)]
    c.polygon(c.at(at, side, height), snow)


def _oak(c: Canvas, tree: Tree, leaf: RGB, light: int, p: Palette, ground: str) -> None:
    at = (tree.x, tree.y)
    bark = lit(TRUNK, p)
    c.polygon(
        c.at(at, [(-0.05, -0.01), (0.05, -0.01), (0.03, 0.5), (-0.03, 0.5)], tree.height), bark
    )
    lean = 0.05 * tree.lean
    crown = ((-0.17 + lean, 0.50, 0.17), (0.17 + lean, 0.50, 0.17), (lean, 0.70, 0.235),
             (lean * 0.5, 0.48, 0.17))  # fmt: skip
    dark, half = mix(leaf, p.shade, 0.42), mix(leaf, p.shade, 0.12)
    for x, y, r in crown:
        c.circle(tuple(c.at(at, [(x, y)], tree.height)[0]), r * tree.height, dark)
    for x, y, r in crown[:3]:
        spot = c.at(at, [(x + light * 0.05, y + 0.045)], tree.height)[0]
        c.circle(tuple(spot), r * 0.74 * tree.height, half)
    spot = c.at(at, [(lean + light * 0.085, 0.765)], tree.height)[0]
    c.circle(tuple(spot), 0.12 * tree.height, mix(leaf, (255, 244, 190), 0.16))


def _palm(c: Canvas, tree: Tree, leaf: RGB, light: int, p: Palette, ground: str) -> None:
    at = (tree.x, tree.y)
    bend = 0.16 if tree.lean > 0 else -0.16
    t = np.linspace(0, 1, 9)
    x, y, half = bend * t**2, 0.78 * t, 0.042 - 0.02 * t
    trunk = np.concatenate([np.stack([x - half, y], 1), np.stack([x + half, y], 1)[::-1]])
    c.polygon(c.at(at, trunk, tree.height), lit(mix(TRUNK, (220, 180, 130), 0.35), p))
    dark = mix(leaf, p.shade, 0.45)
    top = (bend, 0.78)
    for dx, dy, drop in ((-0.20, 0.20, 0.10), (0.20, 0.20, 0.10), (-0.33, 0.04, 0.16),
                         (0.33, 0.04, 0.16), (-0.25, -0.14, 0.08), (0.25, -0.14, 0.08)):  # fmt: skip
        s = np.linspace(0, 1, 8)
        line_x, line_y = top[0] + dx * s, top[1] + (dy + drop) * s - drop * 1.6 * s**2
        wide = 0.075 * np.sin(np.pi * np.minimum(1, s * 0.94 + 0.06))
        frond = np.concatenate(
            [np.stack([line_x, line_y + wide], 1), np.stack([line_x, line_y - wide], 1)[::-1]]
        )
        c.polygon(c.at(at, frond, tree.height), leaf if dx * light > 0 else dark)
    c.circle(tuple(c.at(at, [top], tree.height)[0]), 0.05 * tree.height, dark)


def draw_house(c: Canvas, house: House, light: int, glowing: bool, p: Palette) -> None:
    """A gabled house seen from a corner; windows glow at dusk and at night."""
    wall, roof = (bright(colour, p) for colour in WALLS[house.colour])
    flip = -1 if house.mirrored else 1
    gable_lit = light * flip < 0
    dim = mix(wall, p.shade, 0.30)
    gable, side = (wall, dim) if gable_lit else (dim, wall)
    at = (house.x, house.y)

    def shape(points: list[tuple[float, float]], colour: RGB) -> None:
        moved = [(flip * (x - 0.5), y) for x, y in points]
        c.polygon(c.at(at, moved, house.width), colour)

    draw_shadow(c, house.x, house.y, house.width * 0.62, light, p)
    shape([(0.74, 0.72), (0.86, 0.72), (0.86, 1.0), (0.74, 1.0)], mix(roof, p.shade, 0.25))
    shape([(0.0, 0.0), (0.44, 0.0), (0.44, 0.5), (0.22, 0.84), (0.0, 0.5)], gable)
    shape([(0.44, 0.0), (1.0, 0.0), (1.0, 0.5), (0.44, 0.5)], side)
    shape([(0.22, 0.9), (0.84, 0.9), (1.07, 0.46), (0.46, 0.46)], roof)
    shape([(0.22, 0.9), (0.22, 0.78), (0.0, 0.44), (-0.06, 0.46)], mix(roof, p.shade, 0.3))
    pane = LAMP if glowing else mix(lit((196, 224, 240), p), p.shade, 0.25)
    shape([(0.13, 0.2), (0.31, 0.2), (0.31, 0.43), (0.13, 0.43)], pane)
    shape([(0.76, 0.18), (0.92, 0.18), (0.92, 0.37), (0.76, 0.37)], pane)
    shape([(0.53, 0.0), (0.68, 0.0), (0.68, 0.34), (0.53, 0.34)], mix(roof, p.shade, 0.35))


def draw_boat(c: Canvas, boat: Boat, light: int, p: Palette) -> None:
    """A sailboat and its pale reflection."""
    flip = -1 if boat.mirrored else 1
    at = (boat.x, boat.y)
    sail, hull = bright((255, 250, 240), p), bright((176, 74, 58), p)
    main = [(0.03 * flip, 0.16), (0.36 * flip, 0.16), (0.03 * flip, 1.0)]
    jib = [(-0.03 * flip, 0.16), (-0.28 * flip, 0.16), (-0.03 * flip, 0.82)]
    body = [(-0.36 * flip, 0.12), (0.42 * flip, 0.12), (0.27 * flip, -0.04), (-0.24 * flip, -0.04)]
    for outline in (main, jib):
        mirrored = [(x, -0.04 - 0.55 * y) for x, y in outline]
        c.veil(c.at(at, mirrored, boat.height), sail, 0.28)
    c.polygon(c.at(at, main, boat.height), sail if flip * light > 0 else mix(sail, p.shade, 0.18))
    c.polygon(c.at(at, jib, boat.height), mix(sail, p.shade, 0.18) if flip * light > 0 else sail)
    c.polygon(c.at(at, body, boat.height), hull)
