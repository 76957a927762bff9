"""What app.py's flags decide, as one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lcm_studio.spec.requests import BUNDLED_MODEL

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """`engine`: the address of engines elsewhere, "" = one in this process. `queue_size`: requests that may wait while others are in work.

    `outputs`: a folder that keeps every picture; None = a private folder, swept at the next start.
    `users`: names and password hashes (`spec.passwords`); none: nobody signs in. `allow_origins`: further origins the page may be served under,
    e.g. https://studio.example. `trusted_proxies`: addresses or networks of reverse proxies whose
    X-Forwarded-For is believed. `body_limit`: bytes of one upload; `lora_limit`: of one LoRA file; `model_limit`: of one checkpoint.
    `data_dirs`: folders that jobs may read. `models_dirs`, `embeddings_dirs`: of models and textual inversions, beside the engine's own. `mcp_token`: opens /mcp to other programs; None = there is no /mcp.
    """

    model: str = BUNDLED_MODEL
    engine: str = ""
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "auto"
    host: str = "127.0.0.1"
    port: int = 7860
    users: Mapping[str, str] = field(default_factory=dict)
    allow_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    queue_size: int = 32
    outputs: Path | None = None
    data_dirs: tuple[Path, ...] = field(default_factory=tuple)
    models_dirs: tuple[Path, ...] = ()
    embeddings_dirs: tuple[Path, ...] = ()
    offline: bool = True
    body_limit: int = 64 * 1024 * 1024
    lora_limit: int = 1024 * 1024 * 1024
    model_limit: int = 16 * 1024 * 1024 * 1024
    preload: bool = True
    mcp_token: str | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK

    @property
    def free_paths(self) -> bool:
        """Whether the page may name models by path: its users are known (this machine, or signed in)."""
        return self.local or bool(self.users)
