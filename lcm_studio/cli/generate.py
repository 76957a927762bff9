"""generate: a prompt to pictures."""

from __future__ import annotations

import argparse
from typing import get_args

from lcm_studio.cli.common import (
    add_sampling_arguments,
    engine_for,
    execute,
    report,
    sampling,
    save_all,
)
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.requests import ControlKind, ControlSpec, Generate


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
    control = parser.add_argument_group("ControlNet (SD and SDXL)")
    control.add_argument(
        "--control",
        metavar="NAME|DIR",
        help="its diffusers folder, or a name in controlnets/ beside the models",
    )
    control.add_argument("--control-image", metavar="FILE", help="the picture that it follows")
    control.add_argument(
        "--control-kind", choices=get_args(ControlKind), metavar="KIND",
        help="what is made of the picture: canny (edges), scribble, depth, or none where it is a map already "
        "(default: by the ControlNet's name)",
    )  # fmt: skip
    control.add_argument(
        "--control-strength", type=float, default=1.0, metavar="X", help="0 to 2 (default: 1)"
    )
    control.add_argument(
        "--control-start",
        type=float,
        default=0.0,
        metavar="X",
        help="share of the steps where it takes hold (default: 0)",
    )
    control.add_argument(
        "--control-end",
        type=float,
        default=1.0,
        metavar="X",
        help="and where it lets go (default: 1)",
    )
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
            control=control_of(args),
            **sampling(args, engine),
        )
        done = execute(engine, request, progress=not args.json)
        report(args, done, save_all(done, args.out))
    return 0


def control_of(args: argparse.Namespace) -> ControlSpec | None:
    """The ControlNet of the arguments. Raises BadRequest or BadImage with one sentence."""
    if args.control is None and args.control_image is None:
        return None
    if args.control is None or args.control_image is None:
        raise BadRequest("--control and --control-image go together; give both")
    from lcm_studio.images import read_image
    from lcm_studio.models.controlnet import kind_by_name

    return ControlSpec(
        path=args.control,
        image=read_image(args.control_image),
        kind=args.control_kind or kind_by_name(args.control.rstrip("/").rpartition("/")[2]),
        strength=args.control_strength,
        start=args.control_start,
        end=args.control_end,
    )
