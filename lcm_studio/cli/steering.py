"""Arguments of what steers a picture beside its words: a ControlNet and an IP-Adapter."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.requests import ControlKind, ControlSpec, IPAdapterSpec


def add_steering_arguments(parser: argparse.ArgumentParser, *, edits: bool = False) -> None:
    """--control ... --ip-adapter-end. `edits`: of an edit, whose own picture a ControlNet may follow."""
    control = parser.add_argument_group("ControlNet (SD and SDXL)")
    control.add_argument(
        "--control",
        metavar="NAME|DIR|FILE",
        help="its diffusers folder or .safetensors file, or a name in controlnets/ beside the models",
    )
    own = ", of the result's proportions (default: the edited one)" if edits else ""
    control.add_argument(
        "--control-image", metavar="FILE", help=f"the picture that it follows{own}"
    )
    control.add_argument(
        "--control-kind", choices=get_args(ControlKind), metavar="KIND",
        help="what is made of the picture: canny (edges), scribble, depth, or none where it is a map already "
        "(default: by the ControlNet's name)",
    )  # fmt: skip
    _holds(control, "control")
    adapter = parser.add_argument_group("IP-Adapter (SD and SDXL): a picture beside the words")
    adapter.add_argument(
        "--ip-adapter",
        metavar="NAME|FILE",
        help="its .safetensors file, or a name in ip_adapters/ beside the models",
    )
    adapter.add_argument("--ip-adapter-image", metavar="FILE", help="the picture")
    adapter.add_argument(
        "--ip-adapter-encoder",
        default="",
        metavar="DIR",
        help="the folder of its CLIP image encoder (default: the image_encoder/ near it that fits)",
    )
    _holds(adapter, "ip-adapter")


def _holds(group: Any, name: str) -> None:
    for part, default, words in (
        ("strength", 1.0, "0 to 2 (default: 1)"),
        ("start", 0.0, "share of the steps where it takes hold (default: 0)"),
        ("end", 1.0, "and where it lets go (default: 1)"),
    ):
        group.add_argument(f"--{name}-{part}", type=float, default=default, metavar="X", help=words)


def steering_of(args: argparse.Namespace, *, edits: bool = False) -> dict[str, Any]:
    """The fields `control` and `ip_adapter` of a request. Raises BadRequest or BadImage with one sentence."""
    return {"control": _control(args, edits), "ip_adapter": _ip_adapter(args)}


def _control(args: argparse.Namespace, edits: bool) -> ControlSpec | None:
    if args.control is None and args.control_image is None:
        return None
    if args.control is None or (args.control_image is None and not edits):
        raise BadRequest("--control and --control-image go together; give both")
    from lcm_studio.images import read_image
    from lcm_studio.models.controlnet import kind_by_name

    return ControlSpec(
        path=args.control,
        image=None if args.control_image is None else read_image(args.control_image),
        kind=args.control_kind or kind_by_name(args.control.rstrip("/").rpartition("/")[2]),
        strength=args.control_strength,
        start=args.control_start,
        end=args.control_end,
    )


def _ip_adapter(args: argparse.Namespace) -> IPAdapterSpec | None:
    if args.ip_adapter is None and args.ip_adapter_image is None:
        return None
    if args.ip_adapter is None or args.ip_adapter_image is None:
        raise BadRequest("--ip-adapter and --ip-adapter-image go together; give both")
    from lcm_studio.images import read_image

    return IPAdapterSpec(
        path=args.ip_adapter,
        image=read_image(args.ip_adapter_image),
        encoder=args.ip_adapter_encoder,
        strength=args.ip_adapter_strength,
        start=args.ip_adapter_start,
        end=args.ip_adapter_end,
    )
