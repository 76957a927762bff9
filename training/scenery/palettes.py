"""Colours, as RGB in [0, 255]: skies and light by time of day, grounds, rocks, walls."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The light of one moment."""

    sky: tuple[RGB, RGB, RGB]  # top, middle, at the horizon
    tint: RGB  # multiplies the colour of lit things, 255 = unchanged
    shade: RGB  # colour that shadows lean to
    body: RGB
    glow: RGB
    cloud: tuple[RGB, RGB]  # crown, base
    water: RGB


SKIES: dict[str, tuple[Palette, ...]] = {
    "dawn": (
        Palette(
            sky=((142, 168, 214), (236, 190, 196), (255, 228, 190)), tint=(250, 226, 226),
            shade=(112, 110, 158), body=(255, 246, 214), glow=(255, 226, 170),
            cloud=((255, 240, 232), (232, 180, 192)), water=(150, 160, 196),
        ),
        Palette(
            sky=((128, 176, 190), (206, 214, 200), (255, 226, 176)), tint=(246, 232, 210),
            shade=(96, 124, 146), body=(255, 248, 220), glow=(255, 232, 160),
            cloud=((255, 248, 232), (216, 196, 190)), water=(132, 172, 182),
        ),
        Palette(
            sky=((166, 154, 210), (240, 180, 204), (255, 214, 196)), tint=(246, 216, 230),
            shade=(116, 100, 160), body=(255, 238, 214), glow=(255, 206, 180),
            cloud=((255, 232, 236), (222, 168, 200)), water=(164, 150, 198),
        ),
        Palette(
            sky=((176, 196, 222), (248, 216, 204), (255, 196, 168)), tint=(255, 230, 216),
            shade=(124, 124, 160), body=(255, 250, 226), glow=(255, 214, 176),
            cloud=((255, 246, 240), (244, 192, 182)), water=(164, 180, 206),
        ),
    ),
    "day": (
        Palette(
            sky=((46, 124, 208), (112, 182, 236), (206, 234, 248)), tint=(255, 255, 250),
            shade=(44, 84, 130), body=(255, 236, 130), glow=(255, 246, 190),
            cloud=((255, 255, 255), (198, 220, 240)), water=(52, 126, 190),
        ),
        Palette(
            sky=((34, 146, 184), (112, 202, 216), (226, 244, 230)), tint=(255, 255, 244),
            shade=(36, 96, 120), body=(255, 240, 150), glow=(255, 250, 200),
            cloud=((255, 255, 252), (196, 228, 230)), water=(38, 142, 172),
        ),
        Palette(
            sky=((84, 132, 206), (152, 192, 232), (244, 238, 220)), tint=(255, 250, 240),
            shade=(64, 84, 130), body=(255, 228, 120), glow=(255, 240, 190),
            cloud=((255, 252, 246), (210, 214, 232)), water=(72, 128, 188),
        ),
        Palette(
            sky=((64, 156, 224), (144, 210, 242), (232, 246, 250)), tint=(255, 255, 252),
            shade=(50, 92, 140), body=(255, 232, 110), glow=(255, 248, 200),
            cloud=((255, 255, 255), (208, 228, 244)), water=(58, 146, 204),
        ),
    ),
    "sunset": (
        Palette(
            sky=((72, 48, 116), (208, 78, 100), (255, 176, 84)), tint=(246, 176, 150),
            shade=(62, 34, 86), body=(255, 222, 120), glow=(255, 170, 80),
            cloud=((250, 142, 116), (132, 62, 112)), water=(108, 62, 110),
        ),
        Palette(
            sky=((42, 58, 122), (152, 84, 138), (250, 152, 112)), tint=(222, 166, 172),
            shade=(40, 38, 92), body=(255, 204, 140), glow=(255, 150, 110),
            cloud=((240, 140, 140), (96, 66, 124)), water=(76, 70, 128),
        ),
        Palette(
            sky=((122, 36, 66), (232, 92, 58), (255, 204, 92)), tint=(250, 178, 128),
            shade=(82, 26, 62), body=(255, 234, 140), glow=(255, 196, 80),
            cloud=((255, 160, 90), (166, 54, 68)), water=(140, 56, 72),
        ),
        Palette(
            sky=((36, 84, 118), (196, 124, 112), (255, 184, 78)), tint=(236, 182, 150),
            shade=(34, 48, 82), body=(255, 226, 130), glow=(255, 180, 80),
            cloud=((255, 176, 124), (110, 86, 112)), water=(62, 84, 112),
        ),
    ),
    "night": (
        Palette(
            sky=((10, 16, 50), (26, 44, 96), (66, 92, 148)), tint=(98, 116, 168),
            shade=(8, 12, 40), body=(250, 246, 226), glow=(140, 168, 226),
            cloud=((92, 112, 164), (40, 56, 106)), water=(24, 40, 88),
        ),
        Palette(
            sky=((20, 12, 50), (50, 34, 98), (108, 80, 150)), tint=(116, 106, 168),
            shade=(16, 8, 40), body=(255, 242, 224), glow=(178, 150, 222),
            cloud=((112, 94, 164), (58, 42, 106)), water=(42, 30, 86),
        ),
        Palette(
            sky=((6, 26, 48), (14, 62, 88), (52, 118, 134)), tint=(92, 130, 150),
            shade=(4, 18, 36), body=(244, 250, 232), glow=(130, 196, 204),
            cloud=((84, 132, 148), (30, 74, 96)), water=(14, 56, 80),
        ),
        Palette(
            sky=((12, 20, 50), (40, 58, 104), (126, 116, 150)), tint=(112, 116, 160),
            shade=(10, 14, 32), body=(255, 248, 220), glow=(172, 178, 190),
            cloud=((112, 122, 146), (54, 66, 94)), water=(30, 44, 72),
        ),
    ),
}  # fmt: skip

# far edge, near edge, and the nearest rise
GROUNDS: dict[str, tuple[RGB, RGB, RGB]] = {
    "grass": ((150, 192, 96), (104, 164, 74), (72, 136, 66)),
    "sand": ((246, 222, 172), (230, 196, 140), (214, 172, 116)),
    "snow": ((250, 252, 255), (228, 236, 248), (206, 220, 240)),
    "autumn": ((236, 190, 96), (214, 142, 62), (180, 104, 50)),
    "lavender": ((186, 150, 214), (150, 108, 190), (118, 82, 164)),
}
HILLS: dict[str, RGB] = {
    "grass": (96, 156, 92),
    "sand": (214, 176, 122),
    "snow": (214, 226, 242),
    "autumn": (196, 148, 84),
    "lavender": (112, 156, 104),
}
ROCKS: tuple[RGB, ...] = ((134, 140, 160), (156, 130, 118), (118, 126, 136))
SNOW: RGB = (250, 252, 255)
WALLS: dict[str, tuple[RGB, RGB]] = {  # wall, roof
    "red": (( 204, 62, 54), (92, 60, 58)),
    "blue": ((70, 122, 204), (58, 66, 92)),
    "white": ((246, 242, 232), (122, 96, 92)),
    "yellow": ((246, 200, 76), (118, 78, 62)),
}  # fmt: skip
LEAVES: dict[str, RGB] = {
    "pine": (54, 122, 88),
    "oak": (96, 164, 70),
    "autumn": (230, 116, 48),
    "palm": (70, 150, 84),
}
TRUNK: RGB = (122, 84, 58)
LAMP: RGB = (255, 214, 110)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` of b in a; share in [0, 1]."""
    return (
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    )


def lit(colour: RGB, palette: Palette) -> RGB:
    """A surface of this colour in the palette's light."""
    return multiply(colour, palette.tint)


def bright(colour: RGB, palette: Palette) -> RGB:
    """A small surface that keeps more of its own colour, so that it can be told by name."""
    return multiply(colour, mix(palette.tint, (255, 255, 255), 0.45))


def multiply(colour: RGB, tint: RGB) -> RGB:
    """Light of colour `tint` on a surface of this colour."""
    return (colour[0] * tint[0] / 255, colour[1] * tint[1] / 255, colour[2] * tint[2] / 255)
