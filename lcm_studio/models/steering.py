"""The ControlNet and the IP-Adapter that a latent model's calls follow: loaded once each, switched by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from lcm_studio.models.ip_adapter import IPAdapter
from lcm_studio.models.protocol import Prompt
from lcm_studio.spec.errors import ModelError

KEPT = 2  # of each, in memory at once

Key = TypeVar("Key", bound=Hashable)


class Kept(Generic[Key]):
    """What `load` makes of a key, made once; the last `KEPT` stay."""

    def __init__(self, load: Callable[[Key], Any]) -> None:
        self._load = load
        self._values: OrderedDict[Key, Any] = OrderedDict()

    def __call__(self, key: Key) -> Any:
        if key not in self._values:
            self._values[key] = self._load(key)
            while len(self._values) > KEPT:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]


class Steering:
    """`load_control`: of a ControlNet's folder. `load_adapter`: of an IP-Adapter's file and its encoder's folder."""

    def __init__(
        self,
        unet: Any,
        name: str,
        load_control: Callable[[str], Any] | None = None,
        load_adapter: Callable[[tuple[str, str]], IPAdapter] | None = None,
    ) -> None:
        self._unet, self._name = unet, name
        self._controls = None if load_control is None else Kept(load_control)
        self._adapters = None if load_adapter is None else Kept(load_adapter)
        self._control: Any = None
        self._adapter: IPAdapter | None = None

    def use(self, control: str, ip_adapter: tuple[str, str] | None) -> None:
        """Switches to a ControlNet's folder and an adapter's (file, encoder's folder). Raises ModelError where one does not fit."""
        self._control = self._controlnet(control) if control else None
        self._adapter = None
        if ip_adapter is not None:
            if self._adapters is None:
                raise ModelError(f"{self._name} takes no IP-Adapter; leave ip_adapter out")
            self._adapter = self._adapters(ip_adapter)

    def _controlnet(self, folder: str) -> Any:
        if self._controls is None:
            raise ModelError(f"{self._name} takes no ControlNet; leave control out")
        network = self._controls(folder)
        width = self._unet.config.cross_attention_dim
        if network.config.cross_attention_dim != width:
            raise ModelError(
                f"{Path(folder).name} wants text features of width {network.config.cross_attention_dim}, and "
                f"{self._name} has {width}; use a ControlNet for this kind of model"
            )
        return network

    def features(self, prompt: Prompt, *, guided: bool) -> dict[str, Tensor]:
        """The tensors by which a row of conditioning holds the prompt's picture."""
        if prompt.image is None or self._adapter is None:
            return {}
        picture, without = self._adapter.features(prompt.image.pixels)
        strength = picture.new_tensor([prompt.image.strength]).float()
        tensors = {"ip_features": picture, "ip_scale": strength}
        return tensors | ({"ip_uncond": without} if guided else {})

    def adapted(self, strength: Tensor | None) -> AbstractContextManager[None]:
        """The UNet with the adapter in it, at a strength of each row; as it is where that is None."""
        if strength is None or self._adapter is None:
            return nullcontext()
        return self._adapter.installed(self._unet, strength)

    def residuals(
        self, x: Tensor, t: Tensor, hidden: Tensor, added: Any, image: Tensor, scale: Tensor
    ) -> dict[str, Any]:
        """What the ControlNet adds to the UNet's features, each row by its own strength (Zhang et al. 2023)."""
        down, middle = self._control(
            x, t, encoder_hidden_states=hidden, controlnet_cond=image, added_cond_kwargs=added,
            return_dict=False,
        )  # fmt: skip
        rows = scale.reshape(-1, 1, 1, 1)
        return {
            "down_block_additional_residuals": [one * rows for one in down],
            "mid_block_additional_residual": middle * rows,
        }
