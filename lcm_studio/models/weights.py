"""LoRA files: loaded once each, switched by set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lcm_studio.models.files import first_line, read_header
from lcm_studio.models.lora_file import LEFT_OUT, LoraFacts, facts_of
from lcm_studio.models.lora_state import Factors, LoraState, read_lora
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.requests import LoraSpec

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class Loaded:
    """The adapters of one file, and what of it is not applied."""

    names: tuple[str, ...]
    note: str = ""


class LoraSwitch:
    """Adapters of one model's networks, by peft. `components`: the model's parts; others than networks are passed over."""

    def __init__(self, components: Mapping[str, Any] | None = None) -> None:
        self._components: dict[str, nn.Module] = {
            name: components[name]
            for name in COMPONENTS
            if components is not None and isinstance(components.get(name), nn.Module)
        }
        self._files: dict[tuple[str, int], Loaded] = {}
        self._count = 0
        self.state: tuple[tuple[str, float], ...] = ()

    def use(self, loras: tuple[LoraSpec, ...]) -> None:
        """Applies exactly these, at their weights. Raises ModelError where a file is missing or does not fit."""
        if not loras and not self._files:
            return
        state = tuple((name, spec.weight) for spec in loras for name in self._load(spec.path).names)
        if state == self.state:
            return
        self._activate(state)
        self.state = state

    def notes(self, loras: tuple[LoraSpec, ...]) -> tuple[str, ...]:
        """What of these files, once used, is not applied: one sentence each."""
        loaded = (self._files.get(_key(Path(spec.path))) for spec in loras)
        return tuple(file.note for file in loaded if file is not None and file.note)

    def _load(self, name: str) -> Loaded:
        path = Path(name)
        header = read_header(path)
        key = _key(path)
        if key in self._files:
            return self._files[key]
        if not self._components:
            raise ModelError(f"{path.name}: this model takes no LoRA; remove it")
        facts = facts_of(header, path.name)
        refused = [other for other in facts.others if other not in LEFT_OUT]
        if refused:
            raise ModelError(
                f"{path.name} holds {refused[0]}, which the studio does not apply; "
                "use a LoRA, DoRA, LoHa or LoKr"
            )
        from safetensors.torch import load_file

        state = read_lora(load_file(path), self._components, path.name)
        if not state.layers:
            raise ModelError(
                f"{path.name} holds no LoRA layers of this model (its first: {state.left_out[0]}); "
                "choose a LoRA that was made for it"
            )
        loaded = Loaded(self._inject(state, path.name), _note(facts, state, path.name))
        self._files[key] = loaded
        return loaded

    def _inject(self, state: LoraState, name: str) -> tuple[str, ...]:
        """New adapters of all components: one for plain layers, one for those with a magnitude (DoRA)."""
        made: list[str] = []
        try:
            for scaled in (False, True):
                adapter = f"lora{self._count}"
                for component, layers in state.layers.items():
                    part = {p: f for p, f in layers.items() if (f.magnitude is not None) == scaled}
                    if part:
                        made.append(adapter)
                        inject(self._components[component], part, adapter)
                self._count += 1
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            self._remove(made)
            raise ModelError(
                f"{name} does not fit this model ({first_line(error)}); choose a LoRA that was made for it"
            ) from error
        return tuple(dict.fromkeys(made))

    def _activate(self, state: tuple[tuple[str, float], ...]) -> None:
        for layer in self._tuned():
            layer.enable_adapters(bool(state))
            if state:
                layer.set_adapter([name for name, _ in state])
                for name, weight in state:
                    layer.set_scale(name, weight)
            for parameter in layer.parameters():
                parameter.requires_grad_(False)

    def _remove(self, adapters: list[str]) -> None:
        for layer in self._tuned():
            for name in adapters:
                layer.delete_adapter(name)
        self.state = (("", 0.0),)

    def _tuned(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [
            layer
            for network in self._components.values()
            for layer in network.modules()
            if isinstance(layer, BaseTunerLayer)
        ]


def inject(network: nn.Module, layers: Mapping[str, Factors], adapter: str) -> None:
    """Adds the factors as an adapter of peft to the layers of `network`, which stays frozen and in evaluation mode."""
    import warnings

    import torch
    from peft import LoraConfig, inject_adapter_in_model

    ranks = {path: factors.down.shape[0] for path, factors in layers.items()}
    config = LoraConfig(
        r=1,
        lora_alpha=1,
        target_modules=list(layers),
        rank_pattern={f"^{path}": rank for path, rank in ranks.items()},
        alpha_pattern={f"^{path}": rank for path, rank in ranks.items()},
        use_dora=any(factors.magnitude is not None for factors in layers.values()),
        init_lora_weights=False,
    )
    # peft takes the layers from the names of a state in place of patterns
    names = {f"{path}.lora_A.weight": factors.down for path, factors in layers.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(config, network, adapter_name=adapter, state_dict=names)
    with torch.no_grad():
        for path, factors in layers.items():
            layer: Any = network.get_submodule(path)
            layer.lora_A[adapter].weight.copy_(factors.down)
            layer.lora_B[adapter].weight.copy_(factors.up)
            if factors.magnitude is not None:
                magnitude = layer.lora_magnitude_vector[adapter].weight
                magnitude.copy_(factors.magnitude.reshape(magnitude.shape))
    network.requires_grad_(False).eval()


def _key(path: Path) -> tuple[str, int]:
    return str(path.resolve()), path.stat().st_mtime_ns


def _note(facts: LoraFacts, state: LoraState, name: str) -> str:
    """What of the file is not applied."""
    parts = []
    if state.left_out:
        parts.append(
            f"{len(state.left_out)} of its {len(facts.layers)} layers, which this model does not have "
            f"(the first: {state.left_out[0]})"
        )
    parts += [other for other in facts.others if other in LEFT_OUT]
    return f"of {name} is left out: {'; '.join(parts)}" if parts else ""
