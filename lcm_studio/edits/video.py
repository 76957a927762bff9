"""Frames as GIF and MP4 files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.images.animation import box_of, text_of
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

FPS = 8


def write_video(
    path: Path, frames: Sequence[Pixels], fps: int = FPS, settings: Mapping[str, Any] | None = None
) -> Path:
    """Writes `.gif` or `.mp4` by the file's ending, with the settings that made it. Raises BadRequest for another one or where it cannot."""
    check_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".gif":
            _write_gif(path, frames, fps, b"" if settings is None else text_of(settings))
            return path
        _write_mp4(path, frames, fps)
        if settings is not None:
            with path.open("ab") as file:
                file.write(box_of(settings))
    except OSError as error:
        raise BadRequest(f"video {path}: cannot be written ({error.strerror or error})") from error
    return path


def check_name(path: Path) -> None:
    """Raises BadRequest for a name that `write_video` cannot write, before anything is made."""
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise BadRequest(f"video {path.name}: use a name that ends in .gif or .mp4")


def _write_gif(path: Path, frames: Sequence[Pixels], fps: int, comment: bytes) -> None:
    from PIL import Image

    first, *rest = [Image.fromarray(f[..., :3]) for f in frames]
    more: dict[str, Any] = {"comment": comment} if comment else {}
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **more)


def _write_mp4(path: Path, frames: Sequence[Pixels], fps: int) -> None:
    """VP9 in MP4, which browsers play; MPEG-4 part 2 where that encoder is missing."""
    import cv2

    height, width = (side + side % 2 for side in frames[0].shape[:2])
    for code in ("vp09", "mp4v"):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
        if not writer.isOpened():
            continue
        for frame in frames:
            bgr = cv2.cvtColor(frame[..., :3], cv2.COLOR_RGB2BGR)
            bottom, right = height - bgr.shape[0], width - bgr.shape[1]
            writer.write(cv2.copyMakeBorder(bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE))
        writer.release()
        return
    raise OSError("this build of OpenCV writes no MP4")
