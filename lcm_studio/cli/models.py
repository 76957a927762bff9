"""models: what is there."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from lcm_studio.cli.common import add_engine_arguments, make_engine


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = sub.add_parser("models", help="list the models that are there")
    parser.add_argument(
        "model", nargs="?", help="one model: a name, folder, hub id or .safetensors file"
    )
    add_engine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints name, kind, size and vocabulary of each model."""
    with make_engine(args) as engine:
        infos = (engine.info(args.model),) if args.model else engine.catalog()
        broken = {} if args.model else engine.registry.broken()
        decoders = engine.decoders()
    if args.json:
        said = {"models": [asdict(i) for i in infos], "broken": broken, "decoders": decoders}
        print(json.dumps(said))
        return 0
    for info in infos:
        size = f"{info.width}x{info.height}"
        print(
            f"{info.id:24} {info.sampling or info.kind:13} {size:10} guidance {info.guidance:9} "
            f"{info.parameters / 1e6:8.1f} M parameters  {info.bytes / 2**20:8.1f} MB"
        )
        licence = info.licence or "the model's own"
        print(f"    {info.title or info.kind}; licence: {licence}")
        print(f"    numbers of edits: {info.fitted.source if info.fitted else 'textbook'}")
        if args.model and info.why:
            print(f"    {info.why}")
        for name, phrases in info.vocabulary:
            print(f"    {name}: {', '.join(phrases)}")
    for name, reason in broken.items():
        print(f"{name}: {reason}", file=sys.stderr)
    if not infos:
        print("no models found; put diffusers folders into assets/models", file=sys.stderr)
    return 0
