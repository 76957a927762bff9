"""Run the app on a socket that is bound first, so that a taken port is one sentence and not a traceback."""

from __future__ import annotations

import socket
import sys

from lcm_studio.web.options import Options


def serve(options: Options) -> int:
    """Blocks until Ctrl+C; returns the exit code."""
    try:
        sock = bind(options.host, options.port)
    except OSError as error:
        print(
            f"app.py: cannot listen on {options.host}:{options.port} ({error.strerror or error}); choose another --port",
            file=sys.stderr,
        )
        return 2

    import uvicorn

    from lcm_studio.web.app import build_app, engine_for

    app = build_app(engine_for, options)
    shown = f"[{options.host}]" if ":" in options.host else options.host
    config = uvicorn.Config(
        app, log_level="warning", ws="none", timeout_graceful_shutdown=3, server_header=False, date_header=False,
        forwarded_allow_ips="",
    )  # fmt: skip
    server = uvicorn.Server(config)
    print(f"LCM Studio: http://{shown}:{options.port}  (Ctrl+C ends it)", flush=True)
    if options.mcp_token is not None:
        print(
            f"MCP: http://{shown}:{options.port}/mcp/gradio_api/mcp/  "
            f"with the header Authorization: Bearer {options.mcp_token}",
            flush=True,
        )
    server.run(sockets=[sock])
    return 0


def bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock
