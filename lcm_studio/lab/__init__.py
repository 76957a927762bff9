"""The Lab: score, SDE, ODE and consistency side by side. Importing it does not import torch."""

from __future__ import annotations

from lcm_studio.lab.compare import compare
from lcm_studio.lab.film import film
from lcm_studio.lab.invert import invert
from lcm_studio.lab.trace import trace

__all__ = ["compare", "film", "invert", "trace"]
