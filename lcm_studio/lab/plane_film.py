"""A run on the plane as an animation or a picture: the panels side by side, as on the page."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lcm_studio.lab.plane import Arrived, Moved, System
from lcm_studio.lab.plane_levels import frame_scale
from lcm_studio.lab.plane_mixture import Floats, Mixture
from lcm_studio.spec.samplers import SAMPLERS

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

HALF, SIDE, HEAD, GAP = 1.6, 320, 34, 12
PICTURES, PAUSE, DURATION = (
    48,
    12,
    70,
)  # of an animation: moving pictures, pictures at rest in the end, ms of each
PAPER, SHEET, INK, DENSE = (244, 241, 234), (255, 253, 249), (35, 38, 45), (133, 166, 189)


def gif(mixture: Mixture, systems: tuple[System, ...], events: Iterable[Moved | Arrived]) -> bytes:
    """An endless GIF: all panels on the clock of noise levels."""
    ways = gathered(systems, events)
    pages = [page(mixture, systems, ways, c).quantize(64) for c in np.linspace(0, 1, PICTURES)]
    times = [DURATION] * (PICTURES - 1) + [PAUSE]
    out = io.BytesIO()
    pages[0].save(out, "GIF", save_all=True, append_images=pages[1:], duration=times, loop=0)
    return out.getvalue()


def png(mixture: Mixture, systems: tuple[System, ...], events: Iterable[Moved | Arrived]) -> bytes:
    """The panels where they end."""
    out = io.BytesIO()
    page(mixture, systems, gathered(systems, events), 1.0).save(out, "PNG", optimize=True)
    return out.getvalue()


def gathered(
    systems: tuple[System, ...], events: Iterable[Moved | Arrived]
) -> list[list[tuple[float, float, Floats]]]:
    """(clock, t, particles in the frame) of every panel; Langevin's steps at one level share the time until the next."""
    ways: list[list[tuple[float, float, Floats]]] = [[] for _ in systems]
    for event in events:
        if isinstance(event, Moved):
            frame = event.frame
            ways[event.system].append((event.clock, frame.t, frame.x * frame_scale(frame.t)))
    return [spread(way) for way in ways]


def spread(way: list[tuple[float, float, Floats]]) -> list[tuple[float, float, Floats]]:
    """Frames with the same clock share the time until the next one."""
    clocks = np.array([row[0] for row in way])
    later = [clocks[clocks > c].min(initial=1.0) for c in clocks]
    counts = [(clocks == c).sum() for c in clocks]
    places = [int((clocks[:i] == c).sum()) for i, c in enumerate(clocks)]
    moved = [c + (b - c) * k / n for c, b, k, n in zip(clocks, later, places, counts, strict=True)]
    return [(float(m), t, x) for m, (_, t, x) in zip(moved, way, strict=True)]


def page(
    mixture: Mixture,
    systems: tuple[System, ...],
    ways: list[list[tuple[float, float, Floats]]],
    clock: float,
) -> Image:
    """One picture: every panel at the moment `clock`."""
    from PIL import Image, ImageDraw, ImageFont

    columns = min(2, len(systems)) if len(systems) != 3 else 3
    rows = -(-len(systems) // columns)
    width, height = columns * (SIDE + GAP) + GAP, rows * (SIDE + HEAD + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (system, way) in enumerate(zip(systems, ways, strict=True)):
        x = GAP + index % columns * (SIDE + GAP)
        y = GAP + index // columns * (SIDE + HEAD + GAP)
        now = max(
            (row for row in way if row[0] <= clock + 1e-9), key=lambda r: r[0], default=way[0]
        )
        pen.text((x, y + 7), f"{SAMPLERS[system.sampler].title}, {system.evaluations}", INK, font)
        panel = Image.fromarray(density(mixture, now[1])).resize(
            (2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC
        )
        dots(ImageDraw.Draw(panel), now[2], way[0][2])
        sheet.paste(panel.reduce(2), (x, y + HEAD))  # drawn at twice its size: round dots
    return sheet


def density(mixture: Mixture, t: float) -> Floats:
    """p_t in the frame's coordinates, uint8 `(96, 96, 3)`."""
    axis = np.linspace(-HALF, HALF, 96) / frame_scale(t)
    values = mixture.on_grid(axis, axis, t)[0][::-1]
    share = np.sqrt(values / values.max())[..., None]
    return np.rint(np.array(SHEET) + share * (np.array(DENSE) - np.array(SHEET))).astype(np.uint8)


def dots(pen: ImageDraw, points: Floats, first: Floats) -> None:
    """Particles, each in the colour of where it started."""
    hues = (np.arctan2(first[:, 1], first[:, 0]) / (2 * np.pi)) % 1
    places = (points * [1, -1] / HALF + 1) * SIDE
    for (x, y), hue in zip(places.tolist(), hues.tolist(), strict=True):
        colour = tuple(int(255 * c) for c in colorsys.hls_to_rgb(round(hue * 24) / 24, 0.42, 0.6))
        pen.ellipse((x - 2.4, y - 2.4, x + 2.4, y + 2.4), fill=colour)
