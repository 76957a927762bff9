"""The page's own small routes beside Gradio's: scripts, state, pictures, settings of a dropped PNG, Live."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request as Http
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from lcm_studio.spec.errors import BadRequest, StudioError, TooLarge
from lcm_studio.web.server.gallery_routes import gallery_routes
from lcm_studio.web.server.picture_store import MEDIA
from lcm_studio.web.server.weights import HEAD
from lcm_studio.web.studio import Studio

if TYPE_CHECKING:
    from starlette.types import Scope

STATIC = Path(__file__).parents[1] / "static"
MAX_SETTINGS_FILE = 32 * 1024 * 1024


def routes(studio: Studio, tabs: Iterable[BaseRoute] = ()) -> list[BaseRoute]:
    """Mounted in front of Gradio under /studio, with the routes of the tabs."""
    own = [
        Route("/state", State(studio).get),
        Route("/stop-download", State(studio).stop, methods=["POST"]),
        Route("/picture/{id}.{kind}", Pictures(studio).get),
        Route("/settings", settings, methods=["POST"]),
        Route("/opens", Opens().post, methods=["POST"]),
        Route("/lora", Loras(studio).post, methods=["POST"]),
        Route("/weights", Weights(studio).tell, methods=["POST"]),
        Route("/model", Weights(studio).model, methods=["POST"]),
        *gallery_routes(studio),
        *tabs,
        Mount("/static", Scripts(directory=STATIC)),
    ]
    return [Mount("/studio", routes=own)]


class Scripts(StaticFiles):
    """The page's scripts; asked again each time, so that an update is never half there."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class State:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.start = secrets.token_hex(8)  # tells a page that the studio was started again

    async def get(self, _: Http) -> Response:
        """The model's loading state."""
        state = self.studio.engine.state()
        said = {
            "status": state.status,
            "model": state.model or self.studio.options.model,
            "message": state.message,
            "start": self.start,
            "loaded": list(state.loaded),
            "done": state.done,
            "total": state.total,
        }
        return JSONResponse(said, headers={"Cache-Control": "no-store"})

    async def stop(self, _: Http) -> Response:
        """POST: ends the download that `get` tells of."""
        stop = getattr(self.studio.engine, "stop_download", None)  # engines elsewhere have none
        if stop is None or not self.studio.options.free_paths:
            return JSONResponse({"detail": "It is not for this page to stop."}, 403)
        stop()
        return JSONResponse({})


class Pictures:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    async def get(self, http: Http) -> Response:
        """A finished picture's PNG, or an animation, by its random id; waits for it to be written."""
        picture = self.studio.pictures.find(http.path_params["id"])
        if picture is None or picture.path.suffix != f".{http.path_params['kind']}":
            return JSONResponse(
                {"detail": "This picture is no longer kept; make it again from its settings."}, 404
            )
        try:
            await asyncio.wrap_future(picture.written)
        except OSError as error:
            return JSONResponse(
                {"detail": f"The picture could not be written: {error.strerror}."}, 507
            )
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 507)
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        media = MEDIA[picture.path.suffix]
        return FileResponse(picture.path, media_type=media, headers=headers)


class Loras:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    async def post(self, http: Http) -> Response:
        """POST of the bytes of a LoRA or a textual inversion, its name in ?name=: what the form calls it."""
        try:
            said = await self.studio.loras.receive(http.query_params.get("name", ""), http.stream())
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        except OSError as error:
            return JSONResponse(
                {"detail": f"The file could not be kept: {error.strerror}; free some space."}, 507
            )
        return JSONResponse(said)


class Weights:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    async def tell(self, http: Http) -> Response:
        """POST of a file's first bytes, ?name= and ?size=: what it is, before the rest is sent."""
        head = await http.body()
        if len(head) > HEAD:
            return JSONResponse({"detail": "Send the file's header alone."}, 413)
        try:
            said = await asyncio.to_thread(self.studio.models.tell, *_named(http), head)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        except OSError as error:
            return JSONResponse({"detail": f"The file cannot be kept: {error.strerror}."}, 507)
        return JSONResponse(said)

    async def model(self, http: Http) -> Response:
        """POST of the bytes of a whole checkpoint, ?name= and ?size=: the model's id."""
        try:
            said = await self.studio.models.receive(*_named(http), http.stream())
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        except OSError as error:
            return JSONResponse({"detail": f"The file could not be kept: {error.strerror}."}, 507)
        return JSONResponse(said)


def _named(http: Http) -> tuple[str, int]:
    """(name, size) of a file that is handed over. Raises BadRequest where the size is none."""
    size = http.query_params.get("size", "")
    if not size.isascii() or not size.isdigit() or len(size) > 18:
        raise BadRequest("the size of the file is missing; send ?name= and ?size=")
    return http.query_params.get("name", ""), int(size)


class Opens:
    """Whether a file is a picture that Edit can open, so that one which is not stays where it was dropped."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(1)  # a large one takes hundreds of megabytes for a moment

    async def post(self, http: Http) -> Response:
        """POST of a file's bytes: {} where it opens, as it is or made smaller; else why it does not."""
        from lcm_studio.images import read_image

        data = await http.body()
        async with self.turn:
            try:
                await asyncio.to_thread(read_image, data)
            except TooLarge:
                pass  # Edit offers to make it smaller
            except StudioError as error:
                return JSONResponse({"detail": str(error)}, 422)
        return JSONResponse({})


async def settings(http: Http) -> Response:
    """POST of a PNG's bytes: the settings it carries."""
    from lcm_studio.images import read_settings

    data = await http.body()
    if len(data) > MAX_SETTINGS_FILE:
        return JSONResponse(
            {"detail": "The file is larger than 32 MB; drop a PNG that the studio has written."},
            413,
        )
    try:
        said = await asyncio.to_thread(read_settings, data)
    except StudioError as error:
        return JSONResponse({"detail": str(error)}, 422)
    if not said:
        return JSONResponse(
            {"detail": "This file carries no settings; drop a PNG that the studio has written."},
            422,
        )
    return JSONResponse({"settings": said})
