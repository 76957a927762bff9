"""Requests in, events out: loaded models, one lane per model, validation. Importing it does not import torch."""

from __future__ import annotations

from lcm_studio.engine.config import EngineConfig
from lcm_studio.engine.engine import Engine

__all__ = ["Engine", "EngineConfig"]
