"""data: look at pictures before training on them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = sub.add_parser("data", help="examine pictures for training")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    doctor = actions.add_parser("doctor", help="name every fault of a folder or of shards")
    doctor.add_argument("where", metavar="FOLDER", help="a folder, or shards: DIR/x-{000..009}.tar")
    doctor.add_argument("--size", type=int, default=512, help="pixels to train at (default: 512)")
    doctor.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report; 0 when the data can be trained on as they are, 1 when there are errors."""
    from lcm_studio.data.doctor import examine
    from lcm_studio.data.report import as_text
    from lcm_studio.data.sheet import contact_sheet
    from lcm_studio.spec.errors import BadRequest

    if not 8 <= args.size <= 4096:
        raise BadRequest(f"--size {args.size} is outside 8 to 4096")

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty() and done % 50 == 0:
            print(f"\r{done} of {total}", end="\r", file=sys.stderr)

    report = examine(args.where, size=args.size, progress=progress)
    if args.sheet and report.pictures:
        try:
            contact_sheet(args.where).save(args.sheet)
        except (OSError, ValueError) as error:
            raise BadRequest(f"--sheet {args.sheet} cannot be written: {error}") from None
    print(json.dumps(report.as_dict(), ensure_ascii=False) if args.json else as_text(report))
    return 0 if report.healthy else 1
