"""The flags of `python app.py` and `lcm-studio web`, and the start of the page."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from lcm_studio.web.options import Options


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="app.py", description="A workbench for consistency models in the browser."
    )
    add_flags(p)
    return p


def add_parser(sub: Any) -> None:
    """The subcommand of the shell."""
    p = sub.add_parser("web", help="open the page: what app.py does")
    add_flags(p)
    p.set_defaults(run=lambda args: start(options_of(args, p.error)))


def add_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--model",
        default="scenery-lcm",
        metavar="NAME|PATH|ID",
        help="model to open with (default: the bundled one)",
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    p.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "torch", "openvino", "compile"),
        help="what runs the networks (default: OpenVINO on a CPU, torch.compile on a GPU, where installed)",
    )
    p.add_argument(
        "--engine",
        default="",
        metavar="ray://HOST:PORT",
        help="engines elsewhere, started by `python -m lcm_studio serve` (default: one in this process)",
    )
    p.add_argument(
        "--host", default="127.0.0.1", help="interface to listen on (default: this machine only)"
    )
    p.add_argument("--port", type=int, default=7860)
    p.add_argument(
        "--auth",
        metavar="USER:PASS|FILE",
        help="ask for this user and password, or for those of a file that `python -m lcm_studio users FILE NAME` "
        "writes; also read from LCM_STUDIO_AUTH",
    )
    p.add_argument(
        "--insecure-no-auth",
        action="store_true",
        help="allow another interface than this machine's without --auth",
    )
    p.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="a further address the page is served under, e.g. https://studio.example (repeatable)",
    )
    p.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a reverse proxy whose X-Forwarded-For is believed, e.g. 127.0.0.1 or 10.0.0.0/8 (repeatable)",
    )
    p.add_argument(
        "--queue-size",
        type=int,
        default=32,
        metavar="N",
        help="requests that may wait (default: 32)",
    )
    p.add_argument(
        "--model-limit",
        type=float,
        default=16.0,
        metavar="GB",
        help="size of a checkpoint that may be dropped on the page; it goes into the first --models-dir, or is kept for this "
        "run (default: 16; 0: none)",
    )
    p.add_argument(
        "--outputs",
        type=Path,
        metavar="DIR",
        help="keep every picture here, by date (default: a private folder, swept at the next start)",
    )
    p.add_argument(
        "--data-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of pictures that distillation jobs may read (repeatable)",
    )
    p.add_argument(
        "--models-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of model folders, beside the bundled ones (repeatable)",
    )
    p.add_argument(
        "--embeddings-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of textual inversions, beside the folder embeddings/ in those of models (repeatable)",
    )
    p.add_argument(
        "--mcp",
        action="store_true",
        help="offer tools to other programs by MCP, on this machine and with a token (LCM_STUDIO_MCP_TOKEN, else a fresh one)",
    )
    net = p.add_mutually_exclusive_group()
    net.add_argument(
        "--offline",
        dest="offline",
        action="store_true",
        default=True,
        help="fetch nothing (default)",
    )
    net.add_argument(
        "--online",
        dest="offline",
        action="store_false",
        help="models may come from the Hugging Face hub",
    )


def read_options(argv: list[str] | None = None) -> Options:
    """Flags -> options; exits with one sentence where they do not fit together."""
    p = parser()
    return options_of(p.parse_args(argv), p.error)


def options_of(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> Options:
    """The options of parsed flags; `error` ends with a sentence."""
    from lcm_studio.spec.errors import StudioError
    from lcm_studio.web.options import Options

    try:
        users = users_of(args.auth or os.environ.get("LCM_STUDIO_AUTH") or "")
    except StudioError as refused:
        error(f"--auth: {refused}")
    if not 0 <= args.queue_size <= 64:
        error(f"--queue-size {args.queue_size}: use 0 to 64")
    if not 0 <= args.model_limit <= 1024:
        error(f"--model-limit {args.model_limit:g}: use 0 to 1024 GB")
    if not 1 <= args.port <= 65535:
        error(f"--port {args.port}: use 1 to 65535")
    for origin in args.allow_origin:
        if not origin.startswith(("http://", "https://")):
            error(f"--allow-origin {origin}: give a whole origin such as https://studio.example")
    for proxy in args.trusted_proxy:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            error(f"--trusted-proxy {proxy}: give an address or a network, e.g. 10.0.0.0/8")
    if args.mcp and importlib.util.find_spec("mcp") is None:
        error("--mcp wants the package mcp; pip install -r requirements-mcp.txt")
    token = os.environ.get("LCM_STUDIO_MCP_TOKEN") or secrets.token_urlsafe(32)
    if args.mcp and not (len(token) >= 16 and token.isascii() and token.isprintable()):
        error("LCM_STUDIO_MCP_TOKEN is too short or odd; use 16 plain characters or more")
    for folder in (*args.models_dir, *args.embeddings_dir):
        if not folder.expanduser().is_dir():
            error(f"{folder} is no folder; give one that is there")
    if args.engine:
        from lcm_studio.engine.remote.client import parse

        try:
            parse(args.engine)
        except StudioError as refused:
            error(str(refused))
    options = Options(
        engine=args.engine, model=args.model, device=args.device, dtype=args.dtype, backend=args.backend, host=args.host, port=args.port,
        users=users, allow_origins=tuple(args.allow_origin),
        trusted_proxies=tuple(args.trusted_proxy),
        queue_size=args.queue_size, model_limit=round(args.model_limit * 2**30), outputs=args.outputs and args.outputs.expanduser().resolve(),
        data_dirs=tuple(folder.expanduser().resolve() for folder in args.data_dir),
        models_dirs=tuple(folder.expanduser().resolve() for folder in args.models_dir),
        embeddings_dirs=tuple(folder.expanduser().resolve() for folder in args.embeddings_dir), offline=args.offline,
        mcp_token=token if args.mcp else None,
    )  # fmt: skip
    if args.mcp and not options.local:
        error(f"--mcp serves this machine only, and --host {args.host} others too; leave out one")
    if not options.local and not options.users and not args.insecure_no_auth:
        error(
            f"--host {args.host} lets other machines in: add --auth USER:PASS, "
            "or --insecure-no-auth if everyone who can reach it may use it"
        )
    return options


def users_of(auth: str) -> Mapping[str, str]:
    """Names and password hashes of `USER:PASS`, or of a users' file. Raises BadRequest."""
    from lcm_studio.spec.errors import BadRequest
    from lcm_studio.spec.passwords import read_users, single

    if not auth:
        return {}
    user, colon, password = auth.partition(":")
    if user and colon and password:
        return single(user, password)
    if colon:
        raise BadRequest("USER:PASS wants both of them not empty")
    return read_users(Path(auth).expanduser())


def main(argv: list[str] | None = None) -> int:
    return start(read_options(argv))


def start(options: Options) -> int:
    """Serves the page until it is stopped."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"

    from lcm_studio.web.server.serve import serve

    return serve(options)
