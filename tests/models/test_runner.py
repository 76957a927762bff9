"""Runners and their backends: torch at once, a checked program later, torch again where one fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lcm_studio.models.backends import Backend, Runner
from lcm_studio.models.backends.call import Call
from lcm_studio.models.backends.copies import shared_copy, weights_key


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, x: Tensor, *, by: Tensor | None = None) -> Tensor:
        return self.weight * x if by is None else self.weight * x * by


def called(network: Any, *args: Any, **kwargs: Any) -> Tensor:
    answer: Tensor = network(*args, **kwargs)
    return answer


class Fake:
    """A builder whose programs add `error` to the right answer, or raise."""

    name = "fake"
    tolerance = 1e-3

    def __init__(self, error: float = 0.0, fault: Exception | None = None) -> None:
        self.error = error
        self.fault = fault
        self.sources = 0
        self.served: list[tuple[int, ...]] = []
        self.hold: threading.Event | None = None

    def source(self, network: nn.Module, function: Any, call: Call) -> Fake:
        if self.hold is not None:
            self.hold.wait(20)
        self.sources += 1
        self.network = network
        return self

    def program(self, tensors: tuple[Tensor, ...]) -> Callable[[tuple[Tensor, ...]], Tensor]:
        def run(tensors: tuple[Tensor, ...]) -> Tensor:
            self.served.append(tuple(tensors[0].shape))
            if self.fault is not None and len(self.served) > 1:
                raise self.fault
            answer: Tensor = self.network(*tensors) + self.error
            return answer

        return run


@pytest.fixture
def made() -> Iterator[Callable[..., tuple[Runner, Backend, Fake]]]:
    backends: list[Backend] = []

    def make(wait: bool = False, **more: Any) -> tuple[Runner, Backend, Fake]:
        fake = Fake(**more)
        backend = Backend(fake, wait=wait, delay=0)
        backends.append(backend)
        return backend.runner(Twice(), called, "twice"), backend, fake

    yield make
    for backend in backends:
        backend.close()


def test_torch_answers_until_the_program_is_there(made: Any) -> None:
    runner, backend, fake = made()
    fake.hold = threading.Event()
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(runner(x), 2 * x)
    assert not fake.served
    fake.hold.set()
    assert backend.settle(20)
    assert fake.served == [(2, 3)]  # checked once
    assert torch.equal(runner(x), 2 * x)
    assert len(fake.served) == 2


def test_rows_are_padded_to_few_sizes(made: Any) -> None:
    runner, _, fake = made(wait=True)
    for rows in (5, 6):
        x = torch.rand(rows, 3)
        assert torch.equal(runner(x), 2 * x)
    assert runner.programs == 1
    assert set(fake.served) == {(6, 3)}


def test_one_source_serves_all_sizes_and_another_layout_has_its_own(made: Any) -> None:
    runner, _, fake = made(wait=True)
    runner(torch.rand(2, 3))
    runner(torch.rand(4, 5))
    assert (runner.programs, fake.sources) == (2, 1)
    x = torch.rand(2, 3)
    assert torch.equal(runner(x, by=torch.full((2, 1), 3.0)), 6 * x)
    assert fake.sources == 2


def test_a_program_that_answers_otherwise_is_not_used(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runner, _, fake = made(wait=True, error=0.1)
    x = torch.ones(2, 3)
    for _ in range(3):
        assert torch.equal(runner(x), 2 * x)
    assert (runner.programs, len(fake.served)) == (0, 1)
    assert [r.message for r in caplog.records] == [
        "twice stays with torch: fake differs by 5.0e-02"
    ]


def test_a_program_that_fails_later_gives_way_to_torch(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runner, _, _ = made(wait=True, fault=RuntimeError("gone\nmore"))
    x = torch.ones(2, 3)
    for _ in range(2):
        assert torch.equal(runner(x), 2 * x)
    assert [r.message for r in caplog.records] == ["twice goes back to torch: RuntimeError: gone"]


def test_memory_that_is_out_is_the_callers_matter(made: Any) -> None:
    runner, _, fake = made()
    x = torch.ones(2, 3)
    runner(x)
    runner.backend.settle(20)
    fake.fault = torch.OutOfMemoryError("full")
    with pytest.raises(torch.OutOfMemoryError):
        runner(x)


def test_a_set_of_loras_is_taken_in_once_it_stays(made: Any) -> None:
    from lcm_studio.models.backends.runner import PATIENCE

    runner, backend, fake = made()
    x = torch.ones(2, 3)
    for turn in range(3 * PATIENCE):  # two sets in turn
        runner.variant = ("a",) if turn % 2 else ("b",)
        runner(x)
    assert fake.sources == 0
    for _ in range(PATIENCE):
        runner(x)
    assert backend.settle(20)
    assert fake.sources == 1


def test_only_so_many_programs_are_kept(made: Any) -> None:
    from lcm_studio.models.backends.runner import SHAPES

    runner, _, fake = made(wait=True)
    for size in range(1, SHAPES + 3):
        runner(torch.ones(1, size))
    assert runner.programs == SHAPES
    before = len(fake.served)
    runner(torch.ones(1, 1))  # the oldest went: it is asked for again
    assert len(fake.served) == before + 2


def test_after_close_torch_answers(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runner, backend, fake = made()
    fake.hold = threading.Event()
    x = torch.ones(2, 3)
    runner(x)
    backend.close()
    assert torch.equal(runner(x), 2 * x)
    fake.hold.set()
    assert backend.settle(20)
    assert runner.programs == 0
    assert not caplog.records


def test_copies_share_weights_but_not_structure() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    other = shared_copy(network)
    assert other[0].weight is network[0].weight
    other[1] = nn.Identity()
    assert isinstance(network[1], nn.ReLU)


def test_the_key_of_weights_is_their_content() -> None:
    network = nn.Conv2d(3, 4, 1)
    key = weights_key(network)
    assert weights_key(network.to(memory_format=torch.channels_last)) == key
    with torch.no_grad():
        network.weight[0, 0, 0, 0] += 1e-6
    assert weights_key(network) != key
