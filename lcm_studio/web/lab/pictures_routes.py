"""The routes of the bench on pictures: /studio/lab/pictures/{schema, compare, trace, invert}; all POST."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.web.lab.stream import UNSTORED, Bench, json_body, parted
from lcm_studio.web.server.stops import owner_of

if TYPE_CHECKING:
    from lcm_studio.web.studio import Studio

AT_ONCE = 8  # the lanes take turns among them


def picture_routes(studio: Studio) -> list[Route]:
    """Under /studio."""
    bench = PictureBench(studio)
    return [
        Route(f"/lab/pictures/{name}", getattr(bench, name), methods=["POST"])
        for name in ("schema", "compare", "trace", "invert")
    ]


class PictureBench:
    """One per app; keeps nothing of what it is asked."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.bench = Bench(AT_ONCE)

    async def schema(self, _: Http) -> Response:
        """What the page draws its controls from."""
        from lcm_studio.web.lab.pictures_values import schema

        return JSONResponse(await asyncio.to_thread(schema, self.studio), headers=UNSTORED)

    async def compare(self, http: Http) -> Response:
        """{prompt, seed, guidance, systems, frames, reference} -> frames, a result per system, the references."""
        from lcm_studio import lab
        from lcm_studio.web.lab import pictures_values as values

        def make(value: Mapping[str, Any]) -> Iterator[Any]:
            request = values.comparison(self.studio, value)
            return lab.compare(self.studio.engine, request, owner=owner_of(http))

        return await self._answer(http, make)

    async def trace(self, http: Http) -> Response:
        """{prompt, seed, guidance, model, teacher, evaluations, points} -> a message per level of one path."""
        from lcm_studio import lab
        from lcm_studio.web.lab import pictures_values as values

        def make(value: Mapping[str, Any]) -> Iterator[Any]:
            return lab.trace(
                self.studio.engine, values.trace(self.studio, value), owner=owner_of(http)
            )

        return await self._answer(http, make)

    async def invert(self, http: Http) -> Response:
        """One message: {prompt, model, sampler, evaluations ...} and the picture's bytes -> frames up and back."""
        from lcm_studio import lab
        from lcm_studio.images import read_image
        from lcm_studio.web.lab import pictures_values as values

        try:
            value, data = opened(await http.body())
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)

        def make() -> Generator[bytes, None, None]:
            request = values.inversion(self.studio, value, read_image(data))
            return values.messages(lab.invert(self.studio.engine, request, owner=owner_of(http)))

        return await self.bench.answer(make)

    async def _answer(self, http: Http, make: Any) -> Response:
        from lcm_studio.web.lab.pictures_values import messages

        try:
            value = await json_body(http)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        return await self.bench.answer(lambda: messages(make(value)))


def opened(data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """A request with a picture behind it. Raises BadRequest."""
    parts = parted(data)
    if len(parts) != 1 or not isinstance(parts[0][0], Mapping) or not parts[0][1]:
        raise BadRequest("send one message: settings, and a picture behind them")
    return parts[0]
