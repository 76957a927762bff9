"""Whether a picture is like the ones that a model was made from: how well the model takes noise out of it."""

from __future__ import annotations

import queue
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.engine.lane import Lane
    from lcm_studio.engine.remote.client import RemoteEngine
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Ask
    from lcm_studio.spec.models import ModelInfo
    from lcm_studio.spec.requests import Pixels

FOREIGN = 1.2  # from so many times the error of its own pictures on, a picture is none of them


def remark(ratio: float | None, info: ModelInfo) -> str:
    """What is to be said of a result whose error is `ratio` times that of the model's own pictures; empty of most."""
    if ratio is None or ratio < FOREIGN:
        return ""
    return (
        f"this picture is unlike those that {info.id} was made from: what it has added is a guess, however well the rest was kept. "
        "Take a model of such pictures (Model on the page, --model in a shell; README, Use real models)."
    )


def words_on(engine: Engine | RemoteEngine, picture: Pixels, model: str) -> str:
    """`remark` on a finished picture; empty where the engine cannot say."""
    from lcm_studio.spec.errors import StudioError

    try:
        return remark(engine.likeness(picture, model), engine.info(model))
    except StudioError:
        return ""


def asks(pixels: Pixels, model: Model) -> Generator[Ask, Any, float]:
    """The root mean square error of a clean estimate of `pixels`, noised as much as the data spread; small where the model knows such.

    The reconstruction error of a denoiser (Graham et al. 2023), without a prompt, at the model's own size; of the loop's samples.
    """
    from lcm_studio.edits.geometry import resize
    from lcm_studio.edits.pixels import split, tensor
    from lcm_studio.edits.schedule import PIXEL_SPREAD
    from lcm_studio.models.protocol import Prompt
    from lcm_studio.sampling import Embed, Encode, Predict, SeededNoise

    info = model.info
    rgb, _ = split(pixels)
    x = tensor(resize(rgb, info.height, info.width)).to(model.device)
    if model.latent:
        x = yield Encode(x)
    cond = yield Embed((Prompt(text="", guidance=info.guidance_default),))
    _, channels, height, width = x.shape
    noise = SeededNoise((0,), (channels, height, width), device=model.device)
    schedule = model.schedule
    level = schedule.nearest_timestep(1.0 if model.latent else PIXEL_SPREAD)
    x_t = schedule.renoise(x, noise.draw(), level)
    estimate = yield Predict(x_t, schedule.level_tensor(level, 1), cond)
    return float((estimate - x).pow(2).mean().sqrt())


def error_of(pixels: Pixels, lane: Lane) -> float:
    """`asks`, answered on a lane. Raises StudioError where it fails."""
    from lcm_studio.engine.run import ENDS, sentence
    from lcm_studio.engine.running import Session
    from lcm_studio.spec.errors import StudioError

    inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    lane.submit(
        Session(
            generator=asks(pixels, lane.model),
            post=lambda kind, value: inbox.put((kind, value)),
            cancelled=lambda: False,
        )
    )
    kind = ""
    while kind not in ENDS:
        kind, value = inbox.get()
    if kind != "done":
        raise StudioError(sentence(value) if kind == "failed" else "it was stopped")
    return float(value)
