"""SciPy's adaptive solvers, answered by asks: the library keeps the algorithm, the caller answers its right-hand side.

A solver of `scipy.integrate` calls its right-hand side and waits, which a generator cannot. So it is run until it
calls for a value that is not known yet, stopped there by an exception, and run again from its last accepted step once
the value is: the values of a step (at most a dozen) are kept, so that it takes the same way again. Nothing but the
solver's own small products is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import RK45, OdeSolver

from lcm_studio.sampling.asks import Ask

Vector: TypeAlias = NDArray[np.float64]


class RightHandSide(Protocol):
    """Asks for dy/dt of several systems at once: `points` are (system, t, y)."""

    def __call__(
        self, points: Sequence[tuple[int, float, Vector]]
    ) -> Generator[Ask, Any, list[Vector]]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """`y` at `t`, which is the end unless the evaluations ran out or no step was small enough. `steps`: accepted ones."""

    t: float
    y: Vector
    evaluations: int
    steps: int
    finished: bool


class _Unknown(Exception):
    """The right-hand side was called for a value that is not known yet."""

    def __init__(self, t: float, y: Vector) -> None:
        super().__init__()
        self.t, self.y = t, y


class Replayed:
    """One solver that waits for its right-hand side instead of calling it.

    `asked` is the point that it waits at, None once it has ended; `answer` sends the value in.
    """

    def __init__(self, make: Callable[[Callable[[float, Vector], Vector]], OdeSolver]) -> None:
        self._make = make
        self._solver: OdeSolver | None = None
        self._known: list[Vector] = []
        self._position = 0
        self.evaluations = 0
        self.steps = 0
        self.asked: tuple[float, Vector] | None = None
        self._go()

    def answer(self, value: Vector) -> None:
        """dy/dt at `asked`."""
        self._known.append(value)
        self.evaluations += 1
        self._go()

    def solution(self, start: float, y0: Vector) -> Solution:
        """Where it is; `start` and `y0` before its first step."""
        s = self._solver
        if s is None:
            return Solution(t=start, y=y0, evaluations=self.evaluations, steps=0, finished=False)
        return Solution(
            t=float(s.t), y=np.asarray(s.y), evaluations=self.evaluations, steps=self.steps,
            finished=s.status == "finished",
        )  # fmt: skip

    def _go(self) -> None:
        """Runs on until a value is missing or the end is reached."""
        self.asked = None
        try:
            while True:
                self._position = 0
                if self._solver is None:
                    self._solver = self._make(self._value)
                else:
                    self._solver.step()
                    self.steps += self._solver.status != "failed"
                self._known.clear()
                if self._solver.status != "running":
                    return
        except _Unknown as missing:
            self.asked = missing.t, missing.y

    def _value(self, t: float, y: Vector) -> Vector:
        if self._position == len(self._known):
            raise _Unknown(float(t), np.array(y))
        self._position += 1
        return self._known[self._position - 1]


def integrate(
    slope: RightHandSide,
    states: Sequence[Vector],
    start: float,
    end: float,
    *,
    tolerance: float,
    most: int,
    solver: type[OdeSolver] = RK45,
) -> Generator[Ask, Any, list[Solution]]:
    """dy/dt = slope from `start` to `end` (either direction) for several independent systems; one Solution for each.

    Each has its own steps, with rtol = atol = `tolerance`, so that its solution does not depend on the others; what
    they wait for at the same time is asked for at once. One that has used `most` evaluations is left where it is.
    """

    def made(y0: Vector) -> Replayed:
        return Replayed(
            lambda fun: solver(fun, start, y0, end, rtol=max(tolerance, 1e-12), atol=tolerance)
        )

    running = [made(np.asarray(y0, np.float64)) for y0 in states]
    while True:
        points = [
            (i, *one.asked)
            for i, one in enumerate(running)
            if one.asked is not None and one.evaluations < most
        ]
        if not points:
            break
        values = yield from slope(points)
        for (i, _, _), value in zip(points, values, strict=True):
            running[i].answer(np.asarray(value, np.float64))
    return [one.solution(start, y0) for one, y0 in zip(running, states, strict=True)]
