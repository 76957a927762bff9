"""app.py's flags: quick help, loopback unless told otherwise, and a page that is up before torch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcm_studio.spec.passwords import matches
from lcm_studio.web import flags

ROOT = Path(__file__).resolve().parents[3]


def seconds(*command: str) -> float:
    best = 1e9
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
        best = min(best, time.perf_counter() - started)
    return best


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = "import sys; from lcm_studio.web import flags; flags.parser().format_help(); print([m for m in ('gradio', 'torch', 'numpy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
    assert seconds("app.py", "--help") - seconds("-c", "pass") < 0.5


@pytest.mark.parametrize(
    "given, words",
    [
        (["--host", "0.0.0.0"], "--insecure-no-auth"),
        (["--auth", "ann"], "users' file"),
        (["--auth", "ann:"], "USER:PASS"),
        (["--queue-size", "-1"], "queue-size"),
        (["--port", "0"], "port"),
        (["--allow-origin", "studio.example"], "https://studio.example"),
        (["--models-dir", "/none/at/all"], "is no folder"),
        (["--embeddings-dir", "/none/at/all"], "is no folder"),
        (["--trusted-proxy", "proxy.example"], "an address or a network"),
    ],
)
def test_flags_that_do_not_fit_are_one_sentence(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        flags.read_options(given)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_flags_become_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LCM_STUDIO_AUTH", raising=False)
    plain = flags.read_options([])
    assert plain.local and plain.offline and not plain.users and plain.free_paths
    told = flags.read_options(
        [
            "--host",
            "0.0.0.0",
            "--auth",
            "ann:s:ecret",
            "--outputs",
            str(tmp_path),
            "--online",
            "--queue-size",
            "3",
            "--trusted-proxy",
            "10.0.0.0/8",
        ]
    )
    assert matches("s:ecret", told.users["ann"]) and not told.offline and told.outputs == tmp_path
    assert not told.local and told.free_paths and told.queue_size == 3
    assert told.trusted_proxies == ("10.0.0.0/8",)
    assert not flags.read_options(["--host", "0.0.0.0", "--insecure-no-auth"]).free_paths


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "app.py", "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 2
    assert (
        f":{port}" in ended.stderr and "--port" in ended.stderr and "Traceback" not in ended.stderr
    )


def test_the_page_is_served_before_torch_is_imported() -> None:
    code = """
import sys, threading
from starlette.testclient import TestClient
from lcm_studio.web.app import build_app, engine_for
from lcm_studio.web.options import Options
with TestClient(build_app(engine_for, Options(preload=False)), base_url="http://127.0.0.1:7860") as client:
    page = client.get("/")
    assert page.status_code == 200 and "lcm-splash" in page.text, page.text[:300]
    assert client.get("/gradio_api/info").status_code == 200
    assert client.get("/studio/state").json()["status"] == "idle"
    print([m for m in ("torch", "diffusers", "transformers") if m in sys.modules])
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert ended.stdout.strip() == "[]", ended.stdout + ended.stderr


def test_folders_of_dead_runs_are_swept(tmp_path: Path) -> None:
    from lcm_studio.web.server import folders

    first, lock = folders.private_folder(tmp_path)
    (first / "upload.png").write_bytes(b"x")
    second, other = folders.private_folder(tmp_path)
    assert first.exists(), "a living run keeps its folder"
    assert first.stat().st_mode & 0o077 == 0
    lock.close()
    third, last = folders.private_folder(tmp_path)
    assert not first.exists() and second.exists() and third.exists()
    other.close()
    last.close()
