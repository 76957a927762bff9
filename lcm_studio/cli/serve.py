"""serve: engines on Ray Serve, on one machine or a cluster, for pages and shells elsewhere (`--engine ray://...`)."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import threading
from pathlib import Path

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.requests import BUNDLED_MODEL


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = sub.add_parser("serve", help="engines on Ray Serve, for pages and shells elsewhere")
    parser.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="engines (default: %(default)s)"
    )
    parser.add_argument(
        "--max-replicas",
        type=int,
        default=0,
        metavar="N",
        help="more of them under load, up to so many (default: no more)",
    )
    parser.add_argument(
        "--gpus-per-replica",
        type=float,
        default=0.0,
        metavar="M",
        help="GPUs of each, 0.5 = two share one (default: none)",
    )
    parser.add_argument(
        "--cpus-per-replica",
        type=float,
        default=1.0,
        metavar="M",
        help="cores of each (default: %(default)g)",
    )
    parser.add_argument(
        "--address",
        default="",
        metavar="HEAD",
        help="a running Ray head, such as auto or 10.0.0.5:6379 (default: one of its own on this machine)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="interface to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=8500, help="default: %(default)s")
    parser.add_argument(
        "--model",
        default=BUNDLED_MODEL,
        metavar="NAME|PATH|ID",
        help="loaded before a replica is ready (default: %(default)s)",
    )
    parser.add_argument(
        "--queue-size",
        type=int,
        default=256,
        metavar="N",
        help="requests that may wait (default: %(default)s)",
    )
    parser.add_argument(
        "--write-config",
        metavar="FILE",
        help="write a config file of Ray Serve (serve deploy FILE) and start nothing",
    )
    from lcm_studio.cli.common import add_engine_arguments

    add_engine_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl+C, or writes the config file."""
    from lcm_studio.engine.remote.settings import Settings, send_token

    settings = Settings(
        model=args.model, replicas=args.replicas, max_replicas=args.max_replicas, gpus=args.gpus_per_replica,
        cpus=args.cpus_per_replica, device=args.device, dtype=args.dtype, backend=args.backend,
        models_dirs=tuple(str(Path(folder).resolve()) for folder in args.models_dir),
        embeddings_dirs=tuple(str(Path(folder).resolve()) for folder in args.embeddings_dir), offline=not args.online,
        queue_size=args.queue_size,
    )  # fmt: skip
    check(args, settings.token)
    if args.write_config:
        return write(args, settings.config_file(args.host, args.port))
    if importlib.util.find_spec("ray") is None:
        raise BadRequest("serve wants Ray; pip install -r requirements-ray.txt")
    send_token(args.address)
    from lcm_studio.engine.remote import deployment

    ended = threading.Event()
    deployment.start(settings, args.address, args.host, args.port)
    # Ray has a handler of its own by now, which would end the requests in work
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    print(f"engines: ray://{args.host}:{args.port}  (Ctrl+C ends them)", flush=True)
    try:
        ended.wait()
    except KeyboardInterrupt:
        print("requests in work end first ...", file=sys.stderr)
    deployment.stop(settings)
    return 0


def check(args: argparse.Namespace, token: str) -> None:
    """Raises BadRequest for flags that make no deployment."""
    if not 1 <= args.replicas <= 10_000:
        raise BadRequest(f"--replicas {args.replicas}: use 1 to 10000")
    if args.max_replicas and not args.replicas <= args.max_replicas <= 10_000:
        raise BadRequest(f"--max-replicas {args.max_replicas}: use {args.replicas} to 10000")
    if not 0 <= args.gpus_per_replica <= 64 or not 0 < args.cpus_per_replica <= 1024:
        raise BadRequest("--gpus-per-replica takes 0 to 64, --cpus-per-replica more than 0")
    if not 1 <= args.port <= 65535 or args.queue_size < 0:
        raise BadRequest("--port takes 1 to 65535, --queue-size 0 or more")
    if args.host not in ("127.0.0.1", "localhost", "::1") and not token and not args.write_config:
        raise BadRequest(
            f"--host {args.host} lets other machines in: set LCM_STUDIO_ENGINE_TOKEN to a secret of your choice, "
            "for the engines and for the studios that use them"
        )


def write(args: argparse.Namespace, text: str) -> int:
    try:
        Path(args.write_config).write_text(text)
    except OSError as error:
        raise BadRequest(
            f"--write-config {args.write_config}: cannot be written ({error.strerror}); choose another place"
        ) from error
    print(f"{args.write_config}: serve deploy {args.write_config}")
    return 0
