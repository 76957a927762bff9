"""LCM Studio: a workbench for consistency models.

import lcm_studio
studio = lcm_studio.Studio()
studio.generate("sunset, snowy mountains, lake", steps=4, seed=7)[0].save("lake.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcm_studio.api import Picture, Studio
    from lcm_studio.engine import Engine, EngineConfig
    from lcm_studio.spec.requests import Edit, Generate, LoraSpec

__version__ = "0.1.0"

_LAZY = {
    "Studio": "lcm_studio.api",
    "Picture": "lcm_studio.api",
    "Engine": "lcm_studio.engine",
    "EngineConfig": "lcm_studio.engine",
    "Generate": "lcm_studio.spec.requests",
    "Edit": "lcm_studio.spec.requests",
    "LoraSpec": "lcm_studio.spec.requests",
}
__all__ = ["Edit", "Engine", "EngineConfig", "Generate", "LoraSpec", "Picture", "Studio"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'lcm_studio' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
