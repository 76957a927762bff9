"""Live sketch's fast path: the canvas in, stage values out; nothing is stored at one step."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.requests import Edit
from lcm_studio.web.create import own
from lcm_studio.web.create import values as form
from lcm_studio.web.create.routes import LIMIT, Run
from lcm_studio.web.edit import fields
from lcm_studio.web.edit import values as edit_form
from lcm_studio.web.server.stops import owner_of
from lcm_studio.web.studio import Studio

MAX_BODY = 12 * 1024 * 1024


def edit_routes(studio: Studio) -> list[Route]:
    """POST /studio/sketch {image, strokes, prompt, steps, guidance, settings, steering, seed, randomize, refine}; settings and steering by name."""
    return [Route("/sketch", Sketch(studio).sketch, methods=["POST"])]


class Sketch:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.slots = threading.BoundedSemaphore(LIMIT)

    async def sketch(self, http: Http) -> Response:
        """Stage values, one JSON object per line."""
        try:
            said = self._said(await http.body())
            request, warnings = await asyncio.to_thread(self.checked, said)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        if not self.slots.acquire(blocking=False):
            return JSONResponse({"detail": "The studio is busy; Live goes on in a moment."}, 503)
        refine = bool(said.get("refine"))
        run = Run(
            self.studio, request, warnings,
            owner=owner_of(http), refine=refine, leave=self.slots.release,
        )  # fmt: skip
        return StreamingResponse(
            run.lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
        )

    def checked(self, said: Mapping[str, Any]) -> tuple[Edit, tuple[str, ...]]:
        """The request and what is to say of it, off the event loop."""
        request = self.request(said)
        return request, self.studio.engine.validate(request)

    def request(self, said: Mapping[str, Any]) -> Edit:
        """One step while the hand moves, all of them, with previews, when it rests.

        Where strokes are given by themselves, nothing else may change.
        """
        steps = form.guided_steps(said)
        info = self.studio.engine.info_as(
            self.studio.allowed_model(form.text(said, "model")), guided_steps=steps
        )
        refine = bool(said.get("refine"))
        image = edit_form.picture_of(said["image"])
        mask = None
        settings = said.get("settings")
        # what the form shows; a strength by itself is what earlier programs sent
        given = {
            "strength": said.get("strength"),
            **(settings if isinstance(settings, Mapping) else {}),
        }
        options = fields.options("sketch", given)
        strokes = said.get("strokes")
        if isinstance(strokes, str) and strokes:
            mask = edit_form.alpha_of(edit_form.picture_of(strokes), *image.shape[:2])
            options.setdefault("grow", edit_form.ROUND_STROKES)
        steering = said.get("steering")
        steered = edit_form.steered(
            "sketch", steering if isinstance(steering, Mapping) else {}, info, self.studio.controls
        )
        guided = info.guidance != "none" and said.get("guidance") is not None
        return Edit(
            task="sketch",
            image=image,
            mask=mask,
            options=options,
            prompt=form.text(said, "prompt"),
            steps=form.whole(said, "steps") if refine else 1,
            guidance=form.number(said, "guidance") if guided else None,
            **own.values_of(said, info, own.EDITED),
            **steered,
            previews=refine,
            seed=form.whole(form.without_replaced_seed(said), "seed"),
            model=info.id,
            priority="live",
        )

    @staticmethod
    def _said(raw: bytes) -> Mapping[str, Any]:
        try:
            said = json.loads(raw) if len(raw) <= MAX_BODY else None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, Mapping) or not isinstance(said.get("image"), str):
            raise BadRequest(
                f"send {{image, prompt, steps, settings, seed}} of at most {MAX_BODY} bytes"
            )
        return said
