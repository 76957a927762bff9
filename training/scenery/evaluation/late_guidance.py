"""Stock pipelines whose guidance begins after a part of the way, as `guidance_start` of the studio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def guided_from(pipe: Any, start: float) -> Iterator[None]:
    """Within it, `pipe` goes by the prompt alone at the first `start` of its timesteps.

    A stock pipeline asks for the predictions without and with the prompt in one call, and its guidance is their
    difference: where there is to be none, both are the latter.
    """
    forward = pipe.unet.forward
    first = (1 - start) * len(pipe.scheduler.alphas_cumprod)

    def partly(x: Tensor, t: Any, *, encoder_hidden_states: Tensor, **more: Any) -> Any:
        if float(t) < first or not start:
            return forward(x, t, encoder_hidden_states=encoder_hidden_states, **more)
        told = encoder_hidden_states.chunk(2)[1]
        (with_prompt,) = forward(x.chunk(2)[1], t, encoder_hidden_states=told, **more)
        return (torch.cat([with_prompt, with_prompt]),)

    pipe.unet.forward = partly
    try:
        yield
    finally:
        pipe.unet.forward = forward
