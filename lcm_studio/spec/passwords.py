"""Users and their passwords: one pair on the command line, or a file of names with salted scrypt hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.regular import read_regular

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
N, R, P = 2**14, 8, 1  # 16 MB and about 50 ms a try
MAX_FILE = 1024 * 1024


def hashed(password: str, *, salt: bytes | None = None) -> str:
    """`scrypt$N$r$p$salt$hash`, salt and hash in hexadecimal digits."""
    salt = salt or secrets.token_bytes(16)
    return f"scrypt${N}${R}${P}${salt.hex()}${_scrypt(password, salt, N, R, P).hex()}"


def matches(password: str, stored: str) -> bool:
    """Whether `password` is the one that `hashed` made `stored` of."""
    kind, n, r, p, salt, digest = stored.split("$")
    made = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return kind == "scrypt" and hmac.compare_digest(made, bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=2**26, dklen=32
    )


def read_users(path: Path) -> dict[str, str]:
    """{name: hash} of a file with one `NAME:HASH` a line; `#` starts a remark. Raises BadRequest."""
    try:
        lines = read_regular(path, MAX_FILE).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadRequest(f"the users' file {path} cannot be read: {error}") from error
    users: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, colon, stored = line.strip().partition(":")
        if not name or name.startswith("#"):
            continue
        if not colon or not NAME.fullmatch(name) or not well_formed(stored):
            raise BadRequest(
                f"line {number} of {path} is no NAME:HASH; add users with `python -m lcm_studio users {path} NAME`"
            )
        users[name] = stored
    if not users:
        raise BadRequest(
            f"{path} names no user; add one with `python -m lcm_studio users {path} NAME`"
        )
    return users


def well_formed(stored: str) -> bool:
    """Whether it is a hash of ours, at a cost that cannot hold the server up."""
    parts = re.fullmatch(
        r"scrypt\$(\d{1,6})\$(\d{1,2})\$(\d)\$([0-9a-f]{32})\$([0-9a-f]{64})", stored
    )
    return parts is not None and 128 * int(parts[1]) * int(parts[2]) <= 2**25


def add_user(path: Path, name: str, password: str) -> None:
    """Adds a user, or gives one a new password; the file is private to its owner."""
    if not NAME.fullmatch(name):
        raise BadRequest(f"{name!r} is no user name; use letters, digits, dot, dash, _ and @")
    if len(password) < 8:
        raise BadRequest("the password is too short; use at least 8 characters")
    users = read_users(path) if path.exists() else {}
    text = "".join(f"{n}:{h}\n" for n, h in {**users, name: hashed(password)}.items())
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def single(user: str, password: str) -> Mapping[str, str]:
    """The users of `--auth USER:PASS`."""
    return {user: hashed(password)}
