"""Networks by OpenVINO on a CPU."""

from __future__ import annotations

import hashlib
import logging
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lcm_studio.models.backends.cache import Cache
from lcm_studio.models.backends.call import Call, Flat, Function
from lcm_studio.models.backends.copies import weights_key

log = logging.getLogger(__name__)

FORMAT = "1"
"""Of an entry's files: counts up when what is converted changes."""

LARGE = 500 * 2**20
"""Bytes of weights from which on a network is compiled once, for all sizes."""

TOLERANCE = {"fp32": 1e-4, "bf16": 0.2}
"""Errors of a right conversion, as shares of the largest value: float32 about 2e-6, bfloat16 about 2e-2."""


class OpenVino:
    """Converts a network once, for all sizes, keeps that on disk, and compiles it for each size that is asked for.

    Fixed sizes pay: the bundled network takes 0.7 times as long as with an open number of rows.
    """

    name = "OpenVINO"

    def __init__(self, *, precision: str = "fp32", cache: Cache | None = None) -> None:
        self.precision = precision
        self.tolerance = TOLERANCE[precision]
        self.cache = cache or Cache()
        self._core: Any = None

    def versions(self) -> Mapping[str, str]:
        """Whatever may change the conversion."""
        packages = ("openvino", "torch", "diffusers")
        return {"format": FORMAT, **{name: version(name) for name in packages}}

    def source(self, network: nn.Module, function: Function, call: Call) -> OpenVinoSource:
        """The network, converted now or before."""
        core = self.core()
        parts = (weights_key(network), function.__qualname__, str(call.layout))
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]
        place = self.cache.find(key, self.versions())
        if place is not None:
            try:
                return OpenVinoSource(self, core.read_model(place / "model.xml"))
            except RuntimeError as error:
                log.warning("%s is built again: %s", place, str(error).strip().split("\n")[0][:120])
        _check_memory(sum(p.numel() * p.element_size() for p in network.parameters()))
        model = convert(Flat(network, function, call), call)
        try:
            place = self.cache.store(key, self.versions(), lambda folder: _save(model, folder))
        except (OSError, RuntimeError) as error:
            log.warning("a converted network is not kept: %s", error)
            return OpenVinoSource(self, model)
        # read back, so that the weights are pages of a file and not a second copy in memory
        return OpenVinoSource(self, core.read_model(place / "model.xml"))

    def core(self) -> Any:
        """OpenVINO's own object, one for each backend."""
        if self._core is None:
            self._core = library().Core()
        return self._core


class OpenVinoSource:
    """A converted network; sizes are still open.

    Of a small network each size has a program of its own. A large one is compiled once with open sizes: that costs 3%
    of time with Stable Diffusion 1.5, and each program would hold all weights once more.
    """

    def __init__(self, owner: OpenVino, model: Any) -> None:
        self.owner = owner
        self.model = model
        constants = (op for op in model.get_ops() if op.get_type_name() == "Constant")
        self.bytes = sum(op.get_byte_size() for op in constants)
        self._open: Any = None

    def program(self, tensors: tuple[Tensor, ...]) -> OpenVinoProgram:
        """The network for tensors of these sizes. Raises MemoryError where it might not fit."""
        if self.bytes > LARGE:
            self._open = self._open or self._compile(self.model)
            return OpenVinoProgram(self._open)
        model = self.model.clone()
        sizes = [library().PartialShape(list(tensor.shape)) for tensor in tensors]
        model.reshape(dict(zip(model.inputs, sizes, strict=True)))
        return OpenVinoProgram(self._compile(model))

    def _compile(self, model: Any) -> Any:
        _check_memory(self.bytes)
        options = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[self.owner.precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Pinned, the threads of every process start at the first core: two studios share one, and the others idle.
            "ENABLE_CPU_PINNING": False,
        }
        return self.owner.core().compile_model(model, "CPU", options)


class OpenVinoProgram:
    """A compiled network, with a request of its own: the thread that checks it and the caller's do not meet."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def __call__(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The answer, in memory of its own."""
        arrays = [tensor.contiguous().numpy() for tensor in tensors]
        answers = self._request.infer(arrays, share_inputs=True, share_outputs=True)
        return torch.from_numpy(answers[0].copy())


def library() -> Any:
    """The package `openvino`, which reports nothing.

    With `openvino_telemetry` it sends an event to Google Analytics when it is imported and at each conversion, from a
    fork of this process and its threads, and keeps an id of the user in ~/intel. Where that package cannot be imported,
    openvino calls a stub of its own.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def convert(module: nn.Module, call: Call) -> Any:
    """An OpenVINO model of `module`, traced with the tensors of `call`; all sizes stay open."""
    module = module.eval()
    # clones: a tensor made in inference mode cannot be traced
    tensors = tuple(tensor.clone() for tensor in call.tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(module, tensors, check_trace=False, strict=False)
        model = library().convert_model(traced, example_input=tensors)
    if len(model.inputs) != len(tensors):
        raise ValueError(f"it reads {len(model.inputs)} of {len(tensors)} inputs")
    return model


def _save(model: Any, folder: Path) -> None:
    library().save_model(model, folder / "model.xml", compress_to_fp16=False)


def _check_memory(weights: int) -> None:
    """Raises MemoryError where the weights once more, and as much to compile them, do not fit."""
    import psutil

    free = psutil.virtual_memory().available
    if 2 * weights > free:
        raise MemoryError(
            f"{2 * weights / 2**30:.0f} GB would be needed, {free / 2**30:.0f} are free"
        )
