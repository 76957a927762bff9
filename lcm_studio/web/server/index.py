"""Gradio's index page with our style and scripts in its head: they load beside Gradio's own, not after them."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SOCIAL = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*?/?>', re.DOTALL)
# The theme is set before anything is painted; the splash goes away when the page is drawn.
EARLY = """<style>#lcm-splash{{position:fixed;inset:0;z-index:9999;display:grid;place-content:center;justify-items:center;gap:16px;
background:#f4f1ea;color:#746e62;font:15px/1.5 ui-sans-serif,system-ui,sans-serif;transition:opacity .25s}}
#lcm-splash img{{width:64px;height:64px;border-radius:16px}}.lcm-night #lcm-splash{{background:#121419;color:#98938a}}</style>
<script>(function(){{var t=null;try{{t=localStorage.getItem("lcm-theme")}}catch(e){{}}
var d=t?t==="dark":matchMedia("(prefers-color-scheme: dark)").matches;
document.documentElement.classList.toggle("lcm-night",d);document.documentElement.style.colorScheme=d?"dark":"light"}})()</script>
<link rel="icon" href="studio/static/icon.svg" type="image/svg+xml">
{styles}{preloads}<script type="module" src="studio/static/main.js"></script>"""
SPLASH = b'<div id="lcm-splash" aria-live="polite"><img src="studio/static/icon.svg" alt=""><span>Opening the studio</span></div>'


class Index:
    """ASGI: rewrites the HTML of GET /, passes everything else on untouched. `served`: once that has happened."""

    def __init__(self, app: ASGIApp, static: Path) -> None:
        self.app = app
        self.served = threading.Event()
        scripts = sorted(path.name for path in static.glob("*.js"))
        preloads = "".join(
            f'<link rel="modulepreload" href="studio/static/{name}">' for name in scripts
        )
        sheets = [
            "studio.css",
            *sorted(path.name for path in static.glob("*.css") if path.name != "studio.css"),
        ]
        styles = "".join(f'<link rel="stylesheet" href="studio/static/{name}">' for name in sheets)
        self.head = EARLY.format(styles=styles, preloads=preloads).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        plain = [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if message["type"] != "http.response.body":
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            await self.reply(start, body, send)

        await self.app({**scope, "headers": plain}, receive, collect)

    async def reply(self, start: Message, body: bytes, send: Send) -> None:
        headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        if b"text/html" in dict(headers).get(b"content-type", b""):
            body = SOCIAL.sub(b"", body)
            body = body.replace(b"</head>", self.head + b"</head>", 1)
            body = re.sub(rb"(<body[^>]*>)", rb"\1" + SPLASH, body, count=1)
        headers.append((b"content-length", str(len(body)).encode()))
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.served.set()
