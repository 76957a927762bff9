"""Live's fast path: a form in, a line of JSON per stage value out; no queue, no session, nothing written at one step.

The page asks for one step with the newest values and, when the hand rests, for all of them; it drops the
connection when something newer comes, which stops the request here.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from lcm_studio.spec import events
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Generate, Request
from lcm_studio.web import views
from lcm_studio.web.create import steering_values
from lcm_studio.web.create import values as form
from lcm_studio.web.server.stops import owner_of
from lcm_studio.web.studio import Studio
from lcm_studio.web.views import View

LIMIT = 16  # live requests at once, all users together
MAX_BODY = 64 * 1024


def live_routes(studio: Studio) -> list[BaseRoute]:
    """To be mounted under /studio."""
    live = Live(studio)
    return [
        Route("/live", live.live, methods=["POST"]),
        Route("/check", live.check, methods=["POST"]),
    ]


class Live:
    """The two endpoints that follow the Create form."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.slots = threading.BoundedSemaphore(LIMIT)

    async def check(self, http: Http) -> Response:
        """POST {form}: what is to say of the form as it stands (unknown words ...), and the prompt's tokens."""
        said = await body(http)

        def look() -> tuple[tuple[str, ...], tuple[int, int] | None]:
            request = self.request(said)
            return self.studio.engine.validate(request), self.studio.engine.tokens(request)

        try:
            warnings, tokens = await asyncio.to_thread(look)
        except StudioError as error:
            text = views.in_page_words(str(error))  # as the stage says it
            return JSONResponse({"message": {"kind": "error", "text": text}})
        text = views.sentences(warnings)
        message = {"kind": "warning", "text": text} if text else None
        return JSONResponse({"message": message, "tokens": tokens})

    async def live(self, http: Http) -> Response:
        """POST {form, refine}: stage values, one JSON object per line."""
        said = await body(http)
        try:
            request, warnings = await asyncio.to_thread(self.checked, said)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        if not self.slots.acquire(blocking=False):
            return JSONResponse(
                {"detail": "The studio is busy; Live goes on when others have finished."}, 503
            )
        run = Run(
            self.studio,
            request,
            warnings,
            owner=owner_of(http),
            refine=bool(said.get("refine")),
            leave=self.slots.release,
        )
        return StreamingResponse(
            run.lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
        )

    def checked(self, said: Mapping[str, Any]) -> tuple[Generate, tuple[str, ...]]:
        """The request and what is to say of it. Files are opened here, off the event loop."""
        request = self.request(said)
        return request, self.studio.engine.validate(request)

    def request(self, said: Mapping[str, Any]) -> Generate:
        values = said.get("form")
        if not isinstance(values, Mapping):
            raise BadRequest("the form is missing; send {form: {...}}")
        values = form.without_replaced_seed(values)
        info = form.info_of(self.studio, values)
        whole = form.to_request(
            values, info, previews=True, priority="live", store=self.studio.loras,
            steering=steering_values.of_form(values, info, self.studio.controls),
        )  # fmt: skip
        if said.get("refine"):
            return whole
        return replace(whole, steps=1, timesteps=None, count=1, previews=False)


class Run:
    """One live request: the engine in a thread, its events on the connection."""

    def __init__(
        self,
        studio: Studio,
        request: Request,
        warnings: tuple[str, ...],
        *,
        owner: Owner,
        refine: bool,
        leave: Callable[[], None],
    ) -> None:
        self.studio, self.request, self.warnings = studio, request, warnings
        self.owner, self.refine, self.leave = owner, refine, leave
        self.gone = threading.Event()

    async def lines(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[View | None] = asyncio.Queue()

        def post(view: View | None) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, view)

        def work() -> None:
            try:
                run = self.studio.engine.run(
                    self.request, cancelled=self.gone.is_set, owner=self.owner
                )
                for event in run:
                    if not self.gone.is_set():
                        post(self.view(event))
            finally:
                self.leave()
                post(None)

        thread = threading.Thread(target=work, name="live", daemon=True)
        thread.start()
        try:
            while (view := await inbox.get()) is not None:
                if view:
                    yield json.dumps(view).encode() + b"\n"
        finally:
            self.gone.set()

    def view(self, event: events.Event) -> View:
        """The one-step answer is a preview: nothing is stored. The full one becomes a picture."""
        if isinstance(event, events.Done) and not self.refine:
            value: View = {
                "phase": "live",
                "frames": [
                    {"src": views.jpeg(p), "seed": s, "note": "1 step"} | views.hidden(bad)
                    for p, s, bad in zip_longest(event.images, event.seeds, event.flagged)
                ],
                "seconds": float(event.timing.get("total", 0.0)),
                "network": float(event.timing.get("network", 0.0)),
            }
        elif isinstance(event, events.Done):
            value = self.studio.show(event, self.request, self.owner) | {"live": True}
        elif isinstance(event, events.Stopped):
            return {}
        else:
            value = self.studio.show(event, self.request, self.owner)
            if isinstance(event, events.Step) and not event.previews:
                return {}
        if isinstance(event, events.Done):
            text = views.sentences(self.warnings)
            value["message"] = {"kind": "warning", "text": text} if text else None
        return value


async def body(http: Http) -> Mapping[str, Any]:
    raw = await http.body()
    try:
        said = json.loads(raw) if len(raw) <= MAX_BODY else None
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, Mapping) else {}
