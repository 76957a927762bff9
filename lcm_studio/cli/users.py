"""python -m lcm_studio users FILE NAME: add a user of the page, or give one a new password."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any


def add_parser(sub: Any) -> None:
    p = sub.add_parser("users", help="add a user to the file that app.py --auth FILE reads")
    p.add_argument("file", type=Path, help="the users' file; made where there is none")
    p.add_argument("name", help="the user's name")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Asks for the password; reads one line where the input is no terminal."""
    from lcm_studio.spec.passwords import add_user

    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {args.name}: ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    add_user(args.file, args.name, password)
    print(f"{args.file}: {args.name} can sign in after the next start of the studio")
    return 0
