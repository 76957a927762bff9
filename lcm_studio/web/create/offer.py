"""What there is to choose from for a model: words, ControlNets, IP-Adapters, other models. No Gradio here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import LoraSpec
from lcm_studio.web.create.examples import examples
from lcm_studio.web.studio import Studio

FAMILIES = {
    "lcm": "Stable Diffusion",
    "sd": "Stable Diffusion",
    "sdxl": "Stable Diffusion XL",
    "cm": "pixels",
    "sana": "SANA",
    "flux": "FLUX.1",
    "sd3": "Stable Diffusion 3",
    "z-image": "Z-Image",
}


def row(info: ModelInfo) -> dict[str, str]:
    """A model in the list of models: its kind, its size and its licence."""
    size = f"{info.bytes / 2**30:.1f} GB" if info.bytes >= 2**30 else f"{info.bytes / 2**20:.0f} MB"
    facts = (
        info.title or FAMILIES[info.kind],
        FAMILIES[info.kind] if info.title else "",
        f"{info.width} x {info.height}",
        size if info.bytes else "",
    )
    licence = info.licence or "the model's own"
    return {
        "id": info.id,
        "name": info.name or info.id,
        "facts": " · ".join(fact for fact in facts if fact),
        "licence": licence,
    }


@dataclass(frozen=True)
class Offer:
    """What the studio's folders hold for a model: words of textual inversions, ControlNets, IP-Adapters. `free_paths`: others by path.

    `triggers`: words that the chosen LoRAs were trained with. `models`: rows of the list of models. `folder`: where models lie that are
    added, for pages of this machine alone.
    """

    words: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    ip_adapters: tuple[str, ...] = ()
    models: tuple[Mapping[str, str], ...] = ()
    free_paths: bool = False
    folder: str = ""


NOTHING = Offer()


def offer_of(studio: Studio, model: str, loras: tuple[LoraSpec, ...] = ()) -> Offer:
    """What fits the model; nothing where that cannot be told (the page says why elsewhere)."""
    base = Offer(
        triggers=studio.loras.triggers(loras),
        free_paths=studio.options.free_paths,
        folder=str(studio.models_folder or "") if studio.options.local else "",
    )
    try:
        engine = studio.engine
        base = replace(base, models=tuple(map(row, engine.catalog())))
        return replace(
            base,
            words=engine.embeddings(model),
            controls=engine.controls(model),
            ip_adapters=engine.ip_adapters(model),
        )
    except StudioError:
        return base


def chips(info: ModelInfo, offer: Offer) -> dict[str, Any]:
    """The model's vocabulary, the words of textual inversions that fit it, and those of the chosen LoRAs."""
    more = (("textual inversions", offer.words), ("words of the LoRAs", offer.triggers))
    groups = (*info.vocabulary, *((name, words) for name, words in more if words))
    return {
        "groups": [[name, list(phrases)] for name, phrases in groups],
        "examples": examples(info),
    }


def listed(info: ModelInfo, offer: Offer) -> dict[str, Any]:
    """The value of the list of models: those of the studio's folders, and the chosen one where it lies elsewhere."""
    rows = list(offer.models)
    if rows and info.path and all(one["id"] != info.id for one in rows):
        rows.insert(0, row(info))
    return {"rows": rows, "current": info.id}
