"""The only place that chooses device, dtype, backend and attention. torch is imported on use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "fp32", "fp16", "bf16")
DEVICES = ("auto", "cpu", "cuda", "mps")
BACKENDS = ("auto", "torch", "openvino", "compile")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how a model runs.

    `backend`: what runs the networks (lcm_studio.models.backends); `reason`: why, for `doctor`. `wait`: the backend is
    built before the first call. `batch_pixels`: pictures x width x height that one network call may hold (the lane's
    memory bound).
    """

    device: str = "cpu"
    dtype: str = "fp32"
    attention: str = "sdpa"
    backend: str = "torch"
    reason: str = ""
    wait: bool = False
    channels_last: bool = True
    batch_pixels: int = 16 * 256 * 256

    def torch_dtype(self) -> torch.dtype:
        """Of the weights in memory: OpenVINO wants them in float32, and computes in `dtype`."""
        import torch

        if self.backend == "openvino":
            return torch.float32
        return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[self.dtype]

    def rows(self, width: int, height: int, *, most: int = 16) -> int:
        """How many pictures of that size one call may hold: at least one, at most `most`."""
        return max(1, min(most, self.batch_pixels // max(1, width * height)))


def choose(
    device: str = "auto", dtype: str = "auto", backend: str = "torch", *, once: bool = False
) -> Placement:
    """The placement for a wish; auto = CUDA in half precision, else MPS, else the CPU in fp32.

    `backend`: auto = OpenVINO on a CPU, torch.compile on CUDA, where they are installed; LCM_STUDIO_BACKEND says what
    else auto is. `once`: one request and then the end: auto is torch, and a backend that is named is built first.
    Raises BadRequest for an unknown name, or a device or backend that this machine lacks.
    """
    placement = _choose(device, dtype)
    chosen, reason = choose_backend(placement, backend, once=once)
    # bfloat16 is seen: the pictures must not change when a program takes over
    wait = once or (chosen == "openvino" and placement.dtype != "fp32")
    # a compiler fuses PyTorch's own attention, and stops at another's
    attention = "sdpa" if chosen == "compile" else placement.attention
    return replace(placement, backend=chosen, reason=reason, wait=wait, attention=attention)


def choose_backend(placement: Placement, wanted: str, *, once: bool = False) -> tuple[str, str]:
    """A backend for the device, and why. Raises BadRequest where what is wanted cannot run there."""
    if wanted not in BACKENDS:
        raise BadRequest(f"backend={wanted!r}: choose one of {', '.join(BACKENDS)}")
    kind = placement.device.split(":")[0]
    fitting = {"cpu": "openvino", "cuda": "compile"}.get(kind, "torch")
    if wanted == "auto":
        wanted = os.environ.get("LCM_STUDIO_BACKEND", "auto")
        if wanted in BACKENDS and wanted != "auto":
            return choose_backend(placement, wanted)[0], "LCM_STUDIO_BACKEND names it"
        if once:
            return (
                "torch",
                "one command ends before another would be ready; --backend waits for one",
            )
        fault = backend_fault(fitting, kind)
        if fault:
            return "torch", fault
        return fitting, f"the fastest on {kind}"
    fault = backend_fault(wanted, kind)
    if fault:
        raise BadRequest(f"backend={wanted}: {fault}; use auto or torch")
    return wanted, "asked for"


def backend_fault(backend: str, kind: str) -> str:
    """Why a backend cannot run on a device of `kind`, or nothing."""
    import importlib.util
    import shutil

    if backend == "openvino":
        if kind != "cpu":
            return f"OpenVINO runs on the CPU here, not on {kind}"
        if importlib.util.find_spec("openvino") is None:
            return "openvino is not installed"
    if backend == "compile":
        if kind == "cuda" and importlib.util.find_spec("triton") is None:
            return "torch.compile wants triton, which is not installed"
        if kind == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
            return "torch.compile wants a C++ compiler, and there is none"
        if kind == "mps":
            return "torch.compile is not used on mps"
    return ""


def _choose(device: str, dtype: str) -> Placement:
    import torch

    kind = device.split(":")[0]
    if kind not in DEVICES or dtype not in DTYPES:
        raise BadRequest(
            f"device={device!r}, dtype={dtype!r}: choose a device of {', '.join(DEVICES)} "
            f"and a dtype of {', '.join(DTYPES)}"
        )
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        kind = device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[kind]:
        raise BadRequest(f"device={device!r} is not available here; use --device cpu or auto")
    if kind == "cpu":
        if dtype == "fp16":
            raise BadRequest("dtype=fp16 is slow and inexact on the CPU; use fp32 or bf16")
        return Placement(dtype="fp32" if dtype == "auto" else dtype)
    chosen = ("fp16" if kind == "cuda" else "fp32") if dtype == "auto" else dtype
    pixels = _batch_pixels_cuda(device) if kind == "cuda" else 4 * 512 * 512
    return Placement(
        device=device,
        dtype=chosen,
        attention=choose_attention(device, chosen) if kind == "cuda" else "sdpa",
        batch_pixels=pixels,
    )


def _batch_pixels_cuda(device: str) -> int:
    """Half of the free memory at about 1.2 KiB a pixel of activations (SD 1.5 in fp16, measured peak)."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return max(512 * 512, int(free * 0.5 / 1200))


def choose_attention(device: str, dtype: str) -> str:
    """xformers where it loads and takes less time than PyTorch's own attention, at the size of SD 1.5's largest."""
    if not xformers_loads():
        return "sdpa"
    import torch
    import torch.nn.functional as F
    from xformers.ops import memory_efficient_attention

    kind = Placement(dtype=dtype).torch_dtype()
    x = torch.randn(2, 4096, 8, 40, device=device, dtype=kind)  # (B, tokens, heads, channels)
    own = x.transpose(1, 2).contiguous()
    seconds = {
        "sdpa": _seconds(lambda: F.scaled_dot_product_attention(own, own, own), device),
        "xformers": _seconds(lambda: memory_efficient_attention(x, x, x), device),
    }
    return "xformers" if seconds["xformers"] < 0.97 * seconds["sdpa"] else "sdpa"


def _seconds(call: Callable[[], Any], device: str, rounds: int = 10) -> float:
    """The least time of a call on a GPU, after three that are not counted."""
    import time

    import torch

    least = float("inf")
    for turn in range(rounds + 3):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        call()
        torch.cuda.synchronize(device)
        if turn >= 3:
            least = min(least, time.perf_counter() - started)
    return least


def xformers_loads() -> bool:
    """Whether xformers is installed and its compiled operators load; silent either way."""
    import contextlib
    import importlib.util
    import io
    import logging

    if importlib.util.find_spec("xformers") is None:
        return False
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            from xformers import _cpp_lib

            return _cpp_lib._cpp_library_load_exception is None
    except (ImportError, OSError, AttributeError):
        return False
    finally:
        logging.disable(previous)


def free_bytes(device: str) -> int:
    """Memory that is free where a model would run."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def prepare(module: Any, placement: Placement) -> Any:
    """`module` in evaluation mode on its device, in its memory format; parameters frozen."""
    import torch

    module = module.to(placement.device)
    if placement.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if placement.attention == "xformers" and hasattr(
        module, "enable_xformers_memory_efficient_attention"
    ):
        module.enable_xformers_memory_efficient_attention()
    return module.eval().requires_grad_(False)
