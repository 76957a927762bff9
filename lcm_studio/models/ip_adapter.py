"""IP-Adapters (Ye et al. 2023, arXiv 2308.06721): a picture as part of the prompt, by diffusers' own classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lcm_studio.device import Placement
from lcm_studio.models.files import one_sentence
from lcm_studio.models.ip_adapter_file import PARTS, AdapterFacts, encoder_config, facts_of
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.settings import fingerprint

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

KEPT_PICTURES = 16  # whose features stay


class RowScale:
    """The strength of each row where diffusers' attention processors expect one number for all."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows.reshape(-1, 1, 1)

    def __eq__(self, other: object) -> bool:
        return False  # they skip a strength of 0; here one row may have it and another not

    __hash__ = None  # type: ignore[assignment]

    def __mul__(self, hidden: Tensor) -> Tensor:
        return self.rows.to(hidden.dtype) * hidden


class IPAdapter:
    """One adapter with its image encoder, for one UNet.

    `processors`: of the cross-attention layers, by diffusers' names. `projection`: of the encoder's answer to tokens.
    """

    def __init__(
        self,
        *,
        facts: AdapterFacts,
        processors: Mapping[str, nn.Module],
        projection: nn.Module,
        encoder: Any,
        placement: Placement,
    ) -> None:
        from transformers import CLIPImageProcessor

        self.facts, self.processors, self.projection = facts, processors, projection
        self.encoder, self.placement = encoder, placement
        side = encoder.config.image_size
        self._prepare = CLIPImageProcessor(size=side, crop_size=side)
        self._kept: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def features(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """What the adapter reads of a picture uint8 `(H, W, 3)`, and of no picture (for guidance).

        Both `(1, 1, D)`, or `(1, 1, T, D)` of the kinds that read all tokens.
        """
        key = fingerprint(pixels)
        if key not in self._kept:
            self._kept[key] = self._encode(pixels)
            while len(self._kept) > KEPT_PICTURES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _encode(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        from PIL import Image

        shown = self._prepare(Image.fromarray(pixels), return_tensors="pt").pixel_values
        shown = shown.to(self.placement.device, self.placement.torch_dtype())
        if self.facts.kind == "standard":
            pooled = self.encoder(shown).image_embeds[None]
            return pooled, torch.zeros_like(pooled)
        with_picture, without = (
            self.encoder(x, output_hidden_states=True).hidden_states[-2][None]
            for x in (shown, torch.zeros_like(shown))
        )
        return with_picture, without

    @contextmanager
    def installed(self, unet: Any, strength: Tensor) -> Iterator[None]:
        """`unet` with the adapter in its attention for the calls inside; `strength`: of each row.

        Between the calls the network is as it was: LoRAs and backends never see the adapter.
        """
        own, kind = unet.attn_processors, unet.config.encoder_hid_dim_type
        rows = RowScale(strength)
        for processor in self.processors.values():
            processor.scale = [rows]  # type: ignore[assignment]
        unet.set_attn_processor({**own, **self.processors})
        try:
            unet.encoder_hid_proj = self.projection
            unet.config.encoder_hid_dim_type = "ip_image_proj"
            yield
        finally:
            unet.encoder_hid_proj = None  # first: it may have attention processors of its own
            unet.config.encoder_hid_dim_type = kind
            unet.set_attn_processor(own)


def load_ip_adapter(
    path: Path, unet: Any, encoder: Callable[[], Any], placement: Placement
) -> IPAdapter:
    """The adapter of a file for `unet`. Raises ModelError where it does not fit it."""
    from diffusers.models.embeddings import MultiIPAdapterImageProjection
    from safetensors.torch import load_file

    facts = facts_of(path)
    whole = load_file(path)
    image, layers = (
        {name.removeprefix(part): value for name, value in whole.items() if name.startswith(part)}
        for part in PARTS
    )
    _check_layers(path.name, layers, unet)
    with one_sentence("what it holds", path.name):
        # diffusers' own conversion, without its change of the network
        made = unet._convert_ip_adapter_attn_to_diffusers(
            [{"image_proj": image, "ip_adapter": layers}], low_cpu_mem_usage=False
        )
        projection = unet._convert_ip_adapter_image_proj_to_diffusers(
            image, low_cpu_mem_usage=False
        )

        def ready(module: nn.Module) -> nn.Module:
            module.to(placement.device, placement.torch_dtype())
            return module.eval().requires_grad_(False)

        return IPAdapter(
            facts=facts,
            processors={name: ready(made[name]) for name, _ in _cross_attention(unet)},
            projection=ready(MultiIPAdapterImageProjection([projection])),
            encoder=encoder(),
            placement=placement,
        )


def load_encoder(folder: Path, placement: Placement) -> Any:
    """A CLIP image encoder with its projection. Raises ModelError where the folder is none."""
    from lcm_studio.models.load import load_component, quiet

    encoder_config(folder)
    with quiet():
        return load_component(
            folder.parent, folder.name, "CLIPVisionModelWithProjection", placement
        )


def _cross_attention(unet: Any) -> list[tuple[str, Any]]:
    """(name of its processor, layer) of every cross-attention layer, in diffusers' order."""
    return [
        (name, unet.get_submodule(name.removesuffix(".processor")))
        for name in unet.attn_processors
        if not name.endswith("attn1.processor")
    ]


def _check_layers(name: str, layers: Mapping[str, Tensor], unet: Any) -> None:
    """Raises ModelError where the file was made for a network of other layers."""
    wanted = [layer.to_k.out_features for _, layer in _cross_attention(unet)]
    given = [
        len(layers[key]) if (key := f"{2 * i + 1}.to_k_ip.weight") in layers else 0
        for i in range(len(wanted))
    ]
    count = sum(key.endswith(".to_k_ip.weight") for key in layers)
    if count != len(wanted) or given != wanted:
        raise ModelError(
            f"{name} was made for a network of {count} cross-attention layers of other sizes than the {len(wanted)} of this "
            "model; use an IP-Adapter for this kind of model"
        )
