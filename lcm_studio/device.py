"""The only place that chooses device, dtype and attention backend. torch is imported on use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "fp32", "fp16", "bf16")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how a model runs.

    `batch_pixels`: pictures x width x height that one network call may hold (the lane's memory bound).
    """

    device: str = "cpu"
    dtype: str = "fp32"
    attention: str = "sdpa"
    channels_last: bool = True
    batch_pixels: int = 16 * 256 * 256

    def torch_dtype(self) -> torch.dtype:
        """The torch dtype of `dtype`."""
        import torch

        return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[self.dtype]

    def rows(self, width: int, height: int, *, most: int = 16) -> int:
        """How many pictures of that size one call may hold: at least one, at most `most`."""
        return max(1, min(most, self.batch_pixels // max(1, width * height)))


def choose(device: str = "auto", dtype: str = "auto") -> Placement:
    """The placement for a wish; auto = CUDA in half precision, else MPS, else the CPU in fp32.

    Raises BadRequest for an unknown name or a device that this machine lacks.
    """
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
        attention="xformers" if kind == "cuda" and xformers_loads() else "sdpa",
        batch_pixels=pixels,
    )


def _batch_pixels_cuda(device: str) -> int:
    """Half of the free memory at about 1.2 KiB a pixel of activations (SD 1.5 in fp16, measured peak)."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return max(512 * 512, int(free * 0.5 / 1200))


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


def prepare(module: Any, placement: Placement) -> Any:
    """`module` in evaluation mode on its device, in its memory format; parameters frozen."""
    import torch

    from lcm_studio import dense

    module = module.to(placement.device)
    if placement.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if placement.attention == "xformers" and hasattr(
        module, "enable_xformers_memory_efficient_attention"
    ):
        module.enable_xformers_memory_efficient_attention()
    if placement.device == "cpu" and placement.dtype == "fp32":
        dense.swap(module)
    return module.eval().requires_grad_(False)
