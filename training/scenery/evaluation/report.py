"""The evaluation as a markdown table and as a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SHEET_ROWS = ("LCM-1", "LCM-2", "LCM-4", "LCM-8", "DDIM-2", "DDIM-4", "DDIM-50", "real scenes")
_RATIOS = (("LCM-1", "DDIM-2"), ("LCM-2", "DDIM-8"), ("LCM-4", "DPM++-8"))


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Quotients of Frechet distances that say how many steps distillation saves."""
    distance = {row["name"]: row["frechet"] for row in rows}
    steps = [name for name in distance if name.startswith("LCM-")]
    pairs = [*_RATIOS, *((name, "DDIM-50") for name in steps)]
    return {
        f"{top} / {bottom}": distance[top] / distance[bottom]
        for top, bottom in pairs
        if top in distance and distance.get(bottom, 0) > 0
    }


def markdown(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The table with its ratios and how to read it."""
    lines = [
        "| pictures | evaluations | Frechet distance | agreement | fine detail | grain | diversity | s / picture |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['evaluations']} | {row['frechet']:.2f} "
            f"| {row['agreement']:.1%} | {row['detail']:.2f} | {row['grain']:.3f} | {row['diversity']:.2f} "
            f"| {row['seconds_per_picture']:.3f} |"
        )
    found = ratios(rows)
    if found:
        lines += ["", "| Frechet distance, ratio | |", "|---|--:|"]
        lines += [f"| {name} | {value:.2f} |" for name, value in found.items()]
    for name, values in about.get("autoencoder", {}).items():
        lines += ["", f"Autoencoder, {name}: {values:.2f}."]
    lines += [
        "",
        f"{about['count']} held-out captions, guidance scale {about['guidance']:g}, "
        f"{about['spacing']} timesteps for the teacher's samplers. Features of a network trained "
        f"on rendered scenes, compared with {about['reference']} other real ones; the distance of "
        "real scenes, the first row, is the floor that sampling error leaves. Agreement is the share of a caption's attributes "
        "that the network finds in the picture, of those it knows. Fine detail is the mean power of the luma at 24 to 60 cycles a "
        "picture, at 128 pixels, over that of the captions' own scenes. Grain is the estimated noise, picture range 1.",
    ]
    return "\n".join(lines) + "\n"


def contact_sheet(samples: Mapping[str, np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Rows of pictures (M, H, W, 3) uint8 by name, with names at the left and captions above."""
    from PIL import Image, ImageDraw

    names = [name for name in SHEET_ROWS if name in samples] or list(samples)
    side = samples[names[0]].shape[1]
    columns = min(len(samples[name]) for name in names)
    margin, head, gap = 76, 60, 4
    size = (margin + columns * (side + gap), head + len(names) * (side + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for j in range(columns):
        place = (margin + j * (side + gap), 2)
        draw.multiline_text(place, _wrapped(captions[j], side // 6, 4), "black", spacing=1)
    for i, name in enumerate(names):
        top = head + i * (side + gap)
        draw.text((6, top + side // 2 - 6), name, "black")
        for j in range(columns):
            sheet.paste(Image.fromarray(samples[name][j]), (margin + j * (side + gap), top))
    return np.asarray(sheet)


def _wrapped(text: str, width: int, lines: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, max(8, width), max_lines=lines, placeholder=" ..."))
