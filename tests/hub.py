"""A Hugging Face hub on the loopback: folders as repositories, spoken as far as `huggingface_hub` asks.

Small text is served by the hub itself, anything else by a redirect to a content address, as the real one does.
Faults are set by a part of the path: an HTTP status, or DROP to break the connection off in the middle. An answer that is `held`
waits for its event.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
DROP = 0
TEXT = (".json", ".jsonl", ".txt", ".md", ".py")
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree)/([^/]+)")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """`with Hub() as hub`: serves `publish`ed folders and keeps what was asked for in `log`."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.log: list[tuple[str, str]] = []
        self.faults: dict[str, int] = {}
        self.held: dict[str, threading.Event] = {}
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (_Answer,), {"hub": self})
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.elsewhere = self.url.replace(
            "127.0.0.1", "localhost"
        )  # redirects within a host are followed at once
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def publish(self, name: str, folder: Path, *, kind: str = "models") -> None:
        """The files of `folder`, as they are now, under `owner/name`."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.repositories[kind, name] = files
        self.blobs |= {hashlib.sha256(data).hexdigest(): data for data in files.values()}

    def commit(self, kind: str, name: str) -> str:
        """The hash of a repository's content."""
        listing = [
            (path, hashlib.sha256(data).hexdigest())
            for path, data in self.repositories[kind, name].items()
        ]
        return hashlib.sha1(json.dumps([kind, name, listing]).encode()).hexdigest()

    def fetched(self) -> set[str]:
        """The names of the files that were downloaded or asked about."""
        found = (_FILE.fullmatch(path) for _, path in self.log)
        return {match[4] for match in found if match is not None}

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """What makes a process use this hub, with its cache in `home`."""
        dropped = ("HF_", "HUGGING", "TRANSFORMERS_", "LCM_STUDIO_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        kept = {k: v for k, v in kept.items() if not k.lower().endswith("_proxy")}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
        return {**kept, **ours, "PYTHONPATH": str(ROOT), **more}


class _Answer(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Tests read `log`."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append((self.command, path))
        for part, released in self.hub.held.copy().items():
            if part in path:
                released.wait(120)
        fault = next((f for part, f in self.hub.faults.items() if part in path), None)
        if fault:
            self._send(fault, b"out of order")
        elif path.startswith("/blobs/"):
            self._blob(self.hub.blobs[path.removeprefix("/blobs/")], drop=fault == DROP)
        elif match := _API.fullmatch(path):
            self._api(match[1], match[2], match[3], drop=fault == DROP)
        elif match := _FILE.fullmatch(path):
            self._file(match[1] or "models", match[2], match[4])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _api(self, kind: str, name: str, what: str, *, drop: bool) -> None:
        files = self.hub.repositories.get((kind, name))
        if files is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        said: object
        if what == "revision":
            said = {"id": name, "sha": self.hub.commit(kind, name), "siblings": []}
        else:
            said = [self._entry(path, data) for path, data in files.items()]
        self._blob(json.dumps(said).encode(), drop=drop, kind="application/json")

    @staticmethod
    def _entry(path: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data)}
        entry["oid"] = hashlib.sha1(data).hexdigest()
        if not path.endswith(TEXT):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
        return entry

    def _file(self, kind: str, name: str, path: str) -> None:
        files = self.hub.repositories.get((kind, name), {})
        if path not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = files[path]
        headers = {"X-Repo-Commit": self.hub.commit(kind, name)}
        if path.endswith(TEXT):
            headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'
            self._send(200, data, headers)
            return
        digest = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self._send(302, b"", {**headers, "Location": f"{self.hub.elsewhere}/blobs/{digest}"})

    def _blob(self, data: bytes, *, drop: bool, kind: str = "application/octet-stream") -> None:
        """All of it or the range that is asked for; with `drop` half of it, and then nothing more."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        headers = {"Content-Type": kind}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        whole = data[start:]
        sent = whole[: 0 if asked else len(whole) // 2] if drop else whole
        self._send(206 if asked else 200, sent, headers, length=len(whole))
        self.close_connection = self.close_connection or drop

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str] = {}, *, length: int | None = None
    ) -> None:  # fmt: skip
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def run(
    environment: Mapping[str, str], module: str, *argv: str, patient: bool = True
) -> subprocess.CompletedProcess[str]:
    """`python -m module argv` in a process of its own; without patience nobody sleeps between tries."""
    code = (
        "import runpy, sys, time;"
        f"time.sleep = time.sleep if {patient} else lambda seconds: None;"
        f"sys.argv = [{module!r}, *sys.argv[1:]];"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *argv], env=dict(environment), cwd=ROOT,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
