"""Edits of large pictures: each tile is a request of its own on the lane, so that tiles share calls and take turns."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.edits.pixels import join, split
from lcm_studio.edits.problem import worst
from lcm_studio.edits.quilt import Quilt, Tiling
from lcm_studio.engine.run import Order, run_request, sentence
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Event, Failed, Queued, Stopped, Working
from lcm_studio.spec.limits import MAX_SEED

if TYPE_CHECKING:
    from lcm_studio.edits.geometry import Box
    from lcm_studio.spec.requests import ControlSpec, Edit, Pixels

TOGETHER = 2  # tiles in work at once: one computes outside the network while the other is in it
STRIDE = 1009  # between the seeds of neighbouring tiles; variations take the ones between


class _Ended(StudioError):
    """A tile that came to no picture; `event` says why."""

    def __init__(self, event: Event) -> None:
        super().__init__(type(event).__name__)
        self.event = event


def run_tiles(order: Order[Edit], tiling: Tiling) -> Iterator[Event]:
    """The events of a large edit: Working by tile, then Done, Failed or Stopped, which keeps the tiles that are done.

    Memory is that of the result, of one row of tiles and of `TOGETHER` tiles in work.
    """
    yield from _Tiles(order, tiling).events()


def _part(request: Edit, box: Box) -> ControlSpec | None:
    """The request's ControlNet for one tile: of a picture of its own what lies over the tile."""
    spec = request.control
    if spec is None or spec.image is None:
        return spec  # the tile is its picture
    height, width = request.image.shape[:2]
    tall, wide = spec.image.shape[:2]
    rows = slice(box.top * tall // height, max(1, -(-box.bottom * tall // height)))
    columns = slice(box.left * wide // width, max(1, -(-box.right * wide // width)))
    return replace(spec, image=np.ascontiguousarray(spec.image[rows, columns]))


class _Tiles:
    def __init__(self, order: Order[Edit], tiling: Tiling) -> None:
        request = order.request
        self.order, self.request, self.tiling = order, request, tiling
        self.rows = tiling.boxes(*request.image.shape[:2])
        self.total = sum(len(row) for row in self.rows)
        self.started = time.perf_counter()
        self.inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.ahead: list[list[Future[Done]]] = []  # rows that are asked for, in no quilt yet
        self.over = threading.Event()
        self.quilts = [Quilt(self.rows, tiling.scale, tiling.fade) for _ in range(request.count)]
        self.flagged = [False] * request.count
        self.first: Done | None = None
        self.figures: list[Any] = []
        self.said: dict[str, None] = dict.fromkeys(order.warnings)
        self.evaluations = 0.0
        self.added = 0  # rows that are in the quilts

    def events(self) -> Iterator[Event]:
        pool = ThreadPoolExecutor(TOGETHER, thread_name_prefix="tile")
        worker = threading.Thread(target=self._work, args=(pool,), name="quilt", daemon=True)
        worker.start()
        try:
            while (event := self.inbox.get()) is not None:
                yield event
        finally:
            self.over.set()
            worker.join()
            pool.shutdown()

    def _work(self, pool: ThreadPoolExecutor) -> None:
        try:
            self.inbox.put(self._end(pool))
        except Exception as error:  # noqa: BLE001  whatever it is ends this request with a sentence
            self.over.set()
            self.inbox.put(Failed(message=sentence(error)))
        finally:
            self.inbox.put(None)

    def _end(self, pool: ThreadPoolExecutor) -> Event:
        """The last event."""
        try:
            self._sew(pool)
        except _Ended as end:
            self.over.set()
            return self._stopped() if self.order.cancelled() else end.event
        return self._done()

    def _sew(self, pool: ThreadPoolExecutor) -> None:
        """Row by row; the next row's tiles are asked for while one is put together. Raises _Ended."""
        number = 0
        self.ahead.append(self._row(pool, 0))
        for index in range(len(self.rows)):
            if index + 1 < len(self.rows):
                self.ahead.append(self._row(pool, index + 1))
            made: list[Done] = []
            for future in self.ahead[0]:
                made.append(future.result())
                number += 1
                self._tell(number)
            self.ahead.pop(0)
            self._add(made)

    def _row(self, pool: ThreadPoolExecutor, index: int) -> list[Future[Done]]:
        before = sum(len(row) for row in self.rows[:index])
        return [pool.submit(self._tile, box, before + i) for i, box in enumerate(self.rows[index])]

    def _tile(self, box: Box, number: int) -> Done:
        if self._left():
            raise _Ended(Stopped())
        request = replace(
            self.request,
            image=np.ascontiguousarray(box.of(self.request.image)),
            mask=None if self.request.mask is None else box.of(self.request.mask),
            options={**self.request.options, **self.tiling.options},
            seed=(self.request.seed + STRIDE * number) % (MAX_SEED - self.request.count),
            previews=False,
            control=_part(self.request, box),
        )
        order = replace(self.order, request=request, warnings=(), cancelled=self._left)
        for event in run_request(order):
            if isinstance(event, Queued) and not number:
                self.inbox.put(event)
            elif isinstance(event, Done):
                return event
            elif isinstance(event, Failed | Stopped):
                raise _Ended(event)
        raise _Ended(Stopped())

    def _left(self) -> bool:
        return self.over.is_set() or self.order.cancelled()

    def _tell(self, number: int) -> None:
        seconds = time.perf_counter() - self.started
        words = f"Tile {number} of {self.total}"
        self.inbox.put(Working(message=words, share=number / self.total, seconds=seconds))

    def _add(self, row: list[Done]) -> None:
        for i, quilt in enumerate(self.quilts):
            quilt.add([done.images[i] for done in row])
        self.added += 1
        for done in row:
            self._note(done)

    def _note(self, done: Done) -> None:
        """What a tile says beside its pictures."""
        self.first = self.first or done
        self.figures.append(done.fidelity)
        self.said |= dict.fromkeys(done.warnings)
        self.evaluations += done.timing.get("evaluations", 0.0)
        for i, bad in enumerate(done.flagged):
            self.flagged[i] |= bad

    def _stopped(self) -> Stopped:
        """The tiles that are done, and the picture as it was between them."""
        ahead = [
            {i: one.result() for i, one in enumerate(row) if one.exception() is None}
            for row in self.ahead
        ]
        late = [done for row in ahead for done in row.values()]
        count = sum(len(row) for row in self.rows[: self.added]) + len(late)
        if not count:
            return Stopped()
        for done in late:
            self._note(done)
        source = join(*split(self.request.image))
        for i, quilt in enumerate(self.quilts):
            quilt.fill(source, [{k: done.images[i] for k, done in row.items()} for row in ahead])
        return Stopped(
            previews=self._pictures(),
            previews_flagged=tuple(self.flagged),
            note=f"{count} of {self.total} tiles are kept; elsewhere it is the picture as it was",
        )

    def _pictures(self) -> tuple[Pixels, ...]:
        """The whole pictures, black where the safety checker objects to a tile."""
        for quilt, bad in zip(self.quilts, self.flagged, strict=True):
            if bad:
                quilt.picture[..., :3] = 0
        return tuple(quilt.picture for quilt in self.quilts)

    def _done(self) -> Done:
        assert self.first is not None
        images = self._pictures()
        height, width = images[0].shape[:2]
        settings = {
            **self.first.settings, "seed": self.request.seed, "options": dict(self.request.options),
            "width": int(width), "height": int(height), "tiles": self.total,
        }  # fmt: skip
        seconds = time.perf_counter() - self.started
        return Done(
            images=images,
            seeds=tuple(self.request.seed + i for i in range(self.request.count)),
            settings=settings,
            timing={"evaluations": self.evaluations, "total": seconds, "other": seconds},
            fidelity={**worst(self.figures), **self.tiling.figures, "tiles": self.total},
            warnings=tuple(self.said),
            flagged=tuple(self.flagged),
        )
