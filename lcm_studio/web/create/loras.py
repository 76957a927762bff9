"""Files that are handed over in Create: LoRAs with the words they were trained with, and textual inversions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lcm_studio.spec.requests import LoraSpec
from lcm_studio.web import parts, views
from lcm_studio.web.create import controls as create_form
from lcm_studio.web.create import offer as offers
from lcm_studio.web.create import values as form
from lcm_studio.web.create.controls import TAB, Controls
from lcm_studio.web.studio import Studio


def wire(studio: Studio, c: Controls) -> None:
    """An uploaded LoRA takes the first free row, at its own weight; a textual inversion a line of its own."""
    rows = [c[f"lora{i}"] for i in range(form.LORA_ROWS)]
    note = c["note"]

    def words(model: Any, paths: Iterable[str]) -> dict[str, Any]:
        loras = tuple(LoraSpec(path=path) for path in paths if path)
        info = create_form.known(studio, model)
        return offers.chips(info, offers.offer_of(studio, info.id, loras))

    def take(data: Any, model: Any, lines: str | None, *named: str | None) -> dict[Any, Any]:
        name = str(data.get("name", "")) if isinstance(data, Mapping) else ""
        if name and data.get("word"):
            listed = [line for line in (lines or "").split("\n") if line.strip()]
            text = f"{data.get('title')} is listed under Textual inversions: write {data['word']} in the prompt."
            return {
                c["embeddings"]: "\n".join(dict.fromkeys([*listed, name])),
                note: views.note(text, "info"),
            }
        taken = [text or "" for text in named]
        if name in taken:
            return {note: views.note("This LoRA is listed already.", "info")}
        if not name or "" not in taken:
            text = f"All {len(rows)} rows are taken; empty one and choose the file again."
            return {note: views.note(text)}
        row = taken.index("")
        text = f"{data.get('title')} is LoRA {row + 1}; {data.get('layers')} layers."
        if data.get("triggers"):
            text += f" It was trained with: {', '.join(map(str, data['triggers']))}."
        return {
            rows[row]: name,
            note: views.note(text, "info"),
            c["chips"]: words(model, (*taken, name)),
        }

    parts.on_channel(
        f"lora-{TAB}",
        take,
        inputs=[c["model"], c["embeddings"], *rows],
        outputs=[*rows, c["embeddings"], c["chips"], note],
    )
