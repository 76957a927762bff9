"""Timestep and noise-level grids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lcm_studio.spec.errors import BadRequest


def lcm_origin_timesteps(original_steps: int, train_timesteps: int = 1000) -> list[int]:
    """The grid that an LCM was distilled on, ascending: k i - 1 with k = T // original_steps.

    Raises BadRequest if the grid would have no spacing.
    """
    k = train_timesteps // original_steps if original_steps > 0 else 0
    if k < 1:
        raise BadRequest(
            f"original_inference_steps={original_steps} does not fit {train_timesteps} training "
            f"timesteps; use 1 to {train_timesteps}"
        )
    return [k * i - 1 for i in range(1, original_steps + 1)]


def lcm_timesteps(
    steps: int, original_steps: int = 50, train_timesteps: int = 1000, *, shift: float = 1.0
) -> list[int]:
    """`steps` timesteps in falling order, as diffusers' LCMScheduler picks them.

    A linspace of indices into the reversed origin grid, endpoint excluded, rounded down. `shift` above 1 moves the
    later steps to more noise: u = shift u / (1 + (shift - 1) u) of the noise range (Esser et al. 2024, eq. 23).
    Raises BadRequest where there are fewer levels than steps.
    """
    origin = lcm_origin_timesteps(original_steps, train_timesteps)[::-1]
    if not 1 <= steps <= len(origin):
        raise BadRequest(
            f"steps={steps} is outside the model's grid of {len(origin)} levels; "
            f"use 1 to {len(origin)}"
        )
    place = np.linspace(0, len(origin), num=steps, endpoint=False)
    if shift != 1:
        u = 1 - place / len(origin)
        place = len(origin) * (1 - shift * u / (1 + (shift - 1) * u))
    index = np.floor(place + (shift != 1) * 1e-9).astype(np.int64)
    for k in range(1, steps):  # two that meet are spread where there is room
        index[k] = max(index[k], index[k - 1] + 1)
    room = len(origin) - steps + np.arange(steps)
    return [origin[i] for i in np.minimum(index, room)]


def karras_sigmas(
    count: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Noise levels sigma_0 = sigma_max down to sigma_{count-1} = sigma_min, float64 `(count,)`.

    Karras et al. 2022, eq. 5; Song et al. 2023, section 6.1 (which counts upwards).
    """
    if count == 1:
        return torch.tensor([sigma_max], dtype=torch.float64)
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas: Tensor = (high + ramp * (low - high)) ** rho
    return sigmas


def cm_timesteps(steps: int, levels: int) -> list[int]:
    """`steps` indices into the Karras grid of `levels`, spread evenly from its top, the last level excluded.

    Mirrors how diffusers' CMStochasticIterativeScheduler spaces them when no list is given.
    """
    if not 1 <= steps <= levels:
        raise BadRequest(
            f"steps={steps} exceeds the model's {levels}-level grid; use 1 to {levels}"
        )
    ratio = levels // steps
    return [int(i) for i in (np.arange(steps) * ratio).round()[::-1].astype(np.int64)]


def ddim_timesteps(
    steps: int, train_timesteps: int = 1000, *, spacing: str = "leading", offset: int = 0
) -> list[int]:
    """`steps` timesteps in falling order, as diffusers' DDIMScheduler spaces them.

    Raises BadRequest for more steps than levels. An unknown `spacing` counts as "leading".
    """
    if not 1 <= steps <= train_timesteps:
        raise BadRequest(
            f"steps={steps} exceeds the model's {train_timesteps}-level grid; use 1 to {train_timesteps}"
        )
    if spacing == "trailing":
        levels = np.round(np.arange(train_timesteps, 0, -train_timesteps / steps)) - 1
    elif spacing == "linspace":
        levels = np.linspace(0, train_timesteps - 1, steps).round()[::-1]
    else:
        levels = (np.arange(steps) * (train_timesteps // steps))[::-1] + offset
    return [min(int(level), train_timesteps - 1) for level in levels]
