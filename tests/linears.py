"""Linear layers of any size, with an input, for property tests of other kernels."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn


@st.composite
def linears(draw: Callable[..., int | bool | list[int]]) -> tuple[nn.Linear, nn.Linear, Tensor]:
    """(a layer, its copy, an input of none to three leading axes)."""
    rows = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))
    width, out = draw(st.integers(1, 33)), draw(st.integers(1, 33))
    torch.manual_seed(width)
    own = nn.Linear(width, out, bias=draw(st.booleans()))
    return own, copy.deepcopy(own), torch.randn(*rows, width)
