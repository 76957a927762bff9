"""python -m benchmarks motion: how often the motion that has blurred a picture is found, and how often one that has not."""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
# The limits of `edits.motion_level` were chosen on the first pictures; the others were only tried.
CHOSEN = (
    "astronaut",
    "coffee",
    "rocket",
    "text",
    "grass",
    "coins",
    "house-by-the-sea",
    "sunset-lake",
)
TRIED = (
    "chelsea", "camera", "brick", "gravel", "page", "moon", "immunohistochemistry", "hubble_deep_field", "retina", "horse",
    "lake-in-autumn", "path-to-the-hills",
)  # fmt: skip
MOTIONS = ((5, 20), (7, 0), (9, 30), (15, 60), (15, 90), (21, 135), (31, 10))
LARGEST = 700  # pixels a side that are looked at


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks motion", description=__doc__).parse_args(
        argv
    )
    print(
        "| pictures | motion taken for one in others | found | wrong | not found |\n|---|--:|--:|--:|--:|"
    )
    for title, names in (("chosen on", CHOSEN), ("tried on", TRIED)):
        answers = Counter(answer for name in names for answer in asked(opened(name)))
        still = answers["taken"] + answers["left"]
        blurred = answers["found"] + answers["wrong"] + answers["missed"]
        print(
            f"| {len(names)}, {title} | {answers['taken']} of {still} | {answers['found']} of {blurred} | {answers['wrong']} | "
            f"{answers['missed']} |",
            flush=True,
        )
    return 0


def opened(name: str) -> NDArray[Any]:
    """`(H, W, 3)` uint8: a scene, or a picture of scikit-image."""
    import numpy as np
    from PIL import Image
    from skimage import data

    scene = ROOT / "assets" / "examples" / f"edit-{name}.png"
    picture = (
        np.asarray(Image.open(scene).convert("RGB")) if scene.exists() else getattr(data, name)()
    )
    if picture.dtype != np.uint8:
        picture = (picture * 255).astype(np.uint8)
    if picture.ndim == 2:
        picture = picture[..., None].repeat(3, 2)
    return picture[:LARGEST, :LARGEST, :3]  # type: ignore[no-any-return]


def asked(photo: NDArray[Any]) -> Iterator[str]:
    """taken or left, of what did not move; found (within a pixel or 12%, and 6 degrees), wrong or missed, of what did."""
    from lcm_studio.edits.motion_level import estimate_motion

    for picture in still(photo):
        yield "taken" if estimate_motion(picture) else "left"
    for length, angle in MOTIONS:
        if length > min(photo.shape[:2]) / 5:
            continue
        for picture in moved(photo, length, angle):
            motion = estimate_motion(picture)
            if motion is None:
                yield "missed"
                continue
            off = abs((motion.angle - angle + 90) % 180 - 90)
            right = abs(motion.length - length) <= max(1, 0.12 * length) and off <= 6
            yield "found" if right else "wrong"


def still(photo: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Sharp, out of focus, as JPEG, noisy, smaller, larger."""
    import cv2

    yield photo
    for sigma in (1, 2, 3):
        yield cv2.GaussianBlur(photo, (0, 0), sigma)
    yield jpeg(photo, 80)
    yield noisy(photo, 6)
    yield cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    yield cv2.resize(photo, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)


def moved(photo: NDArray[Any], length: float, angle: float) -> Iterator[NDArray[Any]]:
    """In 8 bits, with noise of 2 of 255, and as JPEG."""
    import cv2
    import numpy as np

    from lcm_studio.operators import motion_kernel

    kernel = motion_kernel(length, angle).numpy()[::-1, ::-1]
    x = cv2.filter2D(photo.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REFLECT)
    clean = noisy(x, 0)
    yield clean
    yield noisy(x, 2)
    yield jpeg(clean, 90)


def noisy(picture: NDArray[Any], sigma: float) -> NDArray[Any]:
    import numpy as np

    noise = np.random.default_rng(0).normal(0, 1, picture.shape) * sigma
    return np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)


def jpeg(picture: NDArray[Any], quality: int) -> NDArray[Any]:
    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
