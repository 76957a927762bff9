"""The plane's routes: /studio/lab/plane/{schema, picture, atlas, sample, train}; all POST, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import Any

from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.web.lab.stream import Bench, json_body

AT_ONCE = 4
MAX_PICTURE = 32 * 1024 * 1024


def plane_routes() -> list[Route]:
    """Under /studio. Nothing of the Lab is imported before the first request."""
    bench = PlaneBench()
    return [
        Route(f"/lab/plane/{name}", getattr(bench, name), methods=["POST"])
        for name in ("schema", "picture", "atlas", "sample", "train")
    ]


class PlaneBench:
    """One per app; holds the networks that were trained on the page."""

    def __init__(self) -> None:
        self.bench = Bench(AT_ONCE)
        self._networks: Any = None

    @property
    def networks(self) -> Any:
        from lcm_studio.web.lab.plane_values import Networks

        if self._networks is None:
            self._networks = Networks()
        return self._networks

    async def schema(self, _: Http) -> Response:
        """Names, words, formulas and limits: what the page draws its controls from."""
        from lcm_studio.web.lab.plane_values import schema

        return JSONResponse(schema())

    async def picture(self, http: Http) -> Response:
        """A picture's bytes -> {points}: where its dark pixels are, in the data's own scale."""
        from lcm_studio.images import read_image
        from lcm_studio.lab.plane_data import from_picture

        data = await http.body()
        try:
            if len(data) > MAX_PICTURE:
                raise BadRequest("the picture is larger than 32 MB; choose a smaller file")
            mixture = await asyncio.to_thread(lambda: from_picture(read_image(data)))
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        return JSONResponse({"points": mixture.centres.round(4).tolist()})

    async def atlas(self, http: Http) -> Response:
        """{data, seed} -> one message: the noised densities, the score, and a cloud."""
        from lcm_studio.web.lab.plane_values import atlas, mixture_of, seed_of

        return await self._answer(
            http, lambda value: one(atlas(mixture_of(value.get("data")), seed_of(value)))
        )

    async def sample(self, http: Http) -> Response:
        """{data, systems, particles, seed, networks} -> a message per frame, one per panel that arrived."""
        from lcm_studio.lab import plane
        from lcm_studio.web.lab import plane_values as values

        def make(value: Mapping[str, Any]) -> Generator[bytes, None, None]:
            systems = values.systems_of(value.get("systems"))
            events = plane.sample(
                values.mixture_of(value.get("data")), systems, particles=value.get("particles", 2000),
                seed=values.seed_of(value), learned=self.networks.find(value.get("networks")),
            )  # fmt: skip
            return values.moved_messages(events, [s.evaluations for s in systems])

        return await self._answer(http, make)

    async def train(self, http: Http) -> Response:
        """{data, stage, steps, seed, networks} -> a message per report."""
        from lcm_studio.lab import plane
        from lcm_studio.web.lab import plane_values as values

        def make(value: Mapping[str, Any]) -> Generator[bytes, None, None]:
            mixture, learned = (
                values.mixture_of(value.get("data")),
                self.networks.find(value.get("networks")),
            )
            lines, stage = plane.Lines(mixture), str(value.get("stage"))
            events = plane.learn(
                mixture, stage, steps=value.get("steps"), seed=values.seed_of(value),  # type: ignore[arg-type]
                score=learned.get("score"), lines=lines,
            )  # fmt: skip
            return values.learning_messages(events, lines, self.networks)

        return await self._answer(http, make)

    async def _answer(self, http: Http, make: Any) -> Response:
        try:
            value = await json_body(http)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        return await self.bench.answer(lambda: make(value))


def one(message: bytes) -> Generator[bytes, None, None]:
    """A single message."""
    yield message
