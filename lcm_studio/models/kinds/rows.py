"""Rows of the table of kinds, by name, by model and by family."""

from __future__ import annotations

from lcm_studio.models.kinds.kind import Kind
from lcm_studio.models.kinds.table import KINDS
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo

_BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of(name: str) -> Kind:
    """The row of a name. Raises BadRequest for an unknown one, listing them."""
    if name not in _BY_NAME:
        raise BadRequest(f"kind={name!r} is unknown; use auto, {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def row_of(info: ModelInfo) -> Kind:
    """The row by which a model is sampled; where it names none, that of its network."""
    if info.sampling:
        return kind_of(info.sampling)
    if info.kind == "lcm" or (info.kind == "sdxl" and info.guidance == "embedded"):
        return _BY_NAME["lcm"]
    if info.kind in ("sd", "sdxl"):
        return _BY_NAME["lcm-lora" if info.consistency else "plain"]
    return next(kind for kind in KINDS if info.kind in kind.families)


def kinds_for(family: str, carrier: str | None = None) -> tuple[Kind, ...]:
    """The rows that a network of that family may be, or that a LoRA may make of it."""
    return tuple(
        kind
        for kind in KINDS
        if family in kind.families and (carrier is None or carrier in kind.carriers)
    )
