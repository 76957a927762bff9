"""Requests, events and what an engine tells of its models as bytes, and back, to the last bit.

A frame is a header of two lengths (JSON, arrays), the JSON, and the bytes of the arrays that it names. Only the records below
are read, so bytes of a stranger can become nothing but them; whether their values make sense is for the engine to say.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from lcm_studio.spec import errors, events, fitted, models, requests
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.owners import Owner

HEADER = struct.Struct(">IQ")
MOST_JSON = 16 * 1024 * 1024
MOST_ARRAYS = 1024 * 1024 * 1024
DTYPES = {"|u1", "<f4", "<f8", "<i8"}
DEEPEST = 40
RECORDS: dict[str, type] = {
    record.__name__: record
    for record in (
        requests.Generate, requests.Edit, requests.LoraSpec, requests.EmbeddingSpec, requests.ControlSpec,
        requests.IPAdapterSpec, Owner, models.ModelInfo, models.LoadState,
        fitted.Fitted, fitted.Fit, fitted.Errors,
        events.Queued, events.Loading, events.Step, events.Working, events.Done, events.Stopped, events.Failed,
    )
}  # fmt: skip
ERRORS: dict[str, type[errors.StudioError]] = {
    error.__name__: error
    for error in (errors.StudioError, errors.BadRequest, errors.BadImage, errors.ModelError, errors.Busy)
}  # fmt: skip


def pack(value: Any) -> bytes:
    """One frame. `value`: records, arrays, tuples, lists, dicts with text keys, text, numbers, None."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(value, arrays)).encode()
    return b"".join(
        [
            HEADER.pack(len(text), sum(a.nbytes for a in arrays)),
            text,
            *(a.tobytes() for a in arrays),
        ]
    )


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.ndarray):
        arrays.append(value.astype(value.dtype.newbyteorder("<"), order="C", copy=False))
        return {"$": "array", "dtype": arrays[-1].dtype.str, "shape": list(value.shape)}
    if isinstance(value, tuple):
        return {"$": "tuple", "of": [_plain(v, arrays) for v in value]}
    if isinstance(value, list):
        return [_plain(v, arrays) for v in value]
    if isinstance(value, Mapping):
        return {"$": "dict", "of": {str(k): _plain(v, arrays) for k, v in value.items()}}
    name = type(value).__name__
    if is_dataclass(value) and RECORDS.get(name) is type(value):
        given = {f.name: _plain(getattr(value, f.name), arrays) for f in fields(value)}
        return {"$": name, "of": given}
    raise TypeError(f"{name} does not travel")


def unpack(frame: bytes) -> Any:
    """The value of a whole frame. Raises BadRequest for what is none."""
    try:
        json_bytes, array_bytes = sizes(frame[: HEADER.size])
        if len(frame) != HEADER.size + json_bytes + array_bytes:
            raise ValueError("cut off")
        body = memoryview(frame)[HEADER.size :]
        return _Reader(body[json_bytes:]).read(json.loads(bytes(body[:json_bytes])))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error) as error:
        raise BadRequest(
            "The message between page and engine cannot be read; both want the same version of the studio."
        ) from error


def sizes(header: bytes) -> tuple[int, int]:
    """Bytes of JSON and of arrays that follow a frame's header. Raises BadRequest where they are out of bounds."""
    try:
        json_bytes, array_bytes = HEADER.unpack(header)
    except struct.error as error:
        raise BadRequest("The message between page and engine was cut off.") from error
    if json_bytes > MOST_JSON or array_bytes > MOST_ARRAYS:
        raise BadRequest("The message between page and engine is too large.")
    return json_bytes, array_bytes


class _Reader:
    def __init__(self, arrays: memoryview) -> None:
        self.arrays, self.at = arrays, 0

    def read(self, value: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise ValueError("too deep")
        if isinstance(value, list):
            return [self.read(v, depth + 1) for v in value]
        if not isinstance(value, dict):
            return value
        kind = value["$"]
        if kind == "array":
            return self._array(str(value["dtype"]), value["shape"])
        if kind == "tuple":
            return tuple(self.read(v, depth + 1) for v in value["of"])
        given = {str(k): self.read(v, depth + 1) for k, v in value["of"].items()}
        return given if kind == "dict" else RECORDS[kind](**given)

    def _array(self, dtype: str, shape: Any) -> np.ndarray:
        if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an odd array")
        size = np.dtype(dtype).itemsize * math.prod(shape)
        part = self.arrays[self.at : self.at + size]
        if len(part) != size:
            raise ValueError("an array is cut off")
        self.at += size
        return np.frombuffer(part, dtype=dtype).reshape(shape).copy()


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next frame of a stream whose `read(n)` gives n bytes, or fewer at its end; None there. Raises BadRequest."""
    header = read(HEADER.size)
    if not header:
        return None
    size = sum(sizes(header))
    body = read(size) if size else b""
    if len(body) != size:
        raise BadRequest("The message between page and engine was cut off.")
    return header + body


def failure(error: errors.StudioError) -> dict[str, str]:
    """An error as a value that travels."""
    name = type(error).__name__
    return {"error": name if name in ERRORS else "StudioError", "message": str(error)}


def raise_for(value: Any) -> None:
    """Raises the error that `failure` made, if `value` is one."""
    if isinstance(value, dict) and "error" in value:
        raise ERRORS.get(value["error"], errors.StudioError)(str(value.get("message")))
