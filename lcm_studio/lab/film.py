"""One picture, and the way to it: what the network saw and said at each level."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

from lcm_studio.lab.lanes import Outcome, Show, check_frames, events, on_lane
from lcm_studio.spec.lab import Conditions, Film, Filmed, Frame, System
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.settings import to_settings

if TYPE_CHECKING:
    from torch import Tensor

    from lcm_studio.engine import Engine
    from lcm_studio.models.load import LoadedModel
    from lcm_studio.sampling import Ask, Point
    from lcm_studio.spec.owners import Owner
    from lcm_studio.spec.requests import Pixels


def never() -> bool:
    """Not cancelled."""
    return False


def film(
    engine: Engine,
    request: Film,
    cancelled: Callable[[], bool] = never,
    *,
    owner: Owner | None = None,
) -> Iterator[Any]:
    """Frames as they are made; the last event is Filmed, Failed or Stopped. Leaving it cancels it."""
    return events(filmed(engine, request, request.system, cancelled, owner, frames=request.frames))


def generate_of(conditions: Conditions, system: System) -> Generate:
    """The request for a picture that a system is."""
    return Generate(
        prompt=conditions.prompt,
        negative=conditions.negative,
        seed=conditions.seed,
        guidance=conditions.guidance,
        class_label=conditions.class_label,
        width=conditions.width,
        height=conditions.height,
        model=system.model,
        sampler=cast(Any, system.sampler),  # the engine checks it
        sampler_settings=dict(system.settings),
        steps=system.evaluations,
    )


def filmed(
    engine: Engine,
    conditions: Conditions,
    system: System,
    cancelled: Callable[[], bool],
    owner: Owner | None = None,
    *,
    index: int = 0,
    frames: int = 0,
) -> Generator[Any, None, Filmed]:
    """The events of one system, then what it made. Raises StudioError or lanes.Ended."""
    check_frames(frames)
    asked = generate_of(conditions, system)
    warnings = engine.validate(asked)
    request = engine.resolved(asked)[0]
    assert isinstance(request, Generate)

    def make(model: LoadedModel, show: Show) -> Generator[Ask, Any, Any]:
        return _session(request, model, show, index, frames)

    outcome: Outcome[tuple[Pixels, bool, int, tuple[str, ...]]]
    outcome = yield from on_lane(engine, system.model, make, cancelled, owner)
    image, flagged, shown, more = outcome.result
    info = engine.info(system.model)
    return Filmed(
        image=image,
        seed=request.seed,
        evaluations=outcome.evaluations,
        seconds=outcome.seconds,
        frames=shown,
        settings=to_settings(asked, info, width=image.shape[1], height=image.shape[0]),
        warnings=(*warnings, *more),
        flagged=flagged,
    )


def _session(
    request: Generate, model: LoadedModel, show: Show, system: int, frames: int
) -> Generator[Ask, Any, Any]:
    """(picture, flagged, frames shown, warnings); frames are shown on the way."""
    from lcm_studio.engine.generate import blacken
    from lcm_studio.maths.pixels import to_pixels
    from lcm_studio.sampling import (
        Check,
        Decode,
        Embed,
        SeededNoise,
        by_seed,
        plan,
        recorded,
        steps_of,
    )

    width, height = request.width or model.info.width, request.height or model.info.height
    settled = plan(request, model, width, height)
    cond = yield Embed((settled.prompt,))
    cond = yield from by_seed(cond, settled, model, (request.seed,))
    noise = SeededNoise((request.seed,), settled.shape, device=model.device)
    warnings: list[str] = []
    steps = steps_of(
        settled.sampler,
        settled.way.start(noise.draw(), model.schedule, settled.levels[0]),
        settled.levels,
        cond,
        schedule=model.schedule,
        noise=noise,
        settings=settled.settings,
        evaluations=settled.evaluations,
        warnings=warnings,
        way=settled.way,
    )
    camera = Camera(model, show, system=system, frames=frames, total=settled.evaluations)
    latents = yield from recorded(steps, camera)
    decoded = yield Decode(latents)
    flags = yield Check(decoded)
    image = blacken(to_pixels(decoded), flags)[0]
    return image, bool(flags[0]), camera.index, tuple(warnings)


class Camera:
    """Shows at most `frames` of `total` evaluations, evenly, the first among them; a `seen` of `sampling.recorded`."""

    def __init__(
        self, model: LoadedModel, show: Show, *, system: int, frames: int, total: int
    ) -> None:
        self.model, self.show, self.system = model, show, system
        self.frames, self.total = min(frames, total), total
        self.seen = 0
        self.index = 0

    def __call__(self, point: Point) -> Generator[Ask, Any, None] | None:
        self.seen += 1
        due = (self.seen - 1) * self.frames // max(1, self.total)
        if self.index > due or self.index >= self.frames:
            return None
        return self._take(point)

    def _take(self, point: Point) -> Generator[Ask, Any, None]:
        x_t, x0_hat = yield from pictures_of(
            vp_scale(self.model, point.x_t[:1], point.t[:1]), point.x0_hat[:1]
        )
        level = float(point.t[0])
        frame = Frame(
            system=self.system,
            index=self.index,
            evaluations=self.seen,
            total=self.total,
            level=level,
            sigma=self.model.schedule.ve_sigma(level),
            x_t=x_t,
            x0_hat=x0_hat,
        )
        self.index += 1
        self.show(frame)


def vp_scale(model: LoadedModel, x_t: Tensor, t: Tensor) -> Tensor:
    """`x_t` divided by sqrt(alpha^2 + sigma^2), so that it has about the data's spread at every level."""
    alpha, sigma = model.schedule.alpha_sigma(t, x_t)
    scaled: Tensor = x_t / (alpha**2 + sigma**2).sqrt()
    return scaled


def pictures_of(*latents: Tensor) -> Generator[Ask, Any, tuple[Pixels, ...]]:
    """Samples `(1, C, H, W)` as pictures, black where the safety checker objects; noise that is shown is no exception."""
    import torch

    from lcm_studio.engine.generate import blacken
    from lcm_studio.maths.pixels import to_pixels
    from lcm_studio.sampling import Check, Decode

    decoded = yield Decode(torch.cat(latents))
    flags = yield Check(decoded)
    return blacken(to_pixels(decoded), flags)
