"""Networks by torch.compile; on a GPU replayed as CUDA graphs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lcm_studio.models.backends.cache import default_folder
from lcm_studio.models.backends.call import Call, Flat, Function

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


class Inductor:
    """Compiles a network for each size that is asked for. What the compiler makes is kept on disk across starts."""

    name = "torch.compile"

    def __init__(self, *, device: str) -> None:
        self.device = device
        self.tolerance = TOLERANCE[torch.float32]
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(default_folder() / "inductor"))

    def source(self, network: nn.Module, function: Function, call: Call) -> InductorSource:
        """The network with one product for query, key and value, where it knows how."""
        fuse = getattr(network, "fuse_qkv_projections", None)
        if fuse is not None:
            fuse()
        kind = next((p.dtype for p in network.parameters()), torch.float32)
        self.tolerance = max(self.tolerance, TOLERANCE.get(kind, 0.2))
        return InductorSource(Flat(network, function, call), call, self.device)


class InductorSource:
    """A network to be compiled."""

    def __init__(self, module: Flat, call: Call, device: str) -> None:
        self.module = module.eval()
        self.call = call
        self.device = device

    def program(self, tensors: tuple[Tensor, ...]) -> Callable[[tuple[Tensor, ...]], Tensor]:
        """The network for tensors of these sizes; compiled when this returns."""
        fresh = Flat(self.module.network, self.module.function, self.call).eval()
        gpu = self.device.startswith("cuda")
        compiled = torch.compile(
            fresh, dynamic=False, mode="max-autotune-no-cudagraphs" if gpu else "default"
        )
        tensors = tuple(_like(tensor) for tensor in tensors)
        with torch.no_grad():
            compiled(*tensors)
        return GraphProgram(compiled, tensors) if gpu else CompiledProgram(compiled)


class CompiledProgram:
    """A compiled network."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def __call__(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The answer."""
        with torch.inference_mode(False), torch.no_grad():
            answer: Tensor = self._compiled(*(_like(tensor) for tensor in tensors))
        return answer


class GraphProgram:
    """A compiled network as a CUDA graph: one launch in place of hundreds. Inputs and output have fixed places."""

    def __init__(self, compiled: Any, tensors: tuple[Tensor, ...]) -> None:
        self._compiled = compiled
        self._inputs = tensors
        self._graph: Any = None
        self._answer: Tensor | None = None

    def __call__(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The answer, in memory of its own."""
        with torch.inference_mode(False), torch.no_grad():
            for place, tensor in zip(self._inputs, tensors, strict=True):
                place.copy_(tensor)
            if self._graph is None:
                self._record()
            self._graph.replay()
            assert self._answer is not None
            return self._answer.clone()

    def _record(self) -> None:
        side = torch.cuda.Stream(self._inputs[0].device)
        side.wait_stream(torch.cuda.current_stream(self._inputs[0].device))
        with torch.cuda.stream(side):
            self._compiled(*self._inputs)
        torch.cuda.current_stream(self._inputs[0].device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads go on computing meanwhile: only this one's calls are recorded
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._answer = self._compiled(*self._inputs)
        self._graph = graph


def _like(tensor: Tensor) -> Tensor:
    """A copy that is no inference tensor, in the same memory format: compiled code is for one kind of tensor."""
    return tensor.clone() if tensor.is_inference() else tensor
