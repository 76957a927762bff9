"""Where a network is called: by torch at once, by a backend's program as soon as there is one."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from lcm_studio.models.backends.call import Call, Function, Shapes
from lcm_studio.models.backends.copies import fuse_loras, shared_copy
from lcm_studio.models.backends.memory import in_pieces

log = logging.getLogger(__name__)

PATIENCE = 8
"""Calls with the same set of LoRAs before it is worth a conversion of its own."""

DELAY = 2.0
"""Seconds before background work begins: the first picture has the cores for itself."""

SHAPES, SOURCES = 16, 2
"""What a runner keeps: programs, and networks taken in (one for each set of LoRAs)."""


Key: TypeAlias = tuple[Hashable, Hashable, Shapes]
"""(variant, layout, sizes) of the calls that one program answers."""


class Program(Protocol):
    """A network's call for tensors of given sizes."""

    def __call__(self, tensors: tuple[Tensor, ...]) -> Tensor: ...


class Source(Protocol):
    """A network that a builder has taken in, for calls of one layout."""

    def program(self, tensors: tuple[Tensor, ...]) -> Program: ...


class Builder(Protocol):
    """What makes programs. `tolerance`: largest error of a program, as a share of the answer's largest value."""

    name: str
    tolerance: float

    def source(self, network: nn.Module, function: Function, call: Call) -> Source: ...


@dataclass(frozen=True, eq=False)
class Want:
    """A program asked for. `network`: a copy to take in, or None where the source is there already.

    `answer`: what torch gave for `call`.
    """

    key: Key
    call: Call
    tensors: tuple[Tensor, ...]
    answer: Tensor
    network: nn.Module | None


class Backend:
    """Builds programs on a thread beside the callers'. One per loaded model.

    `wait`: calls wait for their program, so that none is answered by torch first (for a precision that can be seen).
    """

    def __init__(self, builder: Builder, *, wait: bool = False, delay: float | None = None) -> None:
        self.builder = builder
        self.wait = wait
        self.delay = DELAY if delay is None else delay
        if wait:
            self.delay = 0.0
        self._jobs: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing is built any more."""
        return self._closed

    def runner(self, network: Any, function: Function, name: str) -> Runner:
        """A runner whose programs this backend builds."""
        return Runner(network, function, name, backend=self)

    def add(self, job: Callable[[], None]) -> None:
        """Carries `job` out on the thread, after those before it."""
        with self._change:
            if self._closed:
                return
            self._jobs.append(job)
            if self._thread is None:
                # It ends when nothing is left to do: a thread that has computed keeps its OpenMP team, and with more
                # teams than cores the callers' own computing becomes slower.
                self._thread = threading.Thread(target=self._main, name="backend", daemon=True)
                self._thread.start()
                # a daemon thread that is cut off at exit can abort the whole process
                atexit.register(self._finish)
        if self.wait:
            self.settle()

    def settle(self, seconds: float | None = None) -> bool:
        """Waits until everything asked for is built, at most `seconds`; whether it is."""
        with self._change:
            return self._change.wait_for(lambda: self._thread is None, seconds)

    def close(self) -> None:
        """Builds nothing more. A step at hand goes on to its end beside the caller, for nothing."""
        with self._change:
            self._closed = True
            self._jobs.clear()
            self._change.notify_all()

    def _finish(self) -> None:
        self.close()
        self.settle()

    def _main(self) -> None:
        with self._change:
            self._change.wait_for(lambda: self._closed, self.delay)
        while True:
            with self._change:
                if self._closed or not self._jobs:
                    self._thread = None
                    self._jobs.clear()
                    atexit.unregister(self._finish)
                    self._change.notify_all()
                    return
                job = self._jobs.popleft()
            job()


class Runner:
    """`function(network, ...)`, by torch or by a program that gave the same answer. Called by one thread at a time.

    `variant`: what the answer depends on beside the arguments (the LoRAs in force); () = the weights as they are.
    """

    def __init__(
        self, network: Any, function: Function, name: str = "", *, backend: Backend | None = None
    ) -> None:
        self.network = network
        self.function = function
        self.name = name
        self.backend = None if in_pieces(network) else backend
        self.variant: Hashable = ()
        self._lock = threading.Lock()
        self._programs: OrderedDict[Key, Program] = OrderedDict()
        self._sources: OrderedDict[tuple[Hashable, Hashable], Source] = OrderedDict()
        self._asked: set[Key] = set()
        self._repeated: tuple[Hashable, int] = ((), 0)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """The network's answer."""
        if self.backend is None or self.backend.closed:
            return self.function(self.network, *args, **kwargs)
        call = Call.of(args, kwargs)
        tensors = call.padded()
        key = (self.variant, call.layout, tuple(tuple(t.shape) for t in tensors))
        answer = self._by_program(key, tensors)
        if answer is None:
            answer = self.function(self.network, *args, **kwargs)
            if key not in self._asked and self._worth_it():
                self._ask(key, call, tensors, answer)
                if self.backend.wait:
                    built = self._by_program(key, tensors)
                    answer = answer if built is None else built
        return answer[: call.rows] if 0 < call.rows < len(answer) else answer

    @property
    def programs(self) -> int:
        """How many shapes the backend answers."""
        return len(self._programs)

    def _by_program(self, key: Key, tensors: tuple[Tensor, ...]) -> Tensor | None:
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                return None
            self._programs.move_to_end(key)
        try:
            return program(tensors)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a backend raises, torch can still answer
            log.warning("%s goes back to torch: %s", self.name, _first_line(error))
            with self._lock:
                self._programs.pop(key, None)
            return None

    def _worth_it(self) -> bool:
        """Whether the weights stay as they are: a set of LoRAs is taken in once it has been used for a while."""
        assert self.backend is not None
        variant, times = self._repeated
        self._repeated = (self.variant, times + 1 if variant == self.variant else 1)
        return not self.variant or self.backend.wait or self._repeated[1] >= PATIENCE

    def _ask(self, key: Key, call: Call, tensors: tuple[Tensor, ...], answer: Tensor) -> None:
        assert self.backend is not None
        self._asked.add(key)
        source = (self.variant, call.layout)
        # The copy is taken here, between two calls: later another set of LoRAs may be in force.
        network = None if source in self._sources else shared_copy(self.network)
        want = Want(key, call, tensors, answer, network)
        self.backend.add(lambda: self._build(want))

    def _build(self, want: Want) -> None:
        assert self.backend is not None
        builder = self.backend.builder
        started = time.perf_counter()
        try:
            program = self._source(builder, want).program(want.tensors)
            if self.backend.closed:
                return
            error = _error(program(want.tensors)[: len(want.answer)], want.answer)
        except Exception as error_:  # noqa: BLE001  a network that cannot be converted stays with torch
            log.warning("%s stays with torch: %s", self.name, _first_line(error_))
            return
        if not error <= builder.tolerance:
            log.warning("%s stays with torch: %s differs by %.1e", self.name, builder.name, error)
            return
        with self._lock:
            self._programs[want.key] = program
            while len(self._programs) > SHAPES:
                self._asked.discard(self._programs.popitem(last=False)[0])
        seconds = time.perf_counter() - started
        log.info("%s: %s after %.1f s", self.name, builder.name, seconds)

    def _source(self, builder: Builder, want: Want) -> Source:
        name = want.key[:2]
        source = self._sources.get(name)
        if source is None:
            network = want.network
            assert network is not None
            with torch.inference_mode(False), torch.no_grad():
                source = builder.source(fuse_loras(network), self.function, want.call)
            self._keep(name, source)
        return source

    def _keep(self, name: tuple[Hashable, Hashable], source: Source) -> None:
        """Adds a source; what the oldest one's programs hold in memory goes with it."""
        with self._lock:
            self._sources[name] = source
            while len(self._sources) > SOURCES:
                old, _ = self._sources.popitem(last=False)
                gone = {key for key in self._asked if key[:2] == old}
                self._asked -= gone
                for key in gone:
                    self._programs.pop(key, None)


def _error(answer: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest value wanted; nan where one of them is."""
    largest = wanted.float().abs().max().clamp_min(1e-6)
    return float((answer.float() - wanted.float()).abs().max() / largest)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
