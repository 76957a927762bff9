"""The gallery's routes; static/gallery.js asks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from starlette.requests import Request as Http
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.web.server.gallery import PAGE, Gallery, allowed
from lcm_studio.web.server.model_list import ModelList
from lcm_studio.web.server.picture_store import MEDIA
from lcm_studio.web.server.stops import user_of
from lcm_studio.web.studio import Studio

MAX_BODY = 256 * 1024
CHUNK = 1024 * 1024


def gallery_routes(studio: Studio) -> list[BaseRoute]:
    """Under /studio, and those of the list of models; no gallery where strangers could come without signing in."""
    if not allowed(studio.options):
        return ModelList(studio=studio, gallery=None).routes()
    shown = Shown(studio)
    return [
        *ModelList(studio=studio, gallery=shown.gallery).routes(),
        Route("/gallery", shown.entries),
        Route("/gallery/thumb/{id:path}", shown.thumb),
        Route("/gallery/picture/{id:path}", shown.picture),
        Route("/gallery/{act}", shown.act, methods=["POST"]),
    ]


class Shown:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.gallery = Gallery(studio.pictures.folder)

    def user(self, http: Http) -> str:
        return user_of(http) if self.studio.options.users else ""

    async def entries(self, http: Http) -> Response:
        """GET ?search=&stars=1&from=N: a page of pictures, and how many there are."""
        user, asked = self.user(http), http.query_params
        stars = asked.get("stars") == "1"
        found = await asyncio.to_thread(
            self.gallery.entries, user, asked.get("search", "")[:500], stars=stars
        )
        starred = await asyncio.to_thread(self.gallery.stars, user)
        first = int(asked["from"]) if asked.get("from", "").isdecimal() else 0
        page = [
            {
                "id": e.id, "day": e.day, "version": e.changed, "star": e.id in starred,
                "settings": self.settings(e.settings),
            }
            for e in found[first : first + PAGE]
        ]  # fmt: skip
        answer = {"total": len(found), "entries": page}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def settings(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says; a foreign one may say anything."""
        try:
            return self.studio.named(said) if said else {}
        except (TypeError, KeyError, ValueError, AttributeError):
            return {"prompt": str(said.get("prompt", ""))}

    async def thumb(self, http: Http) -> Response:
        try:
            data = await asyncio.to_thread(
                self.gallery.thumb, self.user(http), http.path_params["id"]
            )
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 404)
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(data, media_type="image/jpeg", headers=headers)

    async def picture(self, http: Http) -> Response:
        try:
            file = self.gallery.path(self.user(http), http.path_params["id"])
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 404)
        return FileResponse(
            file, media_type=MEDIA[file.suffix], headers={"Cache-Control": "private"}
        )

    async def act(self, http: Http) -> Response:
        """POST {ids} to star, unstar, delete, download, or open (the id by which a tab takes the picture)."""
        user, act = self.user(http), http.path_params["act"]
        try:
            ids = named(await http.body())
            if act in ("star", "unstar"):
                await asyncio.to_thread(self.gallery.star, user, ids, on=act == "star")
                return JSONResponse({})
            if act == "delete":
                return JSONResponse(
                    {"gone": await asyncio.to_thread(self.gallery.delete, user, ids)}
                )
            if act == "open":
                file = self.gallery.path(user, ids[0])
                if file.suffix != ".png":
                    raise BadRequest(
                        "an animation cannot be edited; open one of its pictures, which lie beside it"
                    )
                return JSONResponse({"id": self.studio.pictures.adopt(file).id})
            if act == "download":
                bundle = await asyncio.to_thread(self.gallery.bundle, user, ids)
                name = {"Content-Disposition": 'attachment; filename="lcm-studio.zip"'}
                return StreamingResponse(parts(bundle), media_type="application/zip", headers=name)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        return JSONResponse({"detail": "The gallery knows no such action; reload the page."}, 404)


def named(raw: bytes) -> list[Any]:
    """The ids of a request's body. Raises BadRequest."""
    try:
        said = json.loads(raw) if len(raw) <= MAX_BODY else None
    except (ValueError, RecursionError):
        said = None
    ids = said.get("ids") if isinstance(said, dict) else None
    if not isinstance(ids, list) or not ids:
        raise BadRequest("choose pictures first")
    return ids


def parts(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while data := file.read(CHUNK):
            yield data
