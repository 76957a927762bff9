"""Products by oneDNN: PyTorch's own sums, wherever a network of the studio runs."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from lcm_studio import dense
from tests.linears import linears


@pytest.fixture(autouse=True)
def _every_product_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "LEAST", 0)


@settings(max_examples=40, deadline=None)
@given(made=linears())
def test_linear_is_pytorchs(made: tuple[nn.Linear, nn.Linear, Tensor]) -> None:
    own, other, x = made
    dense.swap(own)
    with torch.inference_mode():
        torch.testing.assert_close(own(x), other(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("least", [12, 13])  # multiplications; the product has 12
def test_large_products_alone_are_onednns(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr(dense, "LEAST", least)
    monkeypatch.setattr(dense, "available", lambda: True)
    monkeypatch.setattr(dense, "times", lambda x, weight, bias: asked.append(x) or x @ weight.t())
    own = nn.Linear(3, 2)
    dense.swap(own)
    with torch.inference_mode():
        own(torch.ones(2, 3))
    assert len(asked) == (least == 12)
    own(torch.ones(2, 3))  # gradients are on
    assert len(asked) == (least == 12)


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


def test_where_onednn_is_not_there_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    network = nn.Sequential(nn.Linear(4, 4))
    dense.swap(network)
    assert type(network[0]) is nn.Linear
