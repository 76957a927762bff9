"""What every tab shares: the engine, the options, what is under way, the pictures, and `play`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lcm_studio.spec import events
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.owners import Owner
from lcm_studio.web import views
from lcm_studio.web.server.grants import Grants
from lcm_studio.web.server.model_list import ModelUse
from lcm_studio.web.server.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from lcm_studio.engine import Engine
    from lcm_studio.spec.requests import Request
    from lcm_studio.web.options import Options
    from lcm_studio.web.server.control_pictures import ControlPictures
    from lcm_studio.web.server.handouts import Handouts
    from lcm_studio.web.server.loras import LoraStore
    from lcm_studio.web.server.picture_store import Album, PictureStore
    from lcm_studio.web.server.stops import Stops
    from lcm_studio.web.server.weights import ModelStore

View = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Studio:
    """One per app; holds no user's state.

    `handouts`: files for clients of named endpoints. `models_folder`: of models that outlive the app; None where it has none here.
    """

    engine: Engine
    options: Options
    pictures: PictureStore
    stops: Stops
    handouts: Handouts
    loras: LoraStore
    models: ModelStore
    controls: ControlPictures
    models_folder: Path | None = None
    running: Running = field(default_factory=Running)
    used: ModelUse = field(default_factory=ModelUse)
    grants: Grants = field(default_factory=Grants)
    preloaded: threading.Event = field(default_factory=threading.Event)

    def allowed_model(self, model: Any) -> str:
        """The model a page or client names: any where its users are known, else only those in the catalog."""
        if not isinstance(model, str):
            raise BadRequest("model must be text; choose one from the list")
        wanted = model.strip() or self.options.model
        if not self.options.free_paths and wanted not in {
            info.id for info in self.engine.catalog()
        }:
            raise BadRequest(f"{wanted} is not offered here; choose a model from the list")
        return wanted

    def play(
        self,
        make: Callable[[], Request],
        *,
        owner: Owner,
        tab: str,
        page: str = "",
        on_done: Callable[[events.Done], View] | None = None,
    ) -> Iterator[View]:
        """Build a request, run it, and yield what the stage draws; never raises for a user's mistake.

        `page` is the key of the browser tab, which may take it up again. `on_done` adds to the last value (e.g. a fidelity read-out).
        """
        try:
            request = make()
            warnings = self.engine.validate(request)
        except StudioError as error:
            yield views.message(str(error))
            return
        with self.stops.under_way(owner.session, tab, page) as ticket:
            for event in self.engine.run(request, cancelled=ticket.stop.is_set, owner=owner):
                if isinstance(event, events.Step) and event.total == 1:
                    continue  # the picture itself is a moment away
                view = self.show(event, request, owner)
                if isinstance(event, events.Done):
                    if warnings and "message" not in view:
                        view["message"] = {"kind": "warning", "text": views.sentences(warnings)}
                    view |= on_done(event) if on_done else {}
                yield view

    def published(self, done: events.Done) -> events.Done:
        """A result whose settings may leave this machine."""
        return replace(done, settings=self.named(done.settings))

    def named(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that call uploaded files what the form calls them, not by their place on this machine."""
        loras = [
            {**lora, "path": self.loras.shown(str(lora["path"]))}
            for lora in settings.get("loras") or ()
        ]
        out = {**settings, "loras": loras}
        if settings.get("embeddings"):
            out["embeddings"] = [
                {**one, "path": self.loras.shown(str(one["path"]))}
                for one in settings["embeddings"]
            ]
        return out

    def album(self, owner: Owner) -> Album:
        """Where an owner's pictures go: who signs in has a folder of one's own."""
        return self.pictures.album(owner.person if self.options.users else "")

    def show(self, event: events.Event, request: Request, owner: Owner) -> View:
        """One event as a stage value."""
        match event:
            case events.Queued(position=position):
                return views.queued(position)
            case events.Loading(message=text):
                return views.loading(text)
            case events.Step():
                return views.running(event)
            case events.Working():
                return views.working(event)
            case events.Done():
                self.used.note(request.model)
                return views.done(self.published(event), self.album(owner))
            case events.Stopped():
                return views.stopped(event, self.named(brief(request)), self.album(owner))
            case events.Failed(message=text):
                return views.message(text)
        raise TypeError(f"unknown event {type(event).__name__}")


def brief(request: Request) -> dict[str, Any]:
    """A request's own fields as JSON-serialisable settings, for pictures kept by Stop."""
    from dataclasses import fields

    names = [
        f.name
        for f in fields(request)
        if f.name
        not in ("image", "image_b", "mask", "control", "ip_adapter", "priority", "previews")
    ]
    values = {name: getattr(request, name) for name in names}
    values["loras"] = [{"path": lora.path, "weight": lora.weight} for lora in request.loras]
    values["embeddings"] = [{"path": e.path, "word": e.word} for e in request.embeddings]
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
