"""generate: a prompt to pictures."""

from __future__ import annotations

import argparse

from lcm_studio.cli.common import (
    SHARED,
    add_sampling_arguments,
    engine_for,
    execute,
    report,
    sampling,
    save_all,
)
from lcm_studio.cli.flags import add_flag, typed
from lcm_studio.cli.steering import add_steering_arguments, steering_of
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.schema import settings_of

OWN_SETTINGS = tuple(s for s in settings_of(Generate) if s not in SHARED and s.name != "prompt")


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = sub.add_parser("generate", help="make pictures from a prompt")
    parser.add_argument("prompt", nargs="?", default="", help="what to draw")
    for setting in OWN_SETTINGS:
        add_flag(parser, setting)
    add_steering_arguments(parser)
    add_sampling_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generates, writes PNG files and says where they are."""
    with engine_for(args) as engine:
        request = Generate(
            prompt=args.prompt,
            **typed(args, OWN_SETTINGS),
            **steering_of(args),
            **sampling(args, engine),
        )
        done = execute(engine, request, progress=not args.json)
        report(args, done, save_all(done, args.out))
    return 0
