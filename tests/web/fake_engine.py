"""An engine that obeys the contract and needs no weights: pictures are gradients of the seed, steps take `pace` seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lcm_studio.engine.validate import check_request
from lcm_studio.models.kinds.recognise import with_guided_steps
from lcm_studio.spec.errors import ModelError, StudioError
from lcm_studio.spec.events import Done, Event, Failed, Step, Stopped
from lcm_studio.spec.models import LoadState, ModelInfo
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.settings import to_settings

VOCABULARY = (
    ("time", ("dawn", "day", "sunset", "night")),
    ("sky", ("clear sky", "a few clouds", "many clouds", "stars")),
    ("sun and moon", ("sun on the left", "sun in the middle", "sun on the right", "moon on the left", "moon on the right")),
    ("mountains", ("hills", "rocky mountains", "snowy mountains")),
    ("ground", ("green grass", "sand", "snow", "autumn field", "lavender field", "path")),
    ("water", ("lake", "sea", "sailboat")),
    ("trees", ("one pine tree", "a few pine trees", "many pine trees", "one oak tree", "one palm tree")),
    ("house", ("red house", "blue house", "white house", "yellow house")),
)  # fmt: skip

LCM = ModelInfo(
    id="scenery-lcm", path="/none/scenery-lcm", kind="lcm", width=256, height=256, multiple=8, guidance="embedded",
    guidance_default=8.0, guidance_range=(3.0, 14.0), vocabulary=VOCABULARY, parameters=17_000_000, bytes=34_000_000,
    note="Painted landscapes, made by the studio's own renderer.",
)  # fmt: skip
SD = ModelInfo(
    id="some-sd", path="/none/some-sd", kind="sd", width=512, height=512, multiple=8, guidance="cfg",
    guidance_default=2.0, guidance_range=(1.0, 15.0), takes_negative=True, parameters=860_000_000,
)  # fmt: skip
CM = ModelInfo(
    id="scenery-cm", path="/none/scenery-cm", kind="cm", width=64, height=64, multiple=8, guidance="none",
    takes_prompt=False, classes=10, max_steps=40, steps_default=2, parameters=3_000_000,
)  # fmt: skip


class FakeEngine:
    """`pace`: seconds of one step. `broken`: ids that are known but cannot be loaded."""

    def __init__(
        self, *, pace: float = 0.02, broken: tuple[str, ...] = (), load_seconds: float = 0.0
    ) -> None:
        self.pace, self.load_seconds = pace, load_seconds
        self.models = {info.id: info for info in (LCM, SD, CM)}
        self.broken = broken
        self.status = LoadState()
        self.requests: list[Generate] = []
        self.cancelled = 0

    def catalog(self) -> tuple[ModelInfo, ...]:
        return tuple(self.models.values())

    def decoders(self) -> tuple[str, ...]:
        return ("default", "tiny")

    def embeddings(self, model_id: str) -> tuple[str, ...]:
        return ("bad-hands", "ink") if self.info(model_id).kind == "sd" else ()

    def controls(self, model_id: str) -> tuple[str, ...]:
        return ("some-canny",) if self.info(model_id).kind == "sd" else ()

    def ip_adapters(self, model_id: str) -> tuple[str, ...]:
        return ("some-ip-adapter",) if self.info(model_id).kind == "sd" else ()

    def info_as(
        self, model_id: str, *, loras: Any = (), kind: str = "auto", guided_steps: int | None = None
    ) -> ModelInfo:
        return with_guided_steps(self.info(model_id), guided_steps)

    def info(self, model_id: str) -> ModelInfo:
        if model_id not in self.models:
            raise ModelError(
                f"{model_id} is not known here; choose one of {', '.join(self.models)}"
            )
        return self.models[model_id]

    def load(self, model_id: str) -> None:
        self.info(model_id)
        self.status = LoadState(status="loading", model=model_id)
        time.sleep(self.load_seconds)
        if model_id in self.broken:
            text = f"{model_id}: unet/diffusion_pytorch_model.safetensors is truncated; download it again"
            self.status = LoadState(status="failed", model=model_id, message=text)
            raise ModelError(text)
        self.status = LoadState(status="ready", model=model_id, loaded=(model_id,))

    def likeness(self, pixels: np.ndarray, model_id: str) -> float | None:
        """By its colour: red is foreign."""
        self.info(model_id)
        return 2.0 if pixels[..., 0].mean() > 200 else None

    def state(self) -> LoadState:
        return self.status

    def validate(self, request: Generate) -> tuple[str, ...]:
        return check_request(request, self.info(request.model))

    def tokens(self, request: Generate) -> tuple[int, int] | None:
        return (len(request.prompt.split()), 75)

    def close(self) -> None:
        self.status = LoadState()

    def run(
        self,
        request: Generate,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        owner: Owner | None = None,
    ) -> Iterator[Event]:
        try:
            self.validate(request)
        except StudioError as error:
            yield Failed(message=str(error))
            return
        self.requests.append(request)
        info = self.info(request.model)
        width, height = request.width or info.width, request.height or info.height
        seeds = tuple(request.seed + i for i in range(request.count))
        started = time.perf_counter()
        if "fail please" in request.prompt:
            yield Failed(message="the device is out of memory; use a smaller size or fewer images")
            return
        for k in range(request.steps):
            end = time.perf_counter() + self.pace
            while time.perf_counter() < end:
                time.sleep(0.002)
            previews = (
                tuple(paint(s, width, height, (k + 1) / request.steps) for s in seeds)
                if request.previews
                else ()
            )
            if cancelled():
                self.cancelled += 1
                yield Stopped(previews=previews)
                return
            spent = time.perf_counter() - started
            yield Step(
                done=k + 1,
                total=request.steps,
                seconds=spent,
                remaining=spent / (k + 1) * (request.steps - k - 1),
                previews=previews,
            )
        images = tuple(paint(s, width, height, 1.0) for s in seeds)
        total = time.perf_counter() - started
        yield Done(
            images=images, seeds=seeds, settings=to_settings(request, info, width=width, height=height),
            timing={"prompt": 0.001, "network": total * 0.8, "decode": total * 0.15, "encode": 0.0, "other": total * 0.05, "total": total, "evaluations": float(request.steps)},
            warnings=self.validate(request), flagged=(False,) * len(images),
        )  # fmt: skip


def paint(seed: int, width: int, height: int, sharp: float) -> np.ndarray:
    """A sky and a ridge whose colours come from the seed; less `sharp` is greyer and noisier."""
    rng = np.random.default_rng(seed)
    top, low, land = rng.uniform(40, 235, (3, 3))
    y = np.linspace(0, 1, height)[:, None, None]
    x = np.linspace(0, 1, width)[None, :]
    picture = (1 - y) * top + y * low + np.zeros((height, width, 3))
    ridge = (
        0.6 + 0.12 * np.sin(6 * x * rng.uniform(0.6, 2) + rng.uniform(0, 6)) + 0.04 * np.sin(31 * x)
    )
    picture[(np.linspace(0, 1, height)[:, None] > ridge)] = land * 0.6
    noise = np.random.default_rng(seed + 1).normal(128, 60, picture.shape)
    return np.clip(sharp * picture + (1 - sharp) * noise, 0, 255).astype(np.uint8)
