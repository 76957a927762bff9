"""The workbench as one ASGI app: guard -> boundary -> own routes -> Gradio. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import IO, TYPE_CHECKING, cast

from lcm_studio.spec.errors import StudioError
from lcm_studio.web.options import Options
from lcm_studio.web.server import folders
from lcm_studio.web.server.control_pictures import ControlPictures
from lcm_studio.web.server.handouts import Handouts
from lcm_studio.web.server.loras import LoraStore
from lcm_studio.web.server.picture_store import PictureStore
from lcm_studio.web.server.stops import Stops
from lcm_studio.web.server.weights import ModelStore
from lcm_studio.web.studio import Studio

if TYPE_CHECKING:
    import fastapi
    from starlette.types import ASGIApp

    from lcm_studio.engine import Engine
    from lcm_studio.web.server.index import Index

FIRST_PAGE = 1.5  # seconds that loading waits for the first page to be asked for


def build_app(engine_factory: Callable[[Options], Engine], options: Options) -> ASGIApp:
    """The whole app. The model starts to load when the server has started; the page does not wait for it."""
    private, lock = folders.private_folder()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(private / "uploads")
    pictures = PictureStore(
        options.outputs or private / "pictures", keep=options.outputs is not None
    )
    folder = folders.models_folder(options)
    kept = options.models_dirs[0] if options.models_dirs else private / "models"
    if not options.models_dirs:
        options = replace(options, models_dirs=(kept,))
    engine = engine_factory(options)
    studio = Studio(
        engine=engine,
        options=options,
        pictures=pictures,
        stops=Stops(),
        handouts=Handouts(private / "uploads" / "api"),
        controls=ControlPictures(private / "controls", free_paths=options.free_paths),
        models_folder=folder,
        models=ModelStore(
            engine,
            kept,
            limit=options.model_limit,
            allowed=options.free_paths and not options.engine and options.model_limit > 0,
        ),
        loras=LoraStore(private / "loras", limit=options.lora_limit, free_paths=options.free_paths),
    )
    return assemble(studio, lock)


def assemble(studio: Studio, lock: IO[str]) -> ASGIApp:
    """FastAPI with our routes in front, Gradio behind, and the guard around both."""
    import fastapi

    from lcm_studio.web.create.routes import live_routes
    from lcm_studio.web.distil.routes import job_routes
    from lcm_studio.web.edit.routes import edit_routes
    from lcm_studio.web.lab.routes import lab_routes
    from lcm_studio.web.page import build_page
    from lcm_studio.web.server.blocks import settle
    from lcm_studio.web.server.boundary import Boundary
    from lcm_studio.web.server.guard import Guard
    from lcm_studio.web.server.index import Index
    from lcm_studio.web.server.mounting import mount, no_server_yet
    from lcm_studio.web.server.routes import STATIC, routes
    from lcm_studio.web.theme import theme

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        if studio.options.preload:
            threading.Thread(
                target=preload, args=(studio, index), name="preload", daemon=True
            ).start()
        yield
        studio.engine.close()
        lock.close()

    api = fastapi.FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    index = Index(api, STATIC)
    tabs = (*live_routes(studio), *edit_routes(studio), *job_routes(studio), *lab_routes(studio))
    api.router.routes.extend(routes(studio, tabs))
    if studio.options.mcp_token is not None:
        mount_tools(api, studio)
    with no_server_yet():
        blocks = build_page(studio)
    mount(
        api, blocks, "/", server_name=studio.options.host, server_port=studio.options.port,
        theme=theme(), max_file_size=studio.options.body_limit,
        mcp_server=False, favicon_path=str(STATIC / "icon.svg"),
    )  # fmt: skip
    settle(blocks)
    return Guard(Boundary(index, studio.stops), studio.options)


def mount_tools(api: fastapi.FastAPI, studio: Studio) -> None:
    """Gradio's MCP server for the tools, apart from the page; in front of it, which takes every other path."""
    from lcm_studio.web.server.guard import MCP_PATH
    from lcm_studio.web.server.mounting import mount, no_server_yet
    from lcm_studio.web.tools import build_tools

    with no_server_yet():
        tools = build_tools(studio)
    mount(api, tools, MCP_PATH, mcp_server=True, max_file_size=studio.options.body_limit)


def preload(studio: Studio, index: Index) -> None:
    """Load the chosen model; `engine.state()` tells the page how it goes.

    A browser that is already waiting gets its page first: importing torch would hold it up.
    """
    index.served.wait(FIRST_PAGE)
    with contextlib.suppress(StudioError):  # the page shows the reason
        studio.engine.load(studio.options.model)
    studio.preloaded.set()


def engine_for(options: Options) -> Engine:
    """The real engine, in this process or elsewhere."""
    from lcm_studio.engine import Engine, EngineConfig
    from lcm_studio.engine.config import default_folders

    if options.engine:
        from lcm_studio.engine.remote.client import RemoteEngine

        # the same contract; what wants to look into a model gets a sentence
        return cast("Engine", RemoteEngine(options.engine))

    config = EngineConfig(
        device=options.device, dtype=options.dtype, backend=options.backend, offline=options.offline,
        queue_size=options.queue_size, models_dirs=(*default_folders(), *options.models_dirs),
        embeddings_dirs=options.embeddings_dirs,
    )  # fmt: skip
    return Engine(config)
