"""generate: a prompt to pictures."""

from __future__ import annotations

import argparse

from lcm_studio.cli.common import (
    add_sampling_arguments,
    engine_for,
    execute,
    report,
    sampling,
    save_all,
)
from lcm_studio.cli.steering import add_steering_arguments, steering_of
from lcm_studio.spec.requests import Generate


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = sub.add_parser("generate", help="make pictures from a prompt")
    parser.add_argument("prompt", nargs="?", default="", help="what to draw")
    parser.add_argument("--width", type=int, help="pixels (default: the model's)")
    parser.add_argument("--height", type=int, help="pixels (default: the model's)")
    parser.add_argument("--class-label", type=int, help="of a class-conditional model")
    parser.add_argument(
        "--eta", type=float, help="share of fresh noise, 0 to 1, of kinds that have one (TCD)"
    )
    add_steering_arguments(parser)
    add_sampling_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generates, writes PNG files and says where they are."""
    with engine_for(args) as engine:
        request = Generate(
            prompt=args.prompt,
            width=args.width,
            height=args.height,
            class_label=args.class_label,
            eta=args.eta,
            **steering_of(args),
            **sampling(args, engine),
        )
        done = execute(engine, request, progress=not args.json)
        report(args, done, save_all(done, args.out))
    return 0
