"""What travels between page and engine comes out as it went in, and nothing else comes out."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from lcm_studio.engine.remote import wire
from lcm_studio.models.catalog import scan
from lcm_studio.spec.errors import BadRequest, Busy, StudioError
from lcm_studio.spec.events import Done, Failed, Queued, Step
from lcm_studio.spec.models import LoadState
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Generate, LoraSpec


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return same(vars(a), vars(b)) if hasattr(a, "__dataclass_fields__") else bool(a == b)


PICTURE = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
VALUES = [
    None,
    ("id", Generate(prompt="\ud800 ü", loras=(LoraSpec(path="a", weight=0.5),), timesteps=(9, 1)), Owner(person="a")),
    Edit(task="inpaint", image=PICTURE, mask=PICTURE[..., 0], options={"scale": 4, "of": ["a", (1, 2.5)]}),
    Edit(task="x", image=PICTURE[::2, ::-1], image_b=np.zeros((0, 3, 4), np.uint8)),
    Step(done=1, total=4, seconds=0.25, previews=(PICTURE, PICTURE[:2]), flagged=(False, True)),
    Done(images=(PICTURE,), seeds=(7,), settings={"levels": [1.5], "nested": {"a": None}}, timing={"total": 0.1}),
    Queued(position=3), Failed(message="no"), LoadState(status="ready", loaded=("a",)),
    (np.arange(6, dtype=np.float32).reshape(2, 3), 1e308),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_what_goes_in_comes_out(value: Any) -> None:
    got = wire.unpack(wire.pack(value))
    assert same(got, value) or got == value


def test_models_travel(bundled: Any) -> None:
    infos = scan((bundled,))[0]
    assert infos and wire.unpack(wire.pack(infos)) == infos


def test_frames_of_a_stream() -> None:
    frames = [wire.pack(v) for v in VALUES]
    rest = bytearray(b"".join(frames))

    def read(n: int) -> bytes:
        part = bytes(rest[:n])
        del rest[:n]
        return part

    got = []
    while (frame := wire.read_frame(read)) is not None:
        got.append(frame)
    assert got == frames
    rest += frames[1][:-1]
    with pytest.raises(BadRequest, match="cut off"):
        wire.read_frame(read)


def test_errors_keep_their_kind() -> None:
    with pytest.raises(Busy, match="full"):
        wire.raise_for(wire.unpack(wire.pack(wire.failure(Busy("full")))))
    with pytest.raises(StudioError, match="odd"):
        wire.raise_for({"error": "KeyboardInterrupt", "message": "odd"})


def test_hostile_bytes_are_one_sentence() -> None:
    dice = random.Random(3)
    good = wire.pack(VALUES[1])
    plain = [
        {"$": "eval", "of": {}}, {"$": "Generate", "of": {"nothing": 1}}, {"$": "Generate", "of": []}, {"of": 1}, {"$": []},
        {"$": "array", "dtype": "|O", "shape": [1]}, {"$": "array", "dtype": "|u1", "shape": [2**40]},
        {"$": "array", "dtype": "|u1", "shape": [-1]}, {"$": "array", "dtype": "|u1", "shape": "x"},
        json.loads("[" * 60 + "]" * 60),
    ]  # fmt: skip
    texts = [json.dumps(value).encode() for value in plain]
    cases = [wire.HEADER.pack(len(text), 0) + text for text in texts]
    cases += [good[: dice.randrange(len(good))] for _ in range(50)]
    cases += [bytes(dice.randrange(256) for _ in range(dice.randrange(80))) for _ in range(200)]
    for case in cases:
        with pytest.raises(BadRequest):
            wire.unpack(case)
