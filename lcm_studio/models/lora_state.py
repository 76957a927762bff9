"""The tensors of a LoRA file in any layout, as down and up factors of a model's own layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lcm_studio.models.lora_file import split_key
from lcm_studio.spec.errors import ModelError

DENOISERS = ("unet", "transformer")
# what trainers and programs put before a layer's name, by the network that it is in
PREFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lora_te1_", ("text_encoder",)),
    ("lora_te2_", ("text_encoder_2",)),
    ("lora_te3_", ("text_encoder_3",)),
    ("lora_te_", ("text_encoder",)),
    ("lycoris_te_", ("text_encoder",)),
    ("text_encoder_2.", ("text_encoder_2",)),
    ("text_encoder.", ("text_encoder",)),
    ("te1_", ("text_encoder",)),
    ("te2_", ("text_encoder_2",)),
    ("lora_unet_", DENOISERS),
    ("lora_transformer_", DENOISERS),
    ("lycoris_unet_", DENOISERS),
    ("lycoris_", DENOISERS),
    ("model.diffusion_model.", DENOISERS),
    ("diffusion_model.", DENOISERS),
    ("unet.", DENOISERS),
    ("transformer.", DENOISERS),
)
WRAPPERS = ("base_model.model.", "module.", "model.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """delta = up @ down, with the strength in it already. `magnitude`: of DoRA, `(out,)`."""

    down: Tensor
    up: Tensor
    magnitude: Tensor | None = None


@dataclass(kw_only=True, eq=False)
class LoraState:
    """Factors by component and layer; `left_out`: layers of the file that the model does not have."""

    layers: dict[str, dict[str, Factors]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_lora(
    state: Mapping[str, Tensor], components: Mapping[str, nn.Module], name: str
) -> LoraState:
    """The factors of `state` for the layers of `components` ("unet" or "transformer", "text_encoder" ...).

    Raises ModelError where a layer has another shape than the model's, or its parts are none that can be applied.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        split = split_key(key)
        if split is not None:
            layer, part = split
            exact = key.rpartition(".")[2] if part in ("hada", "lokr") else part
            groups.setdefault(layer, {})[exact] = value.float()
    index = {part: _paths(part, module) for part, module in components.items()}
    found = LoraState()
    for layer, tensors in groups.items():
        if not set(tensors) - {"alpha", "dora"}:
            continue
        place = _place(layer, index)
        if place is None:
            found.left_out.append(layer)
            continue
        component, path, module = place
        try:
            factors = _factors(tensors, module)
        except (RuntimeError, KeyError, IndexError, ValueError) as error:
            raise ModelError(
                f"{name}: the parts of its layer {layer} do not go together; download it again"
            ) from error
        _check(factors, module, layer, name)
        found.layers.setdefault(component, {})[path] = factors
    return found


def _paths(component: str, network: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Layers that can be adapted, by their names with `_` for `.`, in every spelling that files use."""
    paths: dict[str, tuple[str, nn.Module]] = {}
    for path, module in network.named_modules():
        layer = getattr(module, "base_layer", module)
        if not isinstance(layer, nn.Linear | nn.Conv2d) or "lora_" in path:
            continue
        path = path.removesuffix(".base_layer")
        paths[_flat(path)] = (path, layer)
        if component.startswith("text_encoder"):
            paths[_flat(path).removeprefix("text_model_")] = (path, layer)
    if component == "unet":
        for original, path in original_names(network):
            entry = paths.get(_flat(path))
            if entry is not None:
                paths[_flat(original)] = entry
    return paths


def original_names(unet: Any) -> Iterator[tuple[str, str]]:
    """(name in the original Stable Diffusion code, diffusers' name) of a UNet's layers with weights."""
    stems = [
        ("input_blocks.0.0", "conv_in"),
        ("out.2", "conv_out"),
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("label_emb.0.0", "add_embedding.linear_1"),
        ("label_emb.0.2", "add_embedding.linear_2"),
    ]
    position = 1
    for i, block in enumerate(getattr(unet, "down_blocks", ())):
        for j in range(len(block.resnets)):
            stems += [
                (f"input_blocks.{position}.0", f"down_blocks.{i}.resnets.{j}"),
                (f"input_blocks.{position}.1", f"down_blocks.{i}.attentions.{j}"),
            ]
            position += 1
        stems.append((f"input_blocks.{position}.0.op", f"down_blocks.{i}.downsamplers.0.conv"))
        position += 1
    for j in range(2):
        stems.append((f"middle_block.{2 * j}", f"mid_block.resnets.{j}"))
    stems.append(("middle_block.1", "mid_block.attentions.0"))
    position = 0
    for i, block in enumerate(getattr(unet, "up_blocks", ())):
        for j in range(len(block.resnets)):
            stems += [
                (f"output_blocks.{position}.0", f"up_blocks.{i}.resnets.{j}"),
                (f"output_blocks.{position}.1", f"up_blocks.{i}.attentions.{j}"),
            ]
            position += 1
        for place in (1, 2):
            stems.append(
                (f"output_blocks.{position - 1}.{place}.conv", f"up_blocks.{i}.upsamplers.0.conv")
            )
    inner = {
        "conv1": "in_layers.2",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    }
    theirs = {diffusers: original for original, diffusers in stems}
    for path, module in unet.named_modules():
        if not isinstance(getattr(module, "base_layer", module), nn.Linear | nn.Conv2d):
            continue
        for stem in (path, *(path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1))):
            if stem in theirs:
                rest = path[len(stem) + 1 :]
                rest = inner.get(rest, rest)
                yield f"{theirs[stem]}.{rest}".rstrip("."), path
                break


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _place(
    layer: str, index: Mapping[str, Mapping[str, tuple[str, nn.Module]]]
) -> tuple[str, str, nn.Module] | None:
    """(component, path, module) that a file's layer is."""
    components: tuple[str, ...] = tuple(index)
    name = layer
    stripped = True
    while stripped:
        stripped = False
        for prefix, parts in PREFIXES:
            if name.startswith(prefix):
                name, components, stripped = name[len(prefix) :], parts, True
                break
        for wrapper in WRAPPERS:
            if name.startswith(wrapper):
                name, stripped = name[len(wrapper) :], True
    name = _flat(name).replace("_processor_", "_")
    spellings = (name, f"{name}_0" if name.endswith("to_out") else name, name.removesuffix("_lora"))
    for component in components:
        for spelling in dict.fromkeys(spellings):
            entry = index.get(component, {}).get(spelling) or index.get(component, {}).get(
                spelling.removeprefix("text_model_")
            )
            if entry is not None:
                return component, *entry
    return None


def _factors(tensors: Mapping[str, Tensor], module: nn.Module) -> Factors:
    alpha = tensors.get("alpha")
    magnitude = tensors.get("dora")
    weight: Tensor = module.weight  # type: ignore[assignment]
    if magnitude is not None:
        if magnitude.numel() != weight.shape[0] or (
            magnitude.ndim > 1 and magnitude.shape[0] != weight.shape[0] and weight.ndim == 2
        ):
            raise ModelError(
                "it is a DoRA that scales inputs in place of outputs, which the studio does not apply; "
                "choose one that scales outputs"
            )
        magnitude = magnitude.flatten()
    if "down" in tensors:
        down, up = tensors["down"], tensors["up"]
        rank = down.shape[0]
        if "mid" in tensors:  # down 1x1, then a small kernel between, then up 1x1
            down = torch.einsum("pqkl,qi->pikl", tensors["mid"], down.flatten(1))
        elif weight.ndim == 4 and down.ndim == 2:
            down = down[:, :, None, None]
        scale = 1.0 if alpha is None else float(alpha) / rank
        up = up[:, :, None, None] if weight.ndim == 4 and up.ndim == 2 else up
        if weight.ndim == 2:
            down, up = down.flatten(1), up.flatten(1)
        return Factors(down=down, up=up * scale, magnitude=magnitude)
    if "hada_w1_a" in tensors:
        return _with(_hadamard(tensors, weight, alpha), magnitude)
    if any(name.startswith("lokr") for name in tensors):
        return _with(_whole(_kronecker(tensors, weight, alpha), weight), magnitude)
    if "diff" in tensors:
        return _with(_whole(tensors["diff"].reshape(weight.shape), weight), magnitude)
    raise KeyError("parts")


def _with(factors: Factors, magnitude: Tensor | None) -> Factors:
    return Factors(down=factors.down, up=factors.up, magnitude=magnitude)


def _whole(delta: Tensor, weight: Tensor) -> Factors:
    """A full difference as factors: the smaller side is the identity."""
    out, width = weight.shape[:2]
    delta = delta.reshape(weight.shape)
    if weight.ndim == 4:
        return Factors(down=delta, up=torch.eye(out)[:, :, None, None])
    if out <= width:
        return Factors(down=delta, up=torch.eye(out))
    return Factors(down=torch.eye(width), up=delta)


def _hadamard(tensors: Mapping[str, Tensor], weight: Tensor, alpha: Tensor | None) -> Factors:
    """LoHa: (w1_a w1_b) * (w2_a w2_b), of rank r^2 (Hyeon-Woo et al. 2022, proposition 1)."""
    rank = tensors["hada_w1_b"].shape[0]
    scale = 1.0 if alpha is None else float(alpha) / rank
    if "hada_t1" in tensors:
        one, two = (
            torch.einsum(
                "ijkl,jr,ip->prkl",
                tensors[f"hada_t{n}"],
                tensors[f"hada_w{n}_b"],
                tensors[f"hada_w{n}_a"],
            )
            for n in (1, 2)
        )
        return _whole(one * two * scale, weight)
    a1, b1 = tensors["hada_w1_a"], tensors["hada_w1_b"].flatten(1)
    a2, b2 = tensors["hada_w2_a"], tensors["hada_w2_b"].flatten(1)
    if rank * rank >= min(weight.shape[:2]):
        return _whole((a1 @ b1) * (a2 @ b2) * scale, weight)
    up = (a1[:, :, None] * a2[:, None, :]).flatten(1) * scale
    down = (b1[:, None, :] * b2[None, :, :]).flatten(0, 1)
    if weight.ndim == 4:
        return Factors(down=down.reshape(rank * rank, *weight.shape[1:]), up=up[:, :, None, None])
    return Factors(down=down, up=up)


def _kronecker(tensors: Mapping[str, Tensor], weight: Tensor, alpha: Tensor | None) -> Tensor:
    """LoKr: the Kronecker product of w1 and w2, each whole or of low rank (Yeh et al. 2024, section 3)."""
    rank: int | None = None
    factors = []
    for n in (1, 2):
        if f"lokr_w{n}" in tensors:
            factors.append(tensors[f"lokr_w{n}"])
            continue
        a, b = tensors[f"lokr_w{n}_a"], tensors[f"lokr_w{n}_b"]
        rank = b.shape[0]
        if n == 2 and "lokr_t2" in tensors:
            factors.append(torch.einsum("ijkl,ip,jr->prkl", tensors["lokr_t2"], a, b))
        else:
            factors.append(a @ b.flatten(1))
    one, two = factors
    if weight.ndim == 4 and two.ndim == 2:
        two = two.reshape(two.shape[0], -1, *weight.shape[2:])
    while one.ndim < two.ndim:
        one = one.unsqueeze(-1)
    scale = 1.0 if alpha is None or rank is None else float(alpha) / rank
    return torch.kron(one, two) * scale


def _check(factors: Factors, module: nn.Module, layer: str, name: str) -> None:
    weight: Tensor = module.weight  # type: ignore[assignment]
    made = (factors.up.shape[0], *factors.down.shape[1:])
    if made == tuple(weight.shape):
        return
    theirs, mine = made[1], weight.shape[1]
    if "attn2" in layer and ("to_k" in layer or "to_v" in layer) and theirs != mine:
        raise ModelError(
            f"{name} was made for text of width {theirs}{_family(theirs)}, this model's has {mine}"
            f"{_family(mine)}; choose a LoRA that was made for it"
        )
    raise ModelError(
        f"{name} does not fit this model: its layer {layer} is {' x '.join(map(str, made))}, the model's "
        f"{' x '.join(map(str, weight.shape))}; choose a LoRA that was made for it"
    )


def _family(width: int) -> str:
    names = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
    return f" ({names[width]})" if width in names else ""
