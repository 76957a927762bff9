"""Opening files that a request, a folder or a shard names: regular files only, so that a pipe or device blocks nobody."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class NotRegular(OSError):
    """A named pipe, a socket, a device or a folder where a file is wanted."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(errno.EINVAL, "it is no regular file", str(path))


def open_regular(path: str | Path) -> BinaryIO:
    """The file, open for reading. Raises OSError, NotRegular for what is no regular file, ValueError for a NUL in it.

    The check is made on the open file: nothing can take its place in between, and opening does not wait.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NotRegular(path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | Path, limit: int) -> bytes:
    """All bytes of a regular file. Raises OSError (EFBIG where it is longer than `limit` bytes), as `open_regular`."""
    with open_regular(path) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return raw
