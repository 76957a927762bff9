"""Layers by oneDNN and gradients made later: the sums of PyTorch's own layers, wherever and whenever they are made."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests import tiny
from tests.linears import linears
from training import layers
from training.ahead import beside
from training.layers import Conv2d, Later, Linear

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("two_threads")


def near(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> bool:
    a, b = a.detach(), b.detach()
    return float((a - b).norm()) <= tolerance * float(b.norm()) + 1e-12


def network() -> nn.Module:
    torch.manual_seed(0)
    found = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 12, 1),
        nn.Conv2d(12, 16, 3, stride=2, padding=1, bias=False),
        nn.Flatten(2),
        nn.Linear(16, 10),
        nn.SiLU(),
        nn.Linear(10, 5, bias=False),
    )
    return found.to(memory_format=torch.channels_last)


def gradients(of: nn.Module, x: Tensor, later: Later | None = None) -> dict[str, Tensor]:
    """Of a loss that every weight has a say in; with the input's under "x"."""
    x = x.clone().requires_grad_()
    loss = of(x).square().mean()
    if later is None:
        loss.backward()
    else:
        with later.gathering():
            loss.backward()
    found = {name: p.grad for name, p in of.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {**found, "x": x.grad}


@settings(max_examples=40, deadline=None)
@given(made=linears())
def test_linear_is_pytorchs(made: tuple[nn.Linear, nn.Linear, Tensor]) -> None:
    own, other, x = made
    layers.swap(own)
    a, b = gradients(own, x), gradients(other, x)
    assert near(own(x), other(x))
    assert a.keys() == b.keys()
    assert all(near(a[name], b[name]) for name in b)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(3, 9), st.integers(3, 9)),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    bias=st.booleans(),
    last=st.booleans(),
)
def test_convolutions_are_pytorchs(
    size: tuple[int, int, int], channels: tuple[int, int], kernel: int, stride: int, bias: bool, last: bool
) -> None:  # fmt: skip
    torch.manual_seed(sum(channels))
    own = nn.Conv2d(*channels, kernel, stride=stride, padding=kernel // 2, bias=bias)
    other = copy.deepcopy(own)
    layers.swap(own)
    x = torch.randn(size[0], channels[0], *size[1:])
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    a, b = gradients(own, x), gradients(other, x)
    assert near(own(x), other(x))
    with torch.no_grad():
        assert near(own(x), other(x))
    assert all(near(a[name], b[name]) for name in b)


def test_only_plain_layers_are_swapped_and_nothing_else_changes() -> None:
    class Own(nn.Linear):
        pass

    made = nn.ModuleList(
        [
            nn.Linear(2, 2),
            nn.Conv2d(2, 2, 3),
            Own(2, 2),
            nn.Conv2d(2, 2, 3, padding="same"),
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
            nn.Conv1d(2, 2, 1),
        ]
    )
    before = {name: value.clone() for name, value in made.state_dict().items()}
    layers.swap(made)
    kinds = [type(layer) for layer in made]
    assert kinds == [Linear, Conv2d, Own, nn.Conv2d, nn.Conv2d, nn.Conv1d]
    after = made.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert type(copy.deepcopy(made)[0]) is Linear


def test_a_unet_gives_the_same_gradients() -> None:
    made: Any = tiny.unet()
    other = copy.deepcopy(made)
    layers.swap(made)
    torch.manual_seed(1)
    x, t = torch.randn(2, made.config.in_channels, 8, 8), torch.tensor([3, 700])
    told = torch.randn(2, 7, made.config.cross_attention_dim)
    found = []
    for unet in (made, other):
        unet(x, t, encoder_hidden_states=told).sample.square().mean().backward()
        found.append({name: p.grad for name, p in unet.named_parameters()})
    whole = torch.cat([g.flatten() for g in found[1].values() if g is not None])
    apart = [
        (found[0][name] - g).norm() for name, g in found[1].items() if g is not None
    ]  # of each layer; some have next to no gradient, so the bound is of the whole
    assert float(torch.stack(apart).norm()) <= 2e-5 * float(whole.norm())


@pytest.mark.parametrize("helps", [True, False])
def test_later_gives_the_bits_of_at_once(helps: bool) -> None:
    plain = network()
    layers.swap(plain)
    waiting = copy.deepcopy(plain)
    x = torch.randn(4, 3, 8, 8)
    with beside(True, CPU) as second:
        assert second is not None
        later = Later(second, 1 if helps else 2)
        layers.leave(waiting, later)
        for _ in range(3):  # gradients add up, as in micro-steps
            one, two = gradients(plain, x), gradients(waiting, x, later)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
        for p in waiting.parameters():
            assert p.grad is not None
            last = torch.channels_last if p.ndim == 4 else torch.contiguous_format
            assert p.grad.is_contiguous(memory_format=last)


def test_a_layer_that_is_used_twice_gets_both_gradients() -> None:
    shared = nn.Linear(6, 6)
    layers.swap(shared)
    other = copy.deepcopy(shared)
    x = torch.randn(3, 5, 6)
    with beside(True, CPU) as second:
        assert second is not None
        later = Later(second, 1)
        layers.leave(shared, later)
        assert torch.equal(copy.deepcopy(shared)(x), shared(x))  # validation may copy a network
        with later.gathering():
            shared(shared(x).tanh()).square().sum().backward()
    other(other(x).tanh()).square().sum().backward()
    for p, q in zip(shared.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)  # type: ignore[arg-type]


def test_frozen_weights_and_frozen_inputs_get_none() -> None:
    made = network()
    layers.swap(made)
    frozen: Any = made[5]
    frozen.weight.requires_grad_(False)
    with beside(True, CPU) as second:
        assert second is not None
        later = Later(second, 1)
        layers.leave(made, later)
        with later.gathering():
            made(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert frozen.weight.grad is None
    assert frozen.bias.grad is not None
    assert all(p.grad is not None for p in made.parameters() if p.requires_grad)


def test_faults_of_either_thread_come_out_and_the_second_goes_on() -> None:
    with beside(True, CPU) as second:
        assert second is not None
        later = Later(second, 1)

        def fails() -> tuple[Tensor]:
            raise MemoryError("no room")

        held = threading.Event()
        second.start(held.wait)  # it cannot take the task: the thread of the pass will
        with pytest.raises(MemoryError), later.gathering():
            assert later.takes((nn.Parameter(torch.zeros(1)),), fails)
            held.set()
        with pytest.raises(RuntimeError, match="of the pass"), later.gathering():
            raise RuntimeError("of the pass")
        assert second.start(lambda: 7)() == 7
        assert not later.takes((), tuple)  # outside of a pass nobody would make it
