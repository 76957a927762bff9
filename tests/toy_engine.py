"""The engine itself on models that need no weights: the lane, the checks and the events are real, the networks are Gaussian toys."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.engine import never
from lcm_studio.engine.registry import Registry
from lcm_studio.maths.karras import KarrasSchedule
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.models.load import LoadedModel
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.events import Done, Event, Failed
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import EmbeddingSpec, Request
from tests.toy import GaussianToy
from tests.toy_models import CM, LCM, NOWHERE, SD

COLOUR = (51, 102, 204)  # of pictures without a prompt
FATAL = "fail please"  # a prompt with these words is too much for the toy's memory


class WordsToy(GaussianToy):
    """Its pictures have a colour that comes from the prompt, bluish without one, and a grain that comes from the seed.

    `before`: called before each answer.
    """

    def __init__(self, info: ModelInfo, before: Callable[[], None]) -> None:
        schedule = KarrasSchedule() if info.kind == "cm" else NoiseSchedule.from_config({})
        super().__init__(schedule, mu=0.0, s=0.15, info=info)
        self.before = before

    def shift(self, text: str) -> Sequence[float]:
        """A colour of the words."""
        colour = zlib.crc32(text.encode()).to_bytes(4, "big")[:3] if text else COLOUR
        return [level / 127.5 - 1 for level in colour]

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        cond = super().embed(prompts)
        fatal = torch.tensor([FATAL in prompt.text for prompt in prompts])
        return Cond(tensors={**cond.tensors, "fatal": fatal}, batch=cond.batch)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.before()
        if cond.tensors["fatal"].any():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().predict(x_t, t, cond)

    def tokens(self, text: str, embeddings: tuple[EmbeddingSpec, ...] = ()) -> tuple[int, int]:
        """A token is a word."""
        return len(text.split()), 75


class ToyRegistry(Registry):
    """Knows the three models, and what is anywhere else as always."""

    def catalog(self) -> tuple[ModelInfo, ...]:
        return LCM, SD, CM

    def info(self, model_id: str) -> ModelInfo:
        known = next((info for info in self.catalog() if info.id == model_id), None)
        return known or super().info(model_id)


class ToyEngine(Engine):
    """`pace`: seconds of one call of a network. `broken`: ids that are known but cannot be loaded.

    `requests`: all that were run. `cancelled`: how many of them were stopped or left.
    """

    def __init__(
        self, *, pace: float = 0.0, broken: tuple[str, ...] = (), embeddings: Path = NOWHERE
    ) -> None:
        super().__init__(
            EngineConfig(device="cpu", models_dirs=(NOWHERE,), embeddings_dirs=(embeddings,))
        )
        self.registry = ToyRegistry((NOWHERE,))
        self.pace, self.broken = pace, broken
        self.requests: list[Any] = []
        self.cancelled = 0

    def open_model(self, model_id: str) -> LoadedModel:
        info = self.info(model_id)
        if model_id in self.broken:
            raise ModelError(
                f"{model_id}: unet/diffusion_pytorch_model.safetensors is truncated; download it again"
            )
        return cast(LoadedModel, WordsToy(info, self.before_call))

    def before_call(self) -> None:
        """What a call of a network waits for."""
        time.sleep(self.pace)

    def run(
        self,
        request: Request,
        cancelled: Callable[[], bool] = never,
        *,
        owner: Owner | None = None,
    ) -> Iterator[Event]:
        self.requests.append(request)
        event: Event | None = None
        try:
            for event in super().run(request, cancelled, owner=owner):
                yield event
        finally:
            self.cancelled += not isinstance(event, Done | Failed)
