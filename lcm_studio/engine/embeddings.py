"""Textual inversions by their word: the files of `embeddings` folders, and what a request means by them. No torch."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lcm_studio.models.files import PICKLES, read_header
from lcm_studio.models.inversion_file import InversionFacts, bundled, inversion_facts
from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.prompts import word_pattern
from lcm_studio.spec.requests import Edit, EmbeddingSpec, LoraSpec, Sampling

FOLDER = "embeddings"  # beside the models
DEEPEST = 3  # folders in folders
MOST_FILES = 5000


@dataclass(eq=False)
class Embeddings:
    """`folders`: looked through again for every request, so that a file which was just put there is found.

    May be called from several threads.
    """

    folders: tuple[Path, ...]
    _kept: dict[Path, tuple[int, InversionFacts | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self, info: ModelInfo) -> tuple[str, ...]:
        """The words that fit a model, sorted."""
        if not info.takes_weights:
            return ()
        fitting = (facts.words[0] for facts in self._files() if facts.widths == info.text_widths)
        return tuple(sorted(dict.fromkeys(fitting), key=str.lower))

    def resolve(self, request: Sampling, info: ModelInfo) -> tuple[EmbeddingSpec, ...]:
        """The request's own, with their files, then those of the folders whose word is in a prompt.

        Raises BadRequest or ModelError, in one sentence, for one that is unknown, broken, or made for another model.
        """
        if request.embeddings and not info.takes_weights:
            raise BadRequest(f"{info.id} takes no textual inversions; leave embeddings out")
        if not info.takes_weights:
            return ()
        bundles = tuple(bundled_in(request.loras))
        own = tuple(self._own(spec, info, bundles) for spec in request.embeddings)
        files = {spec.found for spec in own if not spec.part}
        named = [
            EmbeddingSpec(path=facts.words[0], found=str(facts.path), part=facts.words[0])
            for facts in self._in(request, bundles)
            if facts.widths == info.text_widths
        ]
        named += [
            EmbeddingSpec(path=facts.words[0], found=str(facts.path))
            for facts in self._in(request, self._files())
            if facts.widths == info.text_widths and str(facts.path) not in files
        ]
        return (*own, *_first_of_each_word(own, named))

    def words(self, specs: Sequence[EmbeddingSpec]) -> tuple[str, ...]:
        """The words of what `resolve` has answered."""
        return tuple(
            word
            for spec in specs
            for word in (
                (spec.word,) if spec.word else inversion_facts(Path(spec.found), spec.part).words
            )
        )

    def warnings(
        self, request: Sampling, specs: Sequence[EmbeddingSpec], info: ModelInfo
    ) -> tuple[str, ...]:
        """What is to say of a request whose textual inversions are `specs`."""
        if not info.takes_weights:
            return ()
        out = []
        for spec in specs:
            pattern = word_pattern(self.words([spec]))
            if pattern is not None and not any(pattern.search(text) for text in texts(request)):
                words = " or ".join(self.words([spec]))
                out.append(f"{Path(spec.found).name} is not used: write {words} in the prompt")
        taken = {word.lower() for word in self.words(specs)}
        for facts in self._in(request, [*bundled_in(request.loras), *self._files()]):
            if facts.widths != info.text_widths and not {w.lower() for w in facts.words} & taken:
                out.append(
                    f"{facts.words[0]} is read as plain words: the textual inversion of that name was made for text "
                    f"encoders of width {_and(facts.widths)}, and {info.id} has {_and(info.text_widths)}"
                )
        for path in self._walk():
            if path.suffix.lower() not in PICKLES or path.stem.lower() in taken:
                continue
            pattern = word_pattern([path.stem])
            if pattern is not None and any(pattern.search(text) for text in texts(request)):
                out.append(
                    f"{path.name} is not read, for pickled weights can run code; use a .safetensors file of it"
                )
        return tuple(dict.fromkeys(out))

    def _own(
        self, spec: EmbeddingSpec, info: ModelInfo, bundles: Sequence[InversionFacts]
    ) -> EmbeddingSpec:
        """A request's own textual inversion with its file."""
        path = Path(spec.path).expanduser()
        there = bool(path.suffix) and _there(path)
        part = next((one for one in bundles if one.words == (spec.path,) and not there), None)
        facts = part or (None if there else self._named(spec.path))
        if facts is None:
            if not path.suffix and not _there(path):
                known = ", ".join(self.names(info)[:12]) or "none are there"
                raise BadRequest(
                    f"textual inversion {spec.path[:80]!r} is unknown; give its file, or put it into a folder "
                    f"embeddings/ beside the models (for this model: {known})"
                )
            facts = inversion_facts(path)
        if info.text_widths and facts.widths != info.text_widths:
            raise BadRequest(
                f"{facts.path.name} was made for text encoders of width {_and(facts.widths)}, and {info.id} has "
                f"{_and(info.text_widths)}; use a textual inversion for this kind of model"
            )
        return replace(spec, found=str(facts.path), part="" if part is None else part.words[0])

    def _named(self, name: str) -> InversionFacts | None:
        """The file of a folder by its word."""
        if Path(name).name != name:
            return None
        wanted = name.lower().removesuffix(".safetensors")
        for facts in self._files():
            if wanted in {word.lower() for word in (*facts.words, facts.path.stem)}:
                return facts
        return None

    def _in(self, request: Sampling, files: Sequence[InversionFacts]) -> Iterator[InversionFacts]:
        """Those whose word is in one of the request's texts."""
        given = texts(request)
        for facts in files:
            pattern = word_pattern(facts.words)
            if pattern is not None and any(pattern.search(text) for text in given):
                yield facts

    def _files(self) -> list[InversionFacts]:
        """Every readable textual inversion of the folders; second halves, broken files and others are passed over."""
        read = (self._read(path) for path in self._walk() if path.suffix.lower() == ".safetensors")
        facts = [one for one in read if one is not None and one.words]
        seconds = {path for one in facts for path, _ in one.tensors[1:] if path != one.path}
        return [one for one in facts if one.path not in seconds]

    def _read(self, path: Path) -> InversionFacts | None:
        try:
            stamp = path.stat().st_mtime_ns
            with self._lock:
                kept = self._kept.get(path)
            if kept is not None and kept[0] == stamp:
                return kept[1]
            try:
                facts: InversionFacts | None = inversion_facts(path)
            except ModelError:
                facts = None
        except OSError:
            return None
        with self._lock:
            self._kept[path] = (stamp, facts)
        return facts

    def _walk(self) -> Iterator[Path]:
        """The files of the folders, sorted, at most so many and so deep."""
        count = 0
        for root in self.folders:
            for folder, below, names in os.walk(root):
                depth = len(Path(folder).parts) - len(root.parts)
                below[:] = sorted(below) if depth < DEEPEST else []
                for name in sorted(names):
                    count += 1
                    if count > MOST_FILES:
                        return
                    yield Path(folder, name)


def bundled_in(loras: Sequence[LoraSpec]) -> Iterator[InversionFacts]:
    """The textual inversions that LoRA files bundle; a file that cannot be read is refused elsewhere."""
    for lora in loras:
        path = Path(lora.path)
        with contextlib.suppress(ModelError, OSError):
            yield from bundled(path, read_header(path))


def texts(request: Sampling) -> tuple[str, ...]:
    """Every text of a request that is encoded."""
    more = dict(request.options or {}).values() if isinstance(request, Edit) else ()
    return (request.prompt, request.negative, *(text for text in more if isinstance(text, str)))


def check_embeddings(specs: Any) -> None:
    """What must hold before a file is looked for. Raises BadRequest."""
    if not isinstance(specs, tuple) or not all(isinstance(spec, EmbeddingSpec) for spec in specs):
        raise BadRequest("embeddings must be a tuple of EmbeddingSpec")
    if len(specs) > limits.MAX_EMBEDDINGS:
        raise BadRequest(
            f"{len(specs)} textual inversions are too many; use at most {limits.MAX_EMBEDDINGS}"
        )
    for spec in specs:
        for text in (spec.path, spec.word, spec.found):
            if not isinstance(text, str) or "\x00" in text or len(text) > 4096:
                raise BadRequest("a textual inversion's path or word is no text; write it again")
        if not spec.path.strip():
            raise BadRequest("a textual inversion has no path; give its .safetensors file")
        if spec.word != spec.word.strip() or len(spec.word) > limits.MAX_WORD:
            raise BadRequest(
                f"{spec.word[:40]!r} is no word for a textual inversion; use at most {limits.MAX_WORD} letters, "
                "and no blanks around them"
            )
    words = [spec.word.lower() for spec in specs if spec.word]
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise BadRequest(f"two textual inversions have the word {twice}; give one of them another")


def _first_of_each_word(
    own: Sequence[EmbeddingSpec], named: Sequence[EmbeddingSpec]
) -> list[EmbeddingSpec]:
    """Of files with one word, the request's own, else the one of the first folder."""
    taken = {(spec.word or spec.path).lower() for spec in own}
    out = []
    for spec in named:
        if spec.path.lower() not in taken:
            taken.add(spec.path.lower())
            out.append(spec)
    return out


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no name of a file
        return False


def _and(widths: tuple[int, ...]) -> str:
    return " and ".join(map(str, widths)) or "none"
