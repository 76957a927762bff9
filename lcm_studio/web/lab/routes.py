"""The Lab's routes, under /studio/lab."""

from __future__ import annotations

from starlette.requests import Request as Http
from starlette.responses import Response
from starlette.routing import Route

from lcm_studio.web.lab.pictures_routes import picture_routes
from lcm_studio.web.lab.plane_routes import plane_routes
from lcm_studio.web.lab.stream import Bench, parted
from lcm_studio.web.studio import Studio

FILMS_AT_ONCE = 2


def lab_routes(studio: Studio) -> list[Route]:
    """Of both benches, and the one that makes an animation of pictures that the page has."""
    return [
        *plane_routes(),
        *picture_routes(studio),
        Route("/lab/gif", Films().gif, methods=["POST"]),
    ]


class Films:
    def __init__(self) -> None:
        self.bench = Bench(FILMS_AT_ONCE)

    async def gif(self, http: Http) -> Response:
        """POST of pictures, each a message of its own -> an animated GIF."""
        from lcm_studio.web.lab.pictures_values import animation

        data = await http.body()
        return await self.bench.once(
            lambda: animation([body for _, body in parted(data)]), "image/gif"
        )
