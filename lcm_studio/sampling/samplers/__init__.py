"""Samplers that follow the score: Langevin dynamics, the reverse SDE, the probability-flow ODE.

One file per family. Each is a function (walk, x, levels) that asks for clean estimates and brings `x` from the first
level to the last; `solve` puts the ends around it. `spec.samplers` has their names, settings and sources.
"""

from __future__ import annotations

from lcm_studio.sampling.samplers.grids import grid_for
from lcm_studio.sampling.samplers.run import solve, steps_of
from lcm_studio.sampling.samplers.walk import Walk

__all__ = ["Walk", "grid_for", "solve", "steps_of"]
