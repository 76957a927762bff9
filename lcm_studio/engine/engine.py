"""The engine: what the page, the shell, Python and training's validation talk to."""

from __future__ import annotations

import importlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.engine.config import EngineConfig, default_folders
from lcm_studio.engine.downloads import Downloads
from lcm_studio.engine.embeddings import FOLDER, Embeddings
from lcm_studio.engine.line import Places
from lcm_studio.engine.registry import Registry
from lcm_studio.engine.validate import check_control, check_ip_adapter, check_request, check_texts
from lcm_studio.engine.workers import Workers
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Event, Failed, Loading
from lcm_studio.spec.models import LoadState, ModelInfo
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Generate, LoraSpec, Request

if TYPE_CHECKING:
    from lcm_studio.device import Placement
    from lcm_studio.engine.lane import Lane
    from lcm_studio.models.load import LoadedModel
    from lcm_studio.spec.requests import Pixels

WARM_PARAMETERS = 100_000_000


def never() -> bool:
    """Not cancelled."""
    return False


class Engine:
    """Owns the loaded models and their lanes. All methods may be called from any thread."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self._lock = threading.Lock()
        self._state = LoadState()
        self._downloads = Downloads(self._change)
        self.registry = Registry(
            tuple(Path(d) for d in self.config.models_dirs) or default_folders(),
            offline=self.config.offline,
            fetch=self._downloads.fetch,
        )
        self._embeddings = Embeddings(
            (*self.config.embeddings_dirs, *(root / FOLDER for root in self.registry.folders))
        )
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._load_lock = threading.Lock()
        self._device_lock = threading.Lock()
        self._workers = Workers()
        self._places = Places(self.config.queue_size)
        self._placement: Placement | None = None

    def catalog(self) -> tuple[ModelInfo, ...]:
        """The models in the known folders, without torch."""
        return self.registry.catalog()

    def info(self, model_id: str) -> ModelInfo:
        """What a model is, without loading it. Raises ModelError with the remedy."""
        return self.registry.info(model_id)

    def info_as(
        self,
        model_id: str,
        *,
        loras: tuple[LoraSpec, ...] = (),
        kind: str = "auto",
        guided_steps: int | None = None,
    ) -> ModelInfo:
        """What `info` says, sampled by a chosen kind, or by that of its LoRAs, with real guidance in its first steps or as it is.

        Raises BadRequest or ModelError.
        """
        request = Generate(model=model_id, loras=loras, kind=kind, guided_steps=guided_steps)
        return self.resolved(request)[1]

    def resolved(self, request: Request) -> tuple[Request, ModelInfo]:
        """`request` with its kind and its textual inversions named, and the model as that kind is sampled.

        Raises BadRequest or ModelError. A kind that the user names for a file which does not say is remembered for that file.
        """
        from lcm_studio.models.kinds.recognise import resolve

        own = self.info(request.model)
        info = resolve(request, own, self.registry.memory)
        if request.kind != "auto":
            self.registry.remember(request, own)
        embeddings = self._embeddings.resolve(request, info)
        request = replace(request, kind=info.sampling or "auto", embeddings=embeddings)
        if request.control is not None:
            check_control(request.control, info, edits=isinstance(request, Edit))
            folder = self.registry.control(request.control, info)
            request = replace(request, control=replace(request.control, found=str(folder)))
        if request.ip_adapter is not None:
            check_ip_adapter(request.ip_adapter, info)
            file, encoder = self.registry.ip_adapter(request.ip_adapter, info)
            files = str(file), str(encoder)
            request = replace(request, ip_adapter=replace(request.ip_adapter, found=files))
        return request, info

    def embeddings(self, model_id: str) -> tuple[str, ...]:
        """Words of the textual inversions in the `embeddings` folders that fit a model. Raises ModelError."""
        return self._embeddings.names(self.info(model_id))

    def controls(self, model_id: str) -> tuple[str, ...]:
        """Names of the ControlNets beside the models that fit a model. Raises ModelError."""
        return self.registry.controls(self.info(model_id))

    def ip_adapters(self, model_id: str) -> tuple[str, ...]:
        """Names of the IP-Adapters beside the models that fit a model. Raises ModelError."""
        return self.registry.ip_adapters(self.info(model_id))

    def decoders(self) -> tuple[str, ...]:
        """Names for `decoder` of a request."""
        return self.registry.decoders()

    def state(self) -> LoadState:
        """The last load's state, for the page."""
        with self._lock:
            return replace(self._state, loaded=tuple(self._lanes))

    def stop_download(self) -> None:
        """Ends what is being fetched from the hub; the next try goes on where it stopped."""
        self._downloads.stop()

    @property
    def placement(self) -> Placement:
        """Where models run; imports torch."""
        if self._placement is None:
            from lcm_studio.device import choose

            c = self.config
            self._placement = choose(c.device, c.dtype, c.backend, once=c.once)
        return self._placement

    def load(self, model_id: str) -> None:
        """Loads a model and keeps it; the ones that work stay where it fails. Raises ModelError."""
        self._lane(model_id)

    def model(self, model_id: str) -> LoadedModel:
        """The loaded model itself, for benchmarks and tests; ask it nothing while requests run."""
        return self._lane(model_id).model

    @property
    def alive(self) -> bool:
        """Whether every lane works; for health checks."""
        with self._lock:
            return all(lane.alive for lane in self._lanes.values())

    def lane(self, model_id: str) -> Lane:
        """The lane of a model, loaded if need be."""
        return self._lane(model_id)

    def validate(self, request: Request) -> tuple[str, ...]:
        """Warnings for the user. Raises BadRequest or ModelError with one sentence."""
        check_texts(request)
        resolved, info = self.resolved(request)
        words = self._embeddings.words(resolved.embeddings)
        warnings = check_request(request, info, words)
        warnings += self._embeddings.warnings(request, resolved.embeddings, info)
        if isinstance(request, Edit):
            edits = importlib.import_module("lcm_studio.edits")
            warnings = (*warnings, *edits.check(request, info))
        if request.decoder != "default":
            self.registry.decoder(request.decoder, info)
        return warnings

    def tokens(self, request: Request) -> tuple[int, int] | None:
        """(tokens of the prompt, tokens that fit into the chunks it takes); None where its model is not loaded or does not count."""
        with self._lock:
            lane = self._lanes.get(request.model)
        count = getattr(lane.model, "tokens", None) if lane else None
        return count(request.prompt, self.resolved(request)[0].embeddings) if count else None

    def run(
        self,
        request: Request,
        cancelled: Callable[[], bool] = never,
        *,
        owner: Owner | None = None,
    ) -> Iterator[Event]:
        """Carries a request out; the last event is Done, Failed or Stopped. Never raises for a user's mistake.

        Leaving the iterator early cancels the request. Turns go by `owner`; None is one owner of its own.
        """
        from lcm_studio.edits.quilt import tiling_of
        from lcm_studio.engine.large import run_tiles
        from lcm_studio.engine.run import Order, run_request

        try:
            warnings = self.validate(request)
            tiling = tiling_of(request) if isinstance(request, Edit) else None
            if not self._has(request.model):
                yield Loading(message=f"Loading {request.model} ...")
            lane = self._lane(request.model)
            request, _ = self.resolved(request)
        except StudioError as error:
            yield Failed(message=str(error))
            return
        rest: Any = {
            "lane": lane, "warnings": warnings, "cancelled": cancelled, "owner": owner or Owner(),
        }  # fmt: skip
        if isinstance(request, Edit) and tiling is not None:
            yield from run_tiles(Order(request=request, **rest), tiling)
        else:
            yield from run_request(Order(request=request, **rest))

    def likeness(self, pixels: Pixels, model_id: str) -> float | None:
        """How many times the error of its own pictures a loaded model has on `pixels`; None where it says nothing of those."""
        from lcm_studio.engine.likeness import error_of

        with self._lock:
            lane = self._lanes.get(model_id)
        own = None if lane is None else lane.model.info.own_error
        if lane is None or own is None:
            return None
        return error_of(pixels, lane) / own

    def close(self) -> None:
        """Unloads everything; running requests fail with a sentence."""
        with self._lock:
            lanes = list(self._lanes.values())
            self._lanes.clear()
        for lane in lanes:
            lane.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has(self, model_id: str) -> bool:
        with self._lock:
            return model_id in self._lanes

    def _set(self, **changes: Any) -> None:
        self._change(lambda now: replace(now, **changes))

    def _change(self, change: Callable[[LoadState], LoadState]) -> None:
        with self._lock:
            self._state = change(self._state)

    def _lane(self, model_id: str) -> Lane:
        with self._lock:
            if model_id in self._lanes:
                self._lanes.move_to_end(model_id)
                return self._lanes[model_id]
        with self._load_lock:
            with self._lock:
                if model_id in self._lanes:
                    return self._lanes[model_id]
            return self._load_new(model_id)

    def _load_new(self, model_id: str) -> Lane:
        started = time.perf_counter()
        self._set(status="loading", model=model_id, message=f"Loading {model_id} ...")
        try:
            # On a thread that ends: a thread that has computed keeps its OpenMP team, and with more teams than
            # cores libgomp waits by sleeping, which made every later call of the lane up to 1.7 times slower.
            with ThreadPoolExecutor(1) as pool:
                lane = pool.submit(self._open, model_id).result()
        except StudioError as error:
            self._set(status="failed", message=str(error))
            raise
        except Exception as error:
            self._set(status="failed", message=f"{model_id} cannot be loaded: {error}")
            raise
        self._warm(lane)
        with self._lock:
            self._lanes[model_id] = lane
            idle = [k for k, v in self._lanes.items() if k != model_id and v.load == (0, 0)]
            drop = [self._lanes.pop(k) for k in idle[: max(0, len(self._lanes) - self.config.keep)]]
        for old in drop:
            old.close()
        self._set(
            status="ready", message=f"{model_id} loaded in {time.perf_counter() - started:.1f} s"
        )
        return lane

    def _warm(self, lane: Lane) -> None:
        """One step, so that the user's first picture does not pay for lazy set-up; not where a step is slow."""
        from lcm_studio.engine.run import Order, run_request

        model = lane.model
        quick = model.info.parameters < WARM_PARAMETERS or model.device != "cpu"
        if quick or model.placement.wait:
            request = Generate(model=model.info.id, steps=1)
            for _ in run_request(Order(request=request, lane=lane)):
                pass

    def _open(self, model_id: str) -> Lane:
        from lcm_studio.engine.lane import Lane

        return Lane(
            self.open_model(model_id),
            max_rows=self.config.max_rows,
            places=self._places,
            device_lock=self._device_lock,
            workers=self._workers,
        )

    def open_model(self, model_id: str) -> LoadedModel:
        """A model's network on its device, for a lane of its own. Raises ModelError."""
        from lcm_studio.models.load import load_folder

        info = self.info(model_id)
        path = Path(info.path)

        def find_decoder(name: str) -> Path:
            return self.registry.decoder(name, info)

        if path.suffix.lower() == ".safetensors":
            from lcm_studio.models.single import load_single

            model = load_single(
                path,
                self.placement,
                folders=self.registry.model_folders(),
                find_decoder=find_decoder,
            )
            model.info = replace(model.info, id=model_id)
            return model
        return load_folder(path, self.placement, model_id=model_id, find_decoder=find_decoder)
