"""Boundary scalings f(x, t) = c_skip(t) x + c_out(t) F: the identity at the smallest level."""

from __future__ import annotations

from torch import Tensor


def lcm_scalings(
    t: Tensor, *, sigma_data: float = 0.5, timestep_scaling: float = 10.0
) -> tuple[Tensor, Tensor]:
    """(c_skip, c_out) of latent consistency models for integer timesteps `t` `(B,)`.

    c_skip = sd^2 / ((s t)^2 + sd^2), c_out = s t / sqrt((s t)^2 + sd^2), s = timestep_scaling
    (Luo et al. 2023, appendix; diffusers' LCMScheduler). c_out is not the CM paper's, and there is no c_in.
    """
    scaled = t.double() * timestep_scaling
    square = scaled**2 + sigma_data**2
    return sigma_data**2 / square, scaled / square.sqrt()


def cm_scalings(
    sigma: Tensor, *, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> tuple[Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in) of pixel-space consistency models for noise levels `sigma` `(B,)`.

    Song et al. 2023, appendix C: c_skip(sigma_min) = 1 and c_out(sigma_min) = 0 exactly.
    """
    sigma = sigma.double()
    square = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)
    c_out = sigma_data * (sigma - sigma_min) / square.sqrt()
    return c_skip, c_out, 1 / square.sqrt()


def edm_scalings(sigma: Tensor, *, sigma_data: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in) of a Karras denoiser (Karras et al. 2022, table 1), for `sigma` `(B,)`."""
    sigma = sigma.double()
    square = sigma**2 + sigma_data**2
    return sigma_data**2 / square, sigma * sigma_data / square.sqrt(), 1 / square.sqrt()
