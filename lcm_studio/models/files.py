"""Checks of model files before any library opens them. No torch."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcm_studio.spec.errors import ModelError, StudioError
from lcm_studio.spec.regular import open_regular, read_regular

MAX_HEADER = 8 * 1024 * 1024  # a model of 10,000 tensors has 1 MB
MAX_JSON = 16 * 1024 * 1024
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
# The most that a field may say whose name holds the word: far more than published networks have.
MOST = {
    "layers": 512,
    "num_blocks": 512,
    "depth": 512,
    "channels": 65_536,
    "hidden_size": 65_536,
    "heads": 4096,
}
LFS = b"version https://git-lfs"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a safetensors file says of itself."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]
    bytes: int

    @property
    def parameters(self) -> int:
        return sum(_count(shape) for shape in self.shapes.values())


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder. Raises ModelError where it is missing, huge or not an object."""
    try:
        text = read_regular(path, MAX_JSON).decode("utf-8")
        if text.startswith(LFS.decode()):
            raise _pointer(path)
        value = json.loads(text)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.name} is missing in {path.parent}; copy the whole folder"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.name} in {path.parent} cannot be read as JSON of at most 16 MB; copy it again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} in {path.parent} is not a JSON object; copy it again")
    return value


def check_sizes(config: Mapping[str, Any], where: str) -> None:
    """Refuses a network of more layers, blocks or channels than any has: building one would take days or all memory.

    Raises ModelError with the value and what is allowed.
    """
    for name, value in config.items():
        most = next((n for word, n in MOST.items() if word in name), None)
        if most is None:
            continue
        for number in _numbers(value):
            if not 0 <= number <= most:
                raise ModelError(
                    f"{where} says {name}={number:g}; at most {most} is possible, so copy the file again"
                )


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of a config's value, lists of lists included; a list's length counts as one of them."""
    if isinstance(value, list):
        yield len(value)
        for item in value[:1000]:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def read_header(path: Path) -> Header:
    """The checked header of a `.safetensors` file: length, dtypes, shapes, and offsets without gaps.

    Raises ModelError for anything else, a renamed pickle and a truncated download included.
    """
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path.name} holds pickled weights, which can run code; use a .safetensors file"
        )
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            if start == LFS[:8]:
                raise _pointer(path)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise _broken(path)
            raw = file.read(length)
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its rights") from error
    try:
        entries = json.loads(raw.decode("utf-8"))
        metadata = entries.pop("__metadata__", None) or {}
        return _check_entries(path, entries, metadata, size - 8 - length, size)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _broken(path) from error


def _pointer(path: Path) -> ModelError:
    return ModelError(
        f"{path.name} in {path.parent} is a pointer of git-lfs in place of the file; run git lfs pull there"
    )


def _broken(path: Path) -> ModelError:
    return ModelError(
        f"{path.name} is not a whole safetensors file (wrong type or cut short); download it again"
    )


def _check_entries(
    path: Path, entries: dict[str, Any], metadata: dict[str, str], data: int, size: int
) -> Header:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    spans = []
    for name, entry in entries.items():
        shape = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        dtype = entry["dtype"]
        if dtype not in BITS or not all(
            isinstance(n, int) and n >= 0 for n in (*shape, begin, end)
        ):
            raise _broken(path)
        if end - begin != _count(shape) * BITS[dtype] // 8:
            raise _broken(path)
        shapes[name], dtypes[name] = shape, dtype
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise _broken(path)
        position = end
    if position != data:
        raise _broken(path)
    return Header(shapes=shapes, dtypes=dtypes, metadata=metadata, bytes=size)


def first_line(error: BaseException) -> str:
    """The start of a library's message, which may be a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__


@contextmanager
def one_sentence(what: str, model: str) -> Iterator[None]:
    """A ModelError for whatever foreign configs and weights make us or a library raise: any value may be in them."""
    try:
        yield
    except StudioError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise ModelError(
                f"{model} does not fit into memory; close other programs or use a smaller model"
            ) from error
        raise ModelError(
            f"{what} of {model} cannot be loaded ({first_line(error)}); copy the folder again"
        ) from error


def called(folder: Path) -> str:
    """What messages call a model's folder: its name, or the hub id of a snapshot, whose own name is a hash."""
    *_, repository, parent, name = ("", "", "", *folder.parts)
    if parent == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return name


VARIANTS: tuple[str | None, ...] = (None, "fp16", "bf16", "fp32", "ema_only", "ema", "non_ema")
VARIANT = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.safetensors\.index)?\.(\w+)(?:\.safetensors(?:\.index)?)?"
    r"(?:\.json|(?<=\.safetensors))"
)


def choose_weights(names: Collection[str]) -> tuple[str, str | None] | None:
    """(file, variant) that diffusers would load among the `names` of a component folder; the file may be an index.

    Without a variant first, then by `VARIANTS`, then any other that is there.
    """
    others = sorted(m.group(1) for name in names if (m := VARIANT.fullmatch(name)))
    for variant in dict.fromkeys((*VARIANTS, *others)):
        for stem in ("diffusion_pytorch_model", "model"):
            middle = f".{variant}" if variant else ""
            for name in (
                f"{stem}{middle}.safetensors",
                f"{stem}.safetensors.index{middle}.json",
                f"{stem}{middle}.safetensors.index.json",
            ):
                if name in names:
                    return name, variant
    return None


def weight_files(folder: Path) -> tuple[list[Path], str | None]:
    """The safetensors files that diffusers would load from a component folder, and their variant.

    Raises ModelError where there are none, naming pickles if that is all there is.
    """
    if not folder.is_dir():
        raise ModelError(
            f"{folder.name}/ is missing in {called(folder.parent)}; copy the whole folder"
        )
    chosen = choose_weights([path.name for path in folder.iterdir() if path.is_file()])
    if chosen is not None:
        name, variant = chosen
        if not name.endswith(".json"):
            return [folder / name], variant
        return [folder / shard for shard in shard_names(folder / name)], variant
    if any(path.suffix in PICKLES for path in folder.iterdir()):
        raise ModelError(
            f"{folder} holds only pickled weights, which can run code; "
            "use the .safetensors version of this model"
        )
    if any(
        path.name.endswith((".incomplete", ".part", ".crdownload")) for path in folder.iterdir()
    ):
        raise ModelError(
            f"a download into {folder} broke off before its end; start it again, it goes on where it stopped"
        )
    raise ModelError(f"{folder} holds no .safetensors weights; copy the whole folder")


def shard_names(index: Path) -> list[str]:
    """The files that an index of sharded weights lists. Raises ModelError where one lies elsewhere."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{index.name} in {index.parent} lists no weights; copy it again")
    shards: set[str] = set()
    for name in names.values():
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(".safetensors")
        ):
            raise ModelError(
                f"{index.name} in {index.parent} points outside its folder; copy the folder again"
            )
        shards.add(name)
    return sorted(shards)
