"""Engines that run a network's calls. The network does not know which one does.

A `Runner` (runner.py) stands where a network is called. It runs the network through torch until a backend has built
a program for that call and shape, which then takes over between two calls:

* openvino.py  OpenVINO on a CPU; what it converts is kept on disk (cache.py)
* inductor.py  torch.compile; on a GPU the program is replayed as a CUDA graph

`lcm_studio.device.choose` decides which; `open_backend` makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcm_studio.models.backends.call import first_output
from lcm_studio.models.backends.runner import Backend, Runner

if TYPE_CHECKING:
    from lcm_studio.device import Placement

__all__ = ["Backend", "Runner", "first_output", "open_backend"]


def open_backend(placement: Placement) -> Backend | None:
    """The backend of one loaded model, or None where torch itself runs the networks."""
    if placement.backend == "openvino":
        from lcm_studio.models.backends.openvino import OpenVino

        return Backend(OpenVino(precision=placement.dtype), wait=placement.wait)
    if placement.backend == "compile":
        from lcm_studio.models.backends.inductor import Inductor

        return Backend(Inductor(device=placement.device), wait=placement.wait)
    return None
