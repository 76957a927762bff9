"""Sign-in in front of the whole app: a small page and a cookie, or HTTP Basic for scripts; guesses are throttled."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from lcm_studio.spec.passwords import hashed, matches

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

COOKIE = "lcm-studio-session"
LIFETIME = 7 * 24 * 3600.0
TRIES, WINDOW = 5, 60.0
MOST = 4096

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>LCM Studio: sign in</title><style>
:root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.5 system-ui,sans-serif;
background:#f5f2ec;color:#23262d}form{display:grid;gap:14px;width:min(320px,88vw)}h1{font-weight:600;font-size:22px;margin:0}
input,button{font:inherit;padding:11px 13px;border-radius:10px;border:1px solid #0003;background:#fff;color:inherit}
button{background:#2f4a5f;color:#fff;border:0;cursor:pointer}p{margin:0;color:#a33b2a;min-height:1.5em}
@media(prefers-color-scheme:dark){body{background:#14171d;color:#e9e6df}input{background:#1d2129;border-color:#fff3}button{background:#e8a37c;color:#1a1512}p{color:#f0937f}}
</style><form method="post" action="login"><h1>LCM Studio</h1>
<label>User<br><input name="username" autocomplete="username" required autofocus></label>
<label>Password<br><input name="password" type="password" autocomplete="current-password" required></label>
<button>Sign in</button><p role="alert">%s</p></form></html>"""


class Login:
    """Who is signed in. Tokens live in memory: a restart signs everybody out."""

    def __init__(self, users: Mapping[str, str]) -> None:
        """`users`: names and hashes of `passwords`."""
        self._users = dict(users)
        self._nobody = hashed(secrets.token_urlsafe(16))
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, str] = OrderedDict()  # pairs that were right -> user
        self._tokens: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def known(self, headers: Mapping[str, str], address: str) -> str:
        """The user whose valid cookie or Basic credentials a request carries, or an empty text."""
        end, user = self._tokens.get(cookie(headers), (0.0, ""))
        if end > time.time():
            return user
        kind, _, said = headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic" or self.throttled(address):
            return ""
        try:
            pair = base64.b64decode(said, validate=True)
        except (binascii.Error, ValueError):
            return ""
        return self.check(pair, address)

    def check(self, pair: bytes, address: str) -> str:
        """The user of `name:password`, or an empty text, which is counted. A right pair is hashed once only."""
        mark = hmac.digest(self._key, pair, "sha256")
        user = self._right.get(mark, "")
        if not user:
            name, _, password = pair.decode("utf-8", "surrogateescape").partition(":")
            right = matches(password, self._users.get(name, self._nobody))
            user = name if right and name in self._users else ""
        if user:
            self._right[mark] = user
            while len(self._right) > MOST:
                self._right.popitem(last=False)
            self._failures.pop(address, None)
            return user
        now = time.monotonic()
        recent = [t for t in self._failures.pop(address, []) if now - t < WINDOW]
        self._failures[address] = [*recent, now]
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)
        return ""

    def throttled(self, address: str) -> bool:
        now = time.monotonic()
        return len([t for t in self._failures.get(address, []) if now - t < WINDOW]) >= TRIES

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]
    ) -> bool:
        """Answers what belongs to signing in; False where the request goes on."""
        path, method = scope["path"].rstrip("/"), scope["method"]
        if path == "/login" and method == "POST":
            await self._sign_in(scope, receive, send, headers)
            return True
        if path in ("/logout", "/studio/logout"):
            self._tokens.pop(cookie(headers), None)
            await reply(
                send,
                303,
                b"",
                location="/",
                cookie=f"{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict",
            )
            return True
        wants_page = method == "GET" and "text/html" in headers.get("accept", "")
        if wants_page and path in ("", "/login") and not self.known(headers, address_of(scope)):
            await reply(send, 401 if path == "" else 200, (PAGE % "").encode())
            return True
        return False

    async def _sign_in(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]
    ) -> None:
        address = address_of(scope)
        page = "text/html" in headers.get("accept", "")
        if self.throttled(address):
            text = "Too many tries; wait a minute."
            await reply(
                send, 429, (PAGE % text).encode() if page else json.dumps({"detail": text}).encode()
            )
            return
        raw = b""
        while len(raw) < 8192:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        said = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True)
        pair = f"{said.get('username', [''])[0]}:{said.get('password', [''])[0]}".encode()
        user = await asyncio.to_thread(self.check, pair, address)
        if not user:
            text = "User or password is wrong."
            await reply(
                send, 401, (PAGE % text).encode() if page else json.dumps({"detail": text}).encode()
            )
            return
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (time.time() + LIFETIME, user)
        while len(self._tokens) > MOST:
            self._tokens.popitem(last=False)
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        crumb = (
            f"{COOKIE}={token}; Max-Age={int(LIFETIME)}; Path=/; HttpOnly; SameSite=Strict{secure}"
        )
        if page:
            await reply(send, 303, b"", location="/", cookie=crumb)
        else:  # gradio_client signs in here and expects 200
            await reply(send, 200, b'{"success": true}', cookie=crumb)


def cookie(headers: Mapping[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def address_of(scope: Scope) -> str:
    return (scope.get("client") or ("unknown", 0))[0]


async def reply(
    send: Send, status: int, body: bytes, *, location: str = "", cookie: str = ""
) -> None:
    kind = b"text/html; charset=utf-8" if body.startswith(b"<") else b"application/json"
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if location:
        headers.append((b"location", location.encode()))
    if cookie:
        headers.append((b"set-cookie", cookie.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
