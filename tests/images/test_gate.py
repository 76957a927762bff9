"""The image gate: bombs are refused, odd pictures come out right."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcm_studio.images import Gate, flatten, read_image
from lcm_studio.spec.errors import BadImage, TooLarge


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *middle: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * (1 + 3 * min(width, 4)) * min(height, 4)))
    parts = [chunk(b"IHDR", header), *middle, body, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def ramp() -> np.ndarray:
    return np.stack([np.tile(np.arange(0, 64, dtype=np.uint8) * 4, (32, 1))] * 3, axis=-1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_plain_pictures_come_through_exactly(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encoded(Image.fromarray(ramp()), kind, **options)
    assert np.array_equal(read_image(raw), ramp())
    path = tmp_path / "picture"
    path.write_bytes(raw)
    assert np.array_equal(read_image(path), ramp())


def test_jpeg_is_close() -> None:
    pixels = read_image(encoded(Image.fromarray(ramp()), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - ramp()).max() < 12


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    raw = encoded(Image.fromarray(values))
    assert read_image(raw)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("I", 40_000, (156, 156, 156)),
        ("F", 0.5, (128, 128, 128)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
    ],
)
def test_every_mode(mode: str, value: object, expected: tuple[int, int, int]) -> None:
    pixels = read_image(Image.new(mode, (4, 4), value))
    assert pixels.shape == (4, 4, 3)
    assert np.abs(pixels[0, 0].astype(int) - expected).max() <= 1


def test_cmyk_jpeg() -> None:
    pixels = read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert pixels[8, 8, 0] > 240
    assert pixels[8, 8, 1] < 20


def test_hidden_colour_does_not_show() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert read_image(encoded(image)).tolist() == np.full((4, 4, 3), 255).tolist()
    kept = read_image(encoded(image), alpha="keep")
    assert kept.shape == (4, 4, 4)
    assert flatten(kept, background=0).max() == 0


def test_opaque_alpha_is_dropped_and_half_alpha_is_mixed() -> None:
    assert read_image(Image.new("RGBA", (2, 2), (9, 8, 7, 255)), alpha="keep").shape == (2, 2, 3)
    half = read_image(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))
    assert half[0, 0].tolist() == [127, 127, 127]


def test_palette_with_a_transparent_entry() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    pixels = read_image(encoded(image, transparency=0))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int) -> None:
    source = Image.fromarray(ramp())
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = source if undo[orientation] is None else source.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(encoded(stored, exif=exif)), ramp())


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(raw)[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not a picture",
        b"GIF89a" + b"\0" * 64,
        b"BM" + b"\0" * 64,
        b"%PDF-1.4",
        b"\x80\x04cos\nsystem\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff" + b"\0" * 30,
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_other_files_are_refused(raw: bytes) -> None:
    with pytest.raises(BadImage):
        read_image(raw)


def test_cut_short() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    raw = encoded(Image.fromarray(noise))
    with pytest.raises(BadImage):
        read_image(raw[: len(raw) // 2])


@pytest.mark.parametrize("side", [13_000, 60_000, 2**31 - 1])
def test_header_bombs_are_refused_at_once(side: int) -> None:
    started = time.perf_counter()
    with pytest.raises(BadImage, match=r"too large|damaged"):
        read_image(png(side, side))
    assert time.perf_counter() - started < 1.0


def test_pixel_bomb_costs_no_memory() -> None:
    row = zlib.compressobj(9)
    data = b"".join(row.compress(b"\0" * 13_001) for _ in range(1000)) + row.flush()
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 0, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    with pytest.raises(BadImage, match="megapixels"):
        read_image(raw)


def inserted(raw: bytes, *chunks: bytes) -> bytes:
    return raw[:33] + b"".join(chunks) + raw[33:]


NOISE = np.random.default_rng(2).integers(0, 256, 1_200_000, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"node " * 600_000)),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"node " * 600_000)),
        chunk(b"tEXt", b"workflow\0" + b"node " * 600_000),
        chunk(b"iCCP", b"printer\0\0" + zlib.compress(NOISE)),
        chunk(b"iCCP", b"printer\0\0not zlib"),
        chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0",
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 80_000_000)),
    ],
    ids=["zTXt", "iTXt", "tEXt", "large ICC", "broken ICC", "bad checksum", "bomb"],
)
def test_texts_and_profiles_say_nothing_about_the_pixels(extra: bytes) -> None:
    """They are not even inflated: a large workflow, profile or a damaged note leaves the picture as it is."""
    raw = inserted(encoded(Image.fromarray(ramp())), extra)
    tracemalloc.start()
    assert np.array_equal(read_image(raw), ramp())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(raw) + 2_000_000


@pytest.mark.parametrize("name", ["XML:com.adobe.xmp", "Raw profile type exif"])
def test_rotation_in_a_text_is_applied(name: str) -> None:
    texts = {
        "XML:com.adobe.xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>',
        "Raw profile type exif": b"\nexif\n      32\n"
        + (b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
        .hex()
        .encode(),
    }
    kind, head = (b"iTXt", b"\0\0\0\0\0") if name.startswith("XML") else (b"zTXt", b"\0\0")
    body = texts[name] if kind == b"iTXt" else zlib.compress(texts[name])
    stored = Image.fromarray(ramp()).transpose(Image.Transpose.ROTATE_90)
    raw = inserted(encoded(stored), chunk(kind, name.encode() + head + body))
    assert np.array_equal(read_image(raw), ramp())


def test_a_colour_key_is_transparency() -> None:
    image = Image.fromarray(np.array([[[9, 8, 7], [9, 8, 6]]], dtype=np.uint8))
    raw = encoded(image, transparency=(9, 8, 7))
    assert read_image(raw)[0].tolist() == [[255, 255, 255], [9, 8, 6]]
    assert read_image(raw, alpha="keep")[0].tolist() == [[9, 8, 7, 0], [9, 8, 6, 255]]


def test_a_colour_key_of_sixteen_bits() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x0100, 0x0200, 0x0300)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)),
        chunk(b"IDAT", zlib.compress(row)),
        chunk(b"IEND", b""),
    ]
    pixels = read_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert pixels[0].tolist() == [[255, 255, 255], [1, 2, 3]]
    grey = Image.fromarray(np.array([[4000, 40000]], dtype=np.uint16))
    kept = read_image(
        inserted(encoded(grey), chunk(b"tRNS", struct.pack(">H", 4000))), alpha="keep"
    )
    assert kept[0, :, 3].tolist() == [0, 255]


def test_a_phones_jpeg_with_a_second_picture() -> None:
    image = Image.fromarray(ramp())
    raw = encoded(image, "MPO", save_all=True, append_images=[image.resize((16, 8))], quality=95)
    assert np.abs(read_image(raw).astype(int) - ramp()).max() < 12


def test_a_pipe_is_refused_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadImage, match="cannot be read"):
        read_image(tmp_path / "a.png")


def test_size_limits_have_a_remedy() -> None:
    gate = Gate(max_pixels=100, max_bytes=10_000, min_side=4)
    with pytest.raises(BadImage, match="at most"):
        read_image(encoded(Image.new("RGB", (20, 20))), gate=gate)
    with pytest.raises(BadImage, match="at least 4"):
        read_image(encoded(Image.new("RGB", (2, 20))), gate=gate)
    with pytest.raises(BadImage, match="MB"):
        read_image(b"\x89PNG\r\n\x1a\n" + b"\0" * 20_000, gate=gate)


def test_missing_and_odd_paths() -> None:
    for name in ("missing.png", "nul\0.png", "x" * 5000, "."):
        with pytest.raises(BadImage):
            read_image(name)


def test_infinite_values_are_refused() -> None:
    image = Image.fromarray(np.full((2, 2), np.inf, dtype=np.float32))
    with pytest.raises(BadImage, match="infinite"):
        read_image(image)


def test_random_bytes_never_crash() -> None:
    random = np.random.default_rng(1)
    whole = encoded(Image.fromarray(ramp()))
    for _ in range(150):
        raw = bytearray(whole)
        for at in random.integers(8, len(raw), size=6):
            raw[at] = int(random.integers(0, 256))
        try:
            assert read_image(bytes(raw)).dtype == np.uint8
        except BadImage:
            continue


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_beyond_the_limit_is_made_smaller_where_that_is_asked_for(kind: str) -> None:
    gate = Gate(max_pixels=900, max_side=40)
    data = encoded(Image.fromarray(ramp()), kind, **({"quality": 95} if kind == "JPEG" else {}))
    with pytest.raises(TooLarge, match="64 x 32 pixels is too large"):
        read_image(data, gate=gate)
    made = read_image(data, gate=gate, fit=True)
    assert made.shape == (20, 40, 3)
    columns = made.astype(int).mean(axis=(0, 2))
    assert abs(columns - np.linspace(1, 251, 40)).max() < 6, "as before, only smaller"
    small = encoded(Image.fromarray(ramp()[:10, :20]))
    assert np.array_equal(read_image(small, gate=gate, fit=True), ramp()[:10, :20])
    with pytest.raises(BadImage, match="too large") as refused:
        read_image(png(60_000, 60_000), fit=True)
    assert not isinstance(refused.value, TooLarge)
    with pytest.raises(BadImage) as refused:
        read_image(png(60_000, 60_000))
    assert not isinstance(refused.value, TooLarge), "nothing is offered that does not help"
