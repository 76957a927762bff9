"""Latents <-> pixels: AutoencoderKL, AutoencoderTiny, and swapping one in for decoding."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lcm_studio.device import Placement
from lcm_studio.models.backends import Backend, Runner
from lcm_studio.models.backends.call import Function
from lcm_studio.models.catalog import vae_factor
from lcm_studio.spec.errors import ModelError

log = logging.getLogger(__name__)


class LatentCodec:
    """The autoencoder of a latent model. `load` brings another one in by name or path."""

    def __init__(
        self,
        vae: Any,
        placement: Placement,
        load: Callable[[str], Any],
        backend: Backend | None = None,
    ) -> None:
        self.vae = vae
        self.placement = placement
        self.backend = backend
        self.factor = vae_factor(vae.config)
        self._load = load
        self._decoders: dict[str, Any] = {"default": vae}
        self._runners: dict[str, Runner] = {}
        self._current = "default"

    @property
    def reach(self) -> int | None:
        """How many cells away a pixel of the model's own decoder sees, but for a level or so; None where it sees all.

        Attention and group norm see all. Measured with the bundled autoencoders: what lies further moves no pixel by three
        levels of 255.
        """
        name = type(self.vae).__name__
        if name == "AutoencoderTiny":
            return 2
        if name == "AutoencoderDC":
            blocks = self.vae.config.decoder_block_types
            norms = self.vae.config.decoder_norm_types
            kinds = {blocks} if isinstance(blocks, str) else set(blocks)
            normed = {norms} if isinstance(norms, str) else set(norms)
            return 4 if kinds == {"ResBlock"} and normed == {"rms_norm"} else None
        return None

    def use(self, name: str) -> None:
        """Decodes with `name` from now on. Raises ModelError where it does not fit the latents."""
        if name not in self._decoders:
            other = self._load(name)
            mine, its = self.vae.config.latent_channels, other.config.latent_channels
            if mine != its or vae_factor(other.config) != self.factor:
                raise ModelError(
                    f"decoder={name!r} has {its} latent channels at 1/{vae_factor(other.config)} "
                    f"of the size, this model {mine} at 1/{self.factor}; choose a fitting decoder"
                )
            self._decoders[name] = other
        self._current = name

    def offer(self, name: str) -> bool:
        """Whether `name` can be used from now on; it is then in memory. What is in use stays."""
        current = self._current
        try:
            self.use(name)
        except ModelError as error:
            log.info("decoder %s: %s", name, error)
            return False
        finally:
            self._current = current
        return True

    def decode(self, latents: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` of scaled latents, nominally in [-1, 1], float32."""
        vae = self._decoders[self._current]
        z = self._unscale(latents, vae)
        upcast = _upcast(vae)
        if upcast:
            vae.to(torch.float32)
        z = z.to(vae.dtype)
        if self.placement.channels_last:
            z = z.contiguous(memory_format=torch.channels_last)
        images = self._runner(f"decoder {self._current}", vae, decoded)(z).float()
        if upcast:
            vae.to(torch.float16)
        return images

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents of images `(B, 3, H, W)` in [-1, 1]: the posterior's mean, float32."""
        vae = self.vae
        upcast = _upcast(vae)
        if upcast:
            vae.to(torch.float32)
        encode = self._runner("the encoder", vae, encoded)
        z = encode(images.to(self.placement.device, vae.dtype))
        if upcast:
            vae.to(torch.float16)
        return self._scale(z.float(), vae)

    def _runner(self, name: str, vae: Any, function: Function) -> Runner:
        if name not in self._runners:
            # weights that change their precision between calls are none that a backend could take in
            backend = None if _upcast(vae) else self.backend
            self._runners[name] = Runner(vae, function, name, backend=backend)
        return self._runners[name]

    @staticmethod
    def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor] | None:
        mean = getattr(vae.config, "latents_mean", None)
        std = getattr(vae.config, "latents_std", None)
        if mean is None or std is None:
            return None
        shape = (1, -1, 1, 1)
        return (
            torch.tensor(mean, dtype=like.dtype, device=like.device).reshape(shape),
            torch.tensor(std, dtype=like.dtype, device=like.device).reshape(shape),
        )

    def _unscale(self, latents: Tensor, vae: Any) -> Tensor:
        statistics = self._statistics(vae, latents)
        if statistics is not None:
            unscaled: Tensor = latents * statistics[1] / vae.config.scaling_factor + statistics[0]
            return unscaled
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        unshifted: Tensor = latents / vae.config.scaling_factor + shift
        return unshifted

    def _scale(self, z: Tensor, vae: Any) -> Tensor:
        statistics = self._statistics(vae, z)
        if statistics is not None:
            scaled: Tensor = (z - statistics[0]) * vae.config.scaling_factor / statistics[1]
            return scaled
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        shifted: Tensor = (z - shift) * vae.config.scaling_factor
        return shifted


def decoded(vae: Any, z: Tensor) -> Tensor:
    """Images of unscaled latents."""
    images: Tensor = vae.decode(z, return_dict=False)[0]
    return images


def encoded(vae: Any, images: Tensor) -> Tensor:
    """Unscaled latents: the posterior's mean, where there is a posterior."""
    out = vae.encode(images)
    z: Tensor | None = next((out[name] for name in ("latents", "latent") if name in out), None)
    return out.latent_dist.mode() if z is None else z  # type: ignore[no-any-return]


def _upcast(vae: Any) -> bool:
    return vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
