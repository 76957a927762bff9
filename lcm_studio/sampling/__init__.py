"""The one sampling loop: a generator that asks for network evaluations, and per-image seeded noise."""

from __future__ import annotations

from lcm_studio.sampling.asks import (
    Ask,
    Check,
    Compute,
    Decode,
    Embed,
    Encode,
    Estimate,
    Finished,
    Predict,
    Report,
)
from lcm_studio.sampling.drive import answer, drive
from lcm_studio.sampling.loop import Noise, Refine, Steps, multistep
from lcm_studio.sampling.noise import SeededNoise
from lcm_studio.sampling.plan import Plan, by_seed, kind_way, plan
from lcm_studio.sampling.recorded import Point, recorded
from lcm_studio.sampling.samplers import grid_for, steps_of
from lcm_studio.sampling.ways import Ancestral, Ode, Tcd, Way, way_of

__all__ = [
    "Ancestral",
    "Ask",
    "Check",
    "Compute",
    "Decode",
    "Embed",
    "Encode",
    "Estimate",
    "Finished",
    "Noise",
    "Ode",
    "Plan",
    "Point",
    "Predict",
    "Refine",
    "Report",
    "SeededNoise",
    "Steps",
    "Tcd",
    "Way",
    "answer",
    "by_seed",
    "drive",
    "grid_for",
    "kind_way",
    "multistep",
    "plan",
    "recorded",
    "steps_of",
    "way_of",
]
