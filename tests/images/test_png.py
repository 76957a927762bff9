"""Settings travel with the PNG and come back as the same request."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcm_studio.images.parameters import parse_parameters
from lcm_studio.images.png import (
    KEY,
    png_bytes,
    read_settings,
    write_png,
)
from lcm_studio.spec.errors import BadImage, BadRequest
from lcm_studio.spec.requests import Generate, LoraSpec
from lcm_studio.spec.settings import from_settings, to_settings
from tests.images.test_gate import chunk, png

PIXELS = np.zeros((16, 24, 3), dtype=np.uint8)
REQUEST = Generate(
    prompt="sunset, 山 & “lake”\nsecond line",
    negative="people",
    steps=3,
    guidance=7.5,
    seed=2**53 - 17,
    width=24,
    height=16,
    model="scenery-lcm",
    loras=(LoraSpec(path="a b.safetensors", weight=0.8),),
    timesteps=(999, 499, 19),
)


def test_round_trip(tmp_path: Path) -> None:
    path = write_png(tmp_path / "new" / "a.png", PIXELS, to_settings(REQUEST))
    assert from_settings(read_settings(path) or {}) == REQUEST
    with Image.open(path) as image:
        assert image.size == (24, 16)
        assert image.text["parameters"].endswith(
            "Steps: 3, Sampler: LCM, CFG scale: 7.5, Seed: 9007199254740975, Size: 24x16, Model: scenery-lcm"
        )
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_the_common_line_alone_is_understood() -> None:
    raw = png_bytes(PIXELS, to_settings(REQUEST))
    foreign = raw.replace(KEY.encode(), b"other_tool")
    said = read_settings(foreign)
    assert said is not None
    request = from_settings(said)
    assert (request.prompt, request.negative, request.steps) == (
        REQUEST.prompt,
        "people",
        3,
    )
    assert (request.seed, request.guidance, request.width) == (REQUEST.seed, 7.5, 24)


def test_without_settings() -> None:
    assert read_settings(png_bytes(PIXELS)) is None
    assert parse_parameters("just a text") is None


LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 38, Size: 512x768, Model: dream_8"


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (f"a lake\nNegative prompt: blurry\n{LINE}", {}),
        (f"a lake\nNegative prompt: blurry\n{LINE}\n\n", {}),
        (f"a lake\r\nNegative prompt: blurry\r\n{LINE}\r\n", {}),
        (f"a lake\nNegative prompt: blurry\n{LINE}\nTemplate: __x__ a lake\nNegative Template: b", {}),
        (f'a lake\nNegative prompt: blurry\n{LINE}, Template: "a, Seed: 5", TI hashes: "e: c74b"', {}),
        (f"a lake\nNegative prompt: blurry\n{LINE}".replace("512x768", '"512x768"'), {}),
        (f"a lake\nNegative prompt: blurry\n{LINE}".replace("dream_8", '"my, v2: x"'), {"model": "my, v2: x"}),
        (f"a lake\nBREAK\nmore\nNegative prompt: blurry\n{LINE}", {"prompt": "a lake\nBREAK\nmore"}),
        (f"Steps: a study, Seed: of light\nNegative prompt: blurry\n{LINE}", {"prompt": "Steps: a study, Seed: of light"}),
        (f"Negative prompt: blurry\n{LINE}", {"prompt": ""}),
        (f"a lake\n{LINE}".replace("7.5", "1e400"), {"negative": "", "guidance": None}),
        (
            '{"prompt": "a lake", "negative_prompt": "blurry", "steps": 20, "seed": "38", "guidance_scale": 7.5, '
            '"resolution": "(512, 768)", "base_model": "dream_8"}',
            {},
        ),
        ('{"sui_image_params": {"prompt": "a lake", "negativeprompt": "blurry", "steps": 20, "seed": 38, '
         '"cfgscale": 7.5, "width": 512, "height": 768, "model": "dream_8"}}', {}),
    ],
)  # fmt: skip
def test_settings_of_other_studios(text: str, more: dict[str, object]) -> None:
    """As their forums and sources show them: line ends, templates below or within, quoted sizes and names, JSON."""
    said = parse_parameters(text)
    assert said is not None
    wanted = {
        "prompt": "a lake", "negative": "blurry", "steps": 20, "seed": 38, "guidance": 7.5, "width": 512,
        "height": 768, "model": "dream_8",
    } | more  # fmt: skip
    assert {name: said.get(name) for name in wanted} == wanted


def test_a_text_of_a_quarter_megabyte_is_read_in_a_moment() -> None:
    """Patterns that scan from every letter to the end would take minutes."""
    for text in ("a" * 250_000, 'a: "' * 60_000, "\n" * 250_000, "Steps: 1, " * 25_000):
        assert parse_parameters(text) is None


def test_utf8_in_a_latin1_chunk_is_read_as_it_was_meant() -> None:
    text = f"湖 at sunset\n{LINE}"
    raw = png_bytes(PIXELS)
    at = 33  # behind the header
    raw = raw[:at] + chunk(b"tEXt", b"parameters\0" + text.encode()) + raw[at:]
    said = read_settings(raw)
    assert said is not None and said["prompt"] == "湖 at sunset"


@pytest.mark.parametrize("raw", [b"", b"\xff\xd8\xff", b"text"])
def test_only_png(raw: bytes) -> None:
    with pytest.raises(BadImage):
        read_settings(raw)


def test_bombs_and_damage_count_as_nothing() -> None:
    bomb = chunk(b"zTXt", b"lcm_studio\0\0" + zlib.compress(b" " * 50_000_000))
    deep = chunk(b"tEXt", b"lcm_studio\0" + b"[" * 100_000)
    odd = chunk(b"iTXt", b"lcm_studio\0")
    array = chunk(b"tEXt", b"lcm_studio\0[1, 2]")
    for middle in (bomb, deep, odd, array):
        assert read_settings(png(4, 4, middle)) is None
    assert read_settings(png(4, 4)[:40]) is None


def test_texts_are_bounded_in_sum_too() -> None:
    """A hundred texts, each under the limit, that inflate to a gigabyte together: only the two known keys are read."""
    packed = zlib.compress(b" " * 10_000_000)
    foreign = [chunk(b"zTXt", b"text%d\0\0" % i + packed) for i in range(100)]
    ours = [chunk(b"zTXt", b"lcm_studio\0\0" + packed) for _ in range(100)]
    last = chunk(b"tEXt", b"parameters\0a\nSteps: 3, Seed: 7")
    tracemalloc.start()
    said = read_settings(png(4, 4, *foreign, *ours, last))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said == {"prompt": "a", "negative": "", "steps": 3, "seed": 7}
    assert most < 15_000_000


def test_settings_behind_the_picture_and_with_a_bad_checksum_are_read() -> None:
    text = chunk(b"tEXt", b'lcm_studio\0{"seed": 7}')
    whole = png(4, 4)
    assert read_settings(whole[:-12] + text + whole[-12:]) == {"seed": 7}
    assert read_settings(png(4, 4, text[:-4] + b"\0\0\0\0")) == {"seed": 7}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"prompt": "a"},
        {"prompt": "a", "seed": "many"},
        {"prompt": "a", "seed": 1, "loras": [1]},
        {"prompt": "a", "seed": 1, "loras": [{"path": "x"}]},
        {"prompt": "a", "seed": 1, "timesteps": ["x"]},
        {"prompt": "a", "seed": float("inf")},
    ],
)
def test_foreign_settings_are_refused(said: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        from_settings(said)
