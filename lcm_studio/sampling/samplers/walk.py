"""What every sampler walks with: the model's schedule and conditioning, and one way to ask for a clean estimate.

Samples are held in VE scale, x = x_t / alpha_t, where a level is its noise sigma = sigma_t / alpha_t and the
probability-flow ODE is dx/dsigma = (x - D(x; sigma)) / sigma for every family of models (Karras et al. 2022, eq. 4).
The VP SDE is the VE SDE in this scale, and DDIM is Euler's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from lcm_studio.models.protocol import Cond, Schedule
from lcm_studio.sampling.asks import Estimate, Predict
from lcm_studio.sampling.loop import Noise, Steps


@dataclass(kw_only=True, eq=False)
class Walk:
    """One batch on its way. `settings` are all those of its sampler; `evaluations` is what progress counts up to.

    `early`: the conditioning instead of `cond` at the levels from `guided_below` up, where guidance does not act yet.
    `together`: an adaptive solver takes one step size for the whole batch, and not one for each sample: for clouds of
    points, of which thousands are moved at once.
    """

    schedule: Schedule
    cond: Cond
    noise: Noise
    early: Cond | None = None
    guided_below: float = math.inf
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluations: int = 1
    together: bool = False
    done: int = 0
    warnings: list[str] = field(default_factory=list)

    def alpha_sigma(self, level: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of `level`, each broadcasting on `like` `(B, ...)`."""
        return self.schedule.alpha_sigma(self.schedule.level_tensor(level, len(like)), like)

    def sigma(self, level: float, like: Tensor) -> Tensor:
        """sigma/alpha of `level`, noise per unit of signal, broadcasting on `like`."""
        alpha, sigma = self.alpha_sigma(level, like)
        return sigma / alpha

    def denoise(self, x: Tensor, level: float) -> Steps:
        """D(x; sigma) = E[x_0 | x] of `x` `(B, ...)` in VE scale at `level`."""
        t = self.schedule.level_tensor(level, len(x))
        alpha, _ = self.schedule.alpha_sigma(t, x)
        return (yield from self.predict(alpha * x, t, self.cond_at(level)))

    def denoise_rows(self, x: Tensor, sigma: Tensor, rows: Sequence[int]) -> Steps:
        """D for `x` `(R, ...)` in VE scale, each row at its own `sigma` `(R,)`; `rows` are theirs in the batch."""
        t = self.schedule.levels_at(sigma)
        alpha, _ = self.schedule.alpha_sigma(t, x)
        conds = [
            self.cond_at(level).rows(i, i + 1) for level, i in zip(t.tolist(), rows, strict=True)
        ]
        groups = list(dict.fromkeys(cond.group for cond in conds))
        if len(groups) == 1:
            return (yield from self.predict(alpha * x, t, Cond.join(conds)))
        found = torch.empty_like(x)
        for group in groups:  # they cannot share a call
            mine = [k for k, cond in enumerate(conds) if cond.group == group]
            cond = Cond.join([conds[k] for k in mine])
            found[mine] = yield from self.predict((alpha * x)[mine], t[mine], cond)
        return found

    def cond_at(self, level: float) -> Cond:
        """The conditioning at a level."""
        return self.cond if self.early is None or level < self.guided_below else self.early

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Steps:
        """The clean estimate of `x_t`; tells the progress."""
        x0_hat: Tensor = yield Predict(x_t, t, cond)
        self.done += 1
        yield Estimate(min(self.done, self.evaluations), self.evaluations, x0_hat)
        return x0_hat


class Sampler(Protocol):
    """Brings `x` `(B, ...)`, in VE scale, from `levels[0]` to `levels[-1]`."""

    def __call__(self, walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps: ...


def slope(x: Tensor, x0_hat: Tensor, sigma: Tensor) -> Tensor:
    """dx/dsigma = (x - D) / sigma = -sigma score."""
    return (x - x0_hat) / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)
