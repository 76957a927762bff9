"""Tokenizers keep padding and truncation as state: whoever counts words must not change how another prompt is encoded."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.device import choose
from lcm_studio.models.load import load_folder
from tests import tiny_flow


class Watched:
    """A tokenizer that notes when two threads are in it at once."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.inside, self.overlaps = inner, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.inside += 1
        time.sleep(0.001)
        self.overlaps += self.inside > 1
        try:
            return self.inner(*args, **options)
        finally:
            self.inside -= 1


def together(model: Any, prompts: list[str]) -> list[int]:
    """Lengths of the encoded prompts while another thread asks what is cut off."""
    from lcm_studio.models.protocol import Prompt

    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            model.truncated("sunset, lake")

    counting = threading.Thread(target=count)
    counting.start()
    try:
        conds = [model.embed([Prompt(text=prompt, guidance=1.0)]) for prompt in prompts]
    finally:
        done.set()
        counting.join()
    return [cond.tensors["text_hidden"].shape[1] for cond in conds]


PROMPTS = ["sunset " * (1 + i % 9) + str(i) for i in range(40)]


def test_stable_diffusion_encodes_while_others_count(tiny_models: Path) -> None:
    model: Any = load_folder(tiny_models / "sd-plain", choose("cpu"))
    tokenizer, encoder = model.text.pairs[0]
    watched = Watched(tokenizer)
    model.text.pairs = ((watched, encoder),)
    lengths = together(model, PROMPTS)
    assert watched.overlaps == 0
    most = tokenizer.model_max_length
    assert set(lengths) == {most * model.text.chunks(prompt) for prompt in PROMPTS}


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_transformers_encode_while_others_count(tmp_path: Path, kind: str) -> None:
    model: Any = load_folder(tiny_flow.save(kind, tmp_path / kind), choose("cpu"))
    lengths = together(model, PROMPTS[:12])
    assert len(set(lengths)) == 1
    assert model.truncated("sunset " * 2000).startswith("sunset")
