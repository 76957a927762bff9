"""python -m training.scenery --out DIR --count N [--seed S] [--size 256] [--shards N_PER_SHARD].

`python -m training.scenery make --out DIR` runs every stage of the bundled models.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a data set, a contact sheet, or both."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["make"]:
        from training.scenery import make

        return make.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m training.scenery", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to write pictures and captions to")
    parser.add_argument("--count", type=int, default=1000, help="number of scenes (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="first seed; held-out: 100000000 up")
    parser.add_argument("--size", type=int, default=256, help="side in pixels (default 256)")
    parser.add_argument(
        "--edition", type=int, choices=(1, 2), default=2,
        help="2 (the default) adds weather, birds, bridges, lighthouses and plants nearby to 1",
    )  # fmt: skip
    parser.add_argument("--shards", type=int, metavar="N", help="write tar shards of N scenes each")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="contact sheet of 40 scenes")
    args = parser.parse_args(arguments)
    if not args.out and not args.preview:
        parser.error("nothing to write: give --out DIR, --preview sheet.png, or both")

    from PIL import Image

    from training.scenery.dataset import preview, write_folder, write_shards

    if args.preview:
        seeds = range(args.seed, args.seed + min(args.count, 40))
        Image.fromarray(preview(seeds, args.size, edition=args.edition)).save(args.preview)
    if args.out and args.shards:
        write_shards(
            args.out, count=args.count, seed=args.seed, size=args.size, per_shard=args.shards,
            edition=args.edition,
        )  # fmt: skip
    elif args.out:
        write_folder(args.out, args.count, args.seed, args.size, edition=args.edition)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
