"""More weight for a prompt where an edit begins, at no evaluation more."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.sampling import Ask, Embed


def emphasised(prompt: Prompt, own: Cond, emphasis: float) -> Generator[Ask, Any, Cond]:
    """`own`, the conditioning of one image by `prompt`, with its text features (1 + emphasis) times as far from those of the empty prompt.

    cond = e("") + (1 + emphasis) (e(prompt) - e("")), the prompt weighting of many front ends. What a picture's tones say
    of its contents and what the prompt says are weighed against each other at the first level; it decides what later ones
    refine. Emphasis 0 and the empty prompt leave all as it is.
    """
    if not emphasis or not prompt.text.strip():
        return own
    both: Cond = yield Embed((replace(prompt, text=""), prompt))  # together: of equal length
    return both.rows(0, 1).lerp(both.rows(1, 2), 1 + emphasis)
