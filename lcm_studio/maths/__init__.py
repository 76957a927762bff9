"""Schedules, parameterizations, boundary scalings, grids and solvers of consistency models.

Pure functions on tensors: no network, no device choice, no global state. `docs/method/maths.md` maps each to its equation.
"""
