"""Products by oneDNN: PyTorch's own sums, wherever a network of the studio runs."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lcm_studio import dense
from lcm_studio.device import Placement, prepare


@pytest.fixture(autouse=True)
def _every_product_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "LEAST", 0)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(1, 9), min_size=0, max_size=3),
    width=st.integers(1, 33),
    out=st.integers(1, 33),
    bias=st.booleans(),
)
def test_linear_is_pytorchs(rows: list[int], width: int, out: int, bias: bool) -> None:
    torch.manual_seed(width)
    own = nn.Linear(width, out, bias=bias)
    other = copy.deepcopy(own)
    dense.swap(own)
    x = torch.randn(*rows, width)
    with torch.inference_mode():
        torch.testing.assert_close(own(x), other(x), rtol=1e-5, atol=1e-5)


def test_what_is_not_float32_or_wants_gradients_is_left_to_pytorch() -> None:
    own = nn.Linear(8, 4)
    other = copy.deepcopy(own)
    dense.swap(own)
    x = torch.randn(3, 8, requires_grad=True)
    own(x).sum().backward()
    assert x.grad is not None
    for dtype in (torch.float64, torch.bfloat16):
        with torch.inference_mode():
            assert torch.equal(own.to(dtype)(x.to(dtype)), other.to(dtype)(x.to(dtype)))


def test_networks_of_the_studio_take_it_on_the_cpu_in_float32() -> None:
    for dtype, wanted in (("fp32", dense.Linear), ("bf16", nn.Linear)):
        network = prepare(nn.Sequential(nn.Linear(4, 4)), Placement(dtype=dtype))
        assert type(network[0]) is wanted


def test_where_onednn_is_not_there_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    network = nn.Sequential(nn.Linear(4, 4))
    dense.swap(network)
    assert type(network[0]) is nn.Linear
