"""LoRA files: loaded once each, switched by set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lcm_studio.models.files import read_header
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.requests import LoraSpec


class LoraSwitch:
    """Adapters of one model. `pipeline` builds the stock pipeline whose loader understands all LoRA formats."""

    def __init__(self, pipeline: Callable[[], Any] | None) -> None:
        self._make = pipeline
        self._pipe: Any = None
        self._names: dict[tuple[str, int], str] = {}
        self.state: tuple[tuple[str, float], ...] = ()

    def use(self, loras: tuple[LoraSpec, ...]) -> None:
        """Applies exactly these, at their weights. Raises ModelError where a file is missing or does not fit."""
        if not loras and not self._names:
            return
        wanted = [(self._load(spec), spec.weight) for spec in loras]
        state = tuple(wanted)
        if state == self.state:
            return
        if not wanted:
            self._pipe.disable_lora()
        else:
            self._pipe.enable_lora()
            self._pipe.set_adapters([name for name, _ in wanted], [weight for _, weight in wanted])
        self.state = state

    def _load(self, spec: LoraSpec) -> str:
        path = Path(spec.path)
        read_header(path)
        key = (str(path.resolve()), path.stat().st_mtime_ns)
        if key in self._names:
            return self._names[key]
        if self._make is None:
            raise ModelError(f"{path.name}: this model takes no LoRA; remove it")
        self._pipe = self._pipe or self._make()
        name = f"lora{len(self._names)}"
        try:
            self._pipe.load_lora_weights(
                str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True
            )
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError) as error:
            self._forget(name)
            raise ModelError(
                f"{path.name} does not fit this model ({_first_line(error)}); "
                "choose a LoRA that was made for it"
            ) from error
        if not any(name in names for names in self._pipe.get_list_adapters().values()):
            raise ModelError(f"{path.name} holds no LoRA layers of this model; choose another file")
        self._names[key] = name
        self._freeze()
        return name

    def _freeze(self) -> None:
        for part in ("unet", "text_encoder", "text_encoder_2"):
            module = getattr(self._pipe, part, None)
            if module is not None:
                module.requires_grad_(False).eval()

    def _forget(self, name: str) -> None:
        """Takes back what a failed load left behind, and restores the adapters in force."""
        try:
            self._pipe.delete_adapters(name)
        except (ValueError, RuntimeError, KeyError, AttributeError):
            return
        finally:
            self.state = (("", 0.0),)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
