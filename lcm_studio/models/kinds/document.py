"""docs/guide/kinds.md from the table of kinds: `python -m lcm_studio.models.kinds.document > docs/guide/kinds.md`."""

from __future__ import annotations

from lcm_studio.models.kinds.kind import Kind
from lcm_studio.models.kinds.table import KINDS

FAMILIES = {
    "lcm": "Stable Diffusion with a guidance embedding",
    "sd": "Stable Diffusion 1.x, 2.x",
    "sdxl": "SDXL",
    "cm": "pixels",
    "sana": "SANA",
    "flux": "FLUX.1",
    "sd3": "Stable Diffusion 3",
    "z-image": "Z-Image",
}
TOP = """# Kinds of models

<!-- made from lcm_studio/models/kinds/table.py by `python -m lcm_studio.models.kinds.document`; do not edit -->

Hand the studio a folder, a single `.safetensors` file or a LoRA. It looks, in this order, at what you said of the file before
(`--model-kind`, Kind in the page), at what it holds (keys, shapes, a guidance embedding, the folder's scheduler), at what its
metadata say, and at its name. A LoRA that was made for few steps and says nowhere of which kind is asked for once; the answer
is kept by the file's contents, so that another name does not lose it. `python -m lcm_studio models FILE` says what it is taken
for, and why.

Each kind gives the picture of stock diffusers at the same seed, with the scheduler and settings of its card (last column).
Every zero-shot edit, Compare, Live and LoRAs work on every kind.

| kind | name | in | as | steps | guidance | negative prompt | eta | stock diffusers | licence |
|---|---|---|---|---|---|---|---|---|---|
"""


def table() -> str:
    """The whole document."""
    return TOP + "".join(f"{_row(kind)}\n" for kind in KINDS)


def _row(kind: Kind) -> str:
    guidance = {
        "none": "built in",
        "embedded": f"{kind.guidance_default:g}, an input of the network",
        "cfg": f"{kind.guidance_default:g}, two evaluations above 1",
    }[kind.guidance]
    steps = " or ".join(map(str, sorted(kind.levels))) if kind.levels else f"1 to {kind.most}"
    cells = (
        kind.title,
        f"`{kind.name}`",
        ", ".join(FAMILIES[family] for family in kind.families),
        " or ".join({"model": "model", "lora": "LoRA"}[carrier] for carrier in kind.carriers),
        f"{kind.steps} ({steps})" if kind.most > 1 else "1",
        guidance,
        "yes" if kind.negative else "no",
        "" if kind.eta is None else f"{kind.eta:g}",
        kind.stock,
        kind.licence or "the model's own",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(table(), end="")
