"""Textual inversions in memory: the vectors that words of a prompt stand for (Gal et al. 2022)."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lcm_studio.models.files import one_sentence
from lcm_studio.models.inversion_file import InversionFacts, inversion_facts
from lcm_studio.spec.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lcm_studio.spec.requests import EmbeddingSpec

KEPT = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """`vectors`: for each text encoder, {word in small letters: `(n, D)`, float32}. `key`: what they depend on."""

    vectors: tuple[Mapping[str, Tensor], ...] = ()
    key: Hashable = ()

    def of(self, encoder: int) -> Mapping[str, Tensor]:
        """The words of one text encoder."""
        return self.vectors[encoder] if self.vectors else {}


NO_WORDS = Words()


@dataclass(eq=False)
class Inversions:
    """The files in use, read once each. `widths`: of the token embeddings of the model's text encoders.

    May be called from several threads.
    """

    widths: tuple[int, ...]
    _files: dict[tuple[str, int], tuple[InversionFacts, tuple[Tensor, ...]]] = field(
        default_factory=dict
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def words(self, specs: Sequence[EmbeddingSpec]) -> Words:
        """The words of these files. Raises ModelError where one is missing, broken, or made for another model."""
        if not specs:
            return NO_WORDS
        vectors: tuple[dict[str, Tensor], ...] = tuple({} for _ in self.widths)
        key = []
        for spec in specs:
            path = Path(spec.found or spec.path)
            stamp, facts, tensors = self._load(path, spec.part)
            for word in (spec.word,) if spec.word else facts.words:
                key.append((word.lower(), *stamp))
                for mapping, tensor in zip(vectors, tensors, strict=True):
                    mapping[word.lower()] = tensor
        return Words(vectors=vectors, key=tuple(key))

    def _load(
        self, path: Path, part: str = ""
    ) -> tuple[tuple[str, int], InversionFacts, tuple[Tensor, ...]]:
        try:
            stamp = f"{path}\n{part}", path.stat().st_mtime_ns
        except OSError as error:
            raise ModelError(f"{path.name} is no longer there; choose another file") from error
        with self._lock:
            if stamp not in self._files:
                facts = inversion_facts(path, part)
                check_widths(facts, self.widths)
                self._files[stamp] = facts, tuple(_read(file, name) for file, name in facts.tensors)
                while len(self._files) > KEPT:
                    self._files.pop(next(iter(self._files)))
            return stamp, *self._files[stamp]


def check_widths(facts: InversionFacts, widths: tuple[int, ...], model: str = "this model") -> None:
    """Raises ModelError where the vectors are not as wide as the token embeddings of the text encoders."""
    if facts.widths != widths:
        raise ModelError(
            f"{facts.path.name} was made for text encoders of width {_and(facts.widths)}, and those of {model} have "
            f"{_and(widths)}; use a textual inversion for this kind of model"
        )


def _and(widths: tuple[int, ...]) -> str:
    return " and ".join(map(str, widths)) or "none"


def _read(path: Path, name: str) -> Tensor:
    from safetensors import safe_open

    with one_sentence("the file", path.name), safe_open(str(path), "pt") as file:
        tensor: Tensor = file.get_tensor(name).float()
        return tensor.reshape(-1, tensor.shape[-1])


@contextmanager
def placed(encoders: Sequence[Any], rows: Sequence[Mapping[int, Tensor]]) -> Iterator[None]:
    """Within, the token embeddings of `encoders` at these places of a prompt are these vectors `(D,)`.

    The weights stay as they are, so prompts of others do not change.
    """
    with ExitStack() as stack:
        for encoder, vectors in zip(encoders, rows, strict=True):
            if vectors:
                hook = encoder.get_input_embeddings().register_forward_hook(_put(vectors))
                stack.callback(hook.remove)
        yield


def _put(vectors: Mapping[int, Tensor]) -> Any:
    def hook(module: Any, given: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, list(vectors)] = torch.stack(list(vectors.values())).to(out)
        return out

    return hook
