"""`python -m lcm_studio`, or `lcm-studio` where it is installed: the same requests from a shell."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from lcm_studio import __version__
from lcm_studio.spec.errors import StudioError

COMMANDS = ("generate", "edit", "lab", "models", "doctor", "data", "jobs", "users", "serve")
# The door beside this one; by name, since neither floor imports the other.
PAGE = "lcm_studio.web.flags"


def parser() -> argparse.ArgumentParser:
    """All subcommands that are there; `args.run` carries one out."""
    top = argparse.ArgumentParser(
        prog="lcm-studio" if Path(sys.argv[0]).stem == "lcm-studio" else "python -m lcm_studio",
        description="A workbench for consistency models: generate, edit without training, distil.",
    )
    top.add_argument("--version", action="version", version=f"lcm_studio {__version__}")
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (PAGE, *(f"lcm_studio.cli.{name}" for name in COMMANDS)):
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).add_parser(sub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; a user's mistake is one sentence on stderr and exit code 2."""
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
