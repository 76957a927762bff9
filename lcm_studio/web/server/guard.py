"""One guard in front of everything the app serves: hosts, origins, body size, rate, sign-in, response headers.

Gradio by itself runs requests with a foreign or null Origin and a foreign Host, and its own auth leaves some
routes open; so the guard is the outermost ASGI layer and knows nothing of routes.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lcm_studio.web.server.signin import Login
from lcm_studio.web.server.stops import USER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from lcm_studio.web.options import Options

# The page needs inline scripts and `new Function` (Gradio's own); nothing may come from or go to another host.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
DEVELOPERS = re.compile(r"/gradio_api/(dev/|(undo-)?vibe-|deep_link|monitoring|run-history/|runs)")
SAFE = ("GET", "HEAD", "OPTIONS")
LORA_PATH, MODEL_PATH = "/studio/lora", "/studio/model"
MCP_PATH = "/mcp"
RATE, BURST = 60.0, 240.0  # changing requests per second and at once, per client address


class Refusal(Exception):
    """A request that is answered here, with one sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Guard:
    """ASGI: lets a request through to `app` or answers it with one sentence."""

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self.app = app
        self.hosts = Hosts(options)
        self.proxies = Proxies(options.trusted_proxies)
        self.limits = {LORA_PATH: options.lora_limit, MODEL_PATH: options.model_limit}
        self.limit = options.body_limit
        self.buckets = Buckets(rate=RATE, burst=BURST)
        self.login = Login(options.users) if options.users else None
        self.mcp_token = options.mcp_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        scope = self.proxies.seen_through(scope)
        limit = self.limits.get(scope["path"], self.limit)
        try:
            self.hosts.check(scope, headers)
            self.check_rate(scope)
            check_length(headers, limit)
            tools = scope["path"] == MCP_PATH or scope["path"].startswith(f"{MCP_PATH}/")
            if tools:
                self.check_token(headers)  # in place of signing in
            elif (
                scope["type"] == "http"
                and self.login
                and await self.login.answer(scope, receive, with_headers(send), headers)
            ):
                return
            if self.login and not tools:
                user = self.login.known(headers, client(scope))
                if not user:
                    raise Refusal(401, "Sign in first.")
                scope = {**scope, USER: user}
            check_path(scope["path"])
        except Refusal as refusal:
            await refuse(scope, send, refusal)
            return
        if scope["type"] == "http":
            await self.pass_on(scope, receive, with_headers(send), limit)
        else:
            await self.app(scope, receive, send)

    def check_token(self, headers: Mapping[str, str]) -> None:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if self.mcp_token is None:
            raise Refusal(404, "There are no tools here; start the studio with --mcp.")
        right = hmac.compare_digest(token.strip().encode(), self.mcp_token.encode())
        if kind.lower() != "bearer" or not right:
            raise Refusal(401, "The tools want the header Authorization: Bearer TOKEN.")

    def check_rate(self, scope: Scope) -> None:
        if scope.get("method") not in SAFE and not self.buckets.take(client(scope)):
            raise Refusal(429, "Too many requests; wait a moment.")

    async def pass_on(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Counts a body that does not say its length, too: past the limit the app sees the client gone."""
        seen, started, refused = 0, False, False

        async def counted() -> Message:
            nonlocal seen, refused
            message = await receive()
            seen += len(message.get("body", b""))
            if seen <= limit:
                return message
            if not (started or refused):
                refused = True
                await refuse(scope, send, Refusal(413, too_large(limit)))
            return {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal started
            if not refused:
                started = True
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception:
            if not refused:  # an app that loses its client half-way may fail as it likes
                raise


def check_length(headers: Mapping[str, str], limit: int) -> None:
    said = headers.get("content-length", "0")
    if not said.isdigit() or int(said) > limit:
        raise Refusal(413, too_large(limit))


def too_large(limit: int) -> str:
    return f"The upload is larger than {limit / 2**20:.0f} MB; choose a smaller file."


class Proxies:
    """Reverse proxies that may say who the client is. Without one, X-Forwarded-For is only a claim."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self.networks = [ipaddress.ip_network(name, strict=False) for name in trusted]

    def trusts(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self.networks)

    def seen_through(self, scope: Scope) -> Scope:
        """The scope with the client, and the scheme, that a trusted proxy names.

        Each proxy appends whom it heard from, so the list is read from its end: the first address
        that is no trusted proxy is the client; what stands before it anybody may have written.
        """
        if not self.networks or not self.trusts(client(scope)):
            return scope
        named = [
            v.decode("latin-1") for k, v in scope["headers"] if k.lower() == b"x-forwarded-for"
        ]
        address = client(scope)
        for hop in reversed(",".join(named).split(",")):
            if not is_address(hop.strip()):
                break
            address = hop.strip()
            if not self.trusts(address):
                break
        proto = [v for k, v in scope["headers"] if k.lower() == b"x-forwarded-proto"]
        scheme = "https" if proto[-1:] == [b"https"] else scope.get("scheme", "http")
        return {**scope, "client": (address, 0), "scheme": scheme}


def check_path(path: str) -> None:
    """Gradio can fetch other hosts for a page; this one never asks it to. Its developers' routes are closed."""
    lower = path.lower()
    if DEVELOPERS.match(lower):
        raise Refusal(404, "There is nothing at this address.")
    if "/proxy=" in lower or re.search(r"/file=[a-z][a-z0-9+.-]*:", lower):
        raise Refusal(403, "The studio fetches nothing from other hosts.")


class Hosts:
    """Which Host and Origin headers are ours.

    A rebinding attack needs a name, so an address as Host is safe where the studio is meant to be reached by
    address; names must be known. An Origin must be the page's own or an allowed one; "null" never is.
    """

    def __init__(self, options: Options) -> None:
        self.local = options.local
        self.origins = {origin.rstrip("/").lower() for origin in options.allow_origins}
        self.names = {"localhost", *(name_of(origin) for origin in self.origins)}
        if not is_address(options.host):
            self.names.add(options.host.lower())

    def check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        hosts = [v for k, v in scope["headers"] if k.lower() == b"host"]
        host = headers.get("host", "").lower()
        if len(hosts) != 1 or not self.own_host(host):
            raise Refusal(
                403,
                "This address is not one the studio serves; open it by its own address or start it with --allow-origin.",
            )
        origin = headers.get("origin")
        if origin is not None and not self.own_origin(origin.lower(), host):
            raise Refusal(
                403,
                "Requests from other sites are refused; start the studio with --allow-origin to allow one.",
            )
        elsewhere = headers.get("sec-fetch-site") == "cross-site" and origin is None
        if elsewhere and (
            headers.get("sec-fetch-mode") != "navigate" or scope.get("method") not in SAFE
        ):
            raise Refusal(403, "Requests from other sites are refused.")

    def own_host(self, host: str) -> bool:
        name = name_of("//" + host)
        if name in self.names:
            return True
        if not is_address(name):
            return False
        return not self.local or ipaddress.ip_address(name).is_loopback

    def own_origin(self, origin: str, host: str) -> bool:
        if origin in self.origins:
            return True
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc == host


class Buckets:
    """A token bucket per client, for the latest few thousand clients."""

    def __init__(self, *, rate: float, burst: float, most: int = 4096) -> None:
        self.rate, self.burst, self.most = rate, burst, most
        self.levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> bool:
        now = time.monotonic()
        level, then = self.levels.pop(name, (self.burst, now))
        level = min(self.burst, level + (now - then) * self.rate)
        allowed = level >= 1
        self.levels[name] = (level - allowed, now)
        while len(self.levels) > self.most:
            self.levels.popitem(last=False)
        return allowed


def client(scope: Scope) -> str:
    return (scope.get("client") or ("unknown", 0))[0]


def name_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def with_headers(send: Send, extra: Iterable[tuple[bytes, bytes]] = ()) -> Send:
    """Adds the security headers to every response."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {**HEADERS, **dict(extra)}
            theirs = [(k, v) for k, v in message.get("headers", ()) if k.lower() not in ours]
            message = {**message, "headers": [*theirs, *ours.items()]}
        await send(message)

    return wrapped


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.text[:120]})
        return
    body = json.dumps({"detail": refusal.text}).encode()
    send = with_headers(send)
    kind = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": kind})
    await send({"type": "http.response.body", "body": body})
