"""Gradio's Blocks with two habits of a public server: errors in one sentence, and little kept of each session."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict, defaultdict
from copy import copy
from typing import Any

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio.block_function import BlockFunction
from gradio.components.api_component import Api
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import get_function_params
from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response

from lcm_studio.web.server.boundary import MISFIT, sentence

UNREAD = 256  # sessions whose unread messages are kept


class Page(gr.Blocks):
    """A page whose functions fail in words: what they raise and did not mean to say goes to the log."""

    async def process_api(
        self, block_fn: BlockFunction | int, inputs: list[Any], *args: Any, **options: Any
    ) -> Any:
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        try:
            answer: dict[str, Any] = await super().process_api(
                function, [*inputs, *defaults(function, len(inputs))], *args, **options
            )
            return answer | {"data": sendable(answer.get("data"))}
        except gr.Error as error:
            # ours are raised without a traceback; of Gradio's own the one about choices names Python's classes
            if error.print_exception and "list of choices" in str(error):
                raise gr.Error(MISFIT, print_exception=False) from error
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            sentence(error)
            raise gr.Error(MISFIT, print_exception=False) from error
        except Exception as error:
            raise gr.Error(sentence(error)[1], print_exception=False) from error


def sendable(value: Any) -> Any:
    """What a function returns, without whole numbers over 64 bits: Gradio's event stream ends at one, for the whole page."""
    if isinstance(value, dict):
        return {name: sendable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(one) for one in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 2**1023 else str(value)
    return value


def defaults(function: BlockFunction, given: int) -> list[Any]:
    """Values of the last arguments of a named function where only the first `given` were sent; none where one has no
    default. So a caller that names no arguments goes on working when a version adds some.
    """
    inputs = function.inputs
    if not 0 < given < len(inputs) or not all(isinstance(one, Api) for one in inputs):
        return []
    missing = get_function_params(function.fn)[given : len(inputs)]
    values = [value for _, has_default, value, _ in missing if has_default]
    return values if len(values) == len(missing) else []


class LeanState(SessionState):
    """One session's state without a copy of the page's configuration and of every value sent: only deep links need it."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Nothing is kept."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing is kept."""


class Sessions(StateHolder):
    """The latest sessions; the oldest make room."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LeanState(self.blocks)
        return super().__getitem__(session_id)


class Unread(OrderedDict[str, Any]):
    """Messages by session, `most` of them, for Gradio's queue. The session that was quiet for longest makes room.

    One whose request waits or runs never does: its messages go to a client that listens. A message to a session that is
    gone goes nowhere. Where it raised, as a plain dict does, the loop that takes requests off the queue ended for everybody.
    """

    def __init__(self, queue: Any, most: int) -> None:
        super().__init__()
        self.queue, self.most = queue, most

    def __setitem__(self, session: str, messages: Any) -> None:
        if session not in self and len(self) >= self.most:
            busy = {event.session_hash for event in self.queue.event_ids_to_events.values()}
            quiet = next((one for one in self if one not in busy), None)
            if quiet is not None:
                del self[quiet]
                self.queue.pending_event_ids_session.pop(quiet, None)
        super().__setitem__(session, messages)

    def __getitem__(self, session: str) -> Any:
        if session in self:
            self.move_to_end(session)
        return super().__getitem__(session)

    def __missing__(self, session: str) -> Any:
        return asyncio.Queue()


async def misfit(_: Http, error: Exception) -> Response:
    """A body that is no request of Gradio's; its own answer holds what was sent, which need not be valid JSON."""
    return JSONResponse({"detail": MISFIT}, 422)


def settle(blocks: gr.Blocks) -> None:
    """To be called once the page is mounted."""
    sessions = Sessions()
    sessions.set_blocks(blocks)
    blocks.app.state_holder = sessions
    blocks.app.add_exception_handler(RequestValidationError, misfit)
    blocks._queue.ANALYTICS_MAX_EVENTS = 100
    # a table of all of them was made again after every event, and nobody reads it
    blocks._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize
    blocks._queue.pending_event_ids_session = defaultdict(set)  # of a session that is gone: none
    blocks._queue.pending_messages_per_session = Unread(blocks._queue, UNREAD)  # type: ignore[assignment]
