"""The soak's clients end together, though their requests are never answered."""

from __future__ import annotations

import socket
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.soak import Client, hang_up


@pytest.fixture
def silent() -> Iterator[Any]:
    """A studio that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port, taken = door.getsockname()[1], []

        def take() -> None:
            while True:
                try:
                    taken.append(door.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield SimpleNamespace(link=lambda: HTTPConnection("127.0.0.1", port, timeout=300))
        for link in taken:
            link.close()


def test_clients_that_wait_end_together(silent: Any) -> None:
    end = time.monotonic() + 0.3
    args = Namespace(size=64, steps=2)
    clients = [Client("single", number, silent, args, end) for number in range(8)]
    for client in clients:
        client.start()
    time.sleep(0.3)
    assert hang_up(clients) == 0
    assert not any(client.tally.errors for client in clients), "what was cut off is no error"
    assert all(client.tally.cut > 0 for client in clients)
