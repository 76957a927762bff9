"""Answers of users to "which kind is this file", kept by the file's contents, so that a new name does not lose them."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from lcm_studio.models.kinds.rows import kind_of
from lcm_studio.spec.kept import data_folder, read_kept, write_kept
from lcm_studio.spec.regular import open_regular

SAMPLES = 16
BLOCK = 4096
MOST = 10_000


def default_file() -> Path:
    """`kinds.json` in $LCM_STUDIO_HOME, else in the user's data folder."""
    return data_folder() / "kinds.json"


def fingerprint(path: Path) -> str:
    """A hash of a file's size and of blocks spread over it, or of a folder's index and configs. Raises OSError."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted((*path.glob("*.json"), *path.glob("*/*.safetensors"))):
            digest.update(fingerprint(file).encode())
        return digest.hexdigest()
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open_regular(path) as data:
        for i in range(SAMPLES):
            data.seek(i * max(0, size - BLOCK) // (SAMPLES - 1))
            digest.update(data.read(BLOCK))
    return digest.hexdigest()


class KindMemory:
    """The answers in one JSON file; what cannot be read or written is no answer, and no error."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or default_file()
        self._lock = threading.Lock()

    def recall(self, path: Path) -> str | None:
        """The name of a kind, or None where nobody was asked."""
        answers = self._read()
        if not answers:
            return None
        try:
            return answers.get(fingerprint(path))
        except OSError:
            return None

    def remember(self, path: Path, kind: str) -> None:
        """Keeps an answer. Raises BadRequest for a kind that is none."""
        kind_of(kind)
        with self._lock:
            try:
                answers = {**self._read(), fingerprint(path): kind}
                while len(answers) > MOST:
                    answers.pop(next(iter(answers)))
            except OSError:
                return
            write_kept(self.file, answers)

    def _read(self) -> dict[str, str]:
        return {name: kind for name, kind in read_kept(self.file).items() if isinstance(kind, str)}
