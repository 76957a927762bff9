"""Fixtures of the trainer's tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch says that it has two threads and works on one: regions of two crawl on a busy machine."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
