"""The door a trainer waits at until its process is written down: `python -m lcm_studio.jobs.gate ARGV...`.

The launcher starts this in a session of its own, records pid and start time, then writes one byte to its
standard input. Only then does it become the trainer, by exec, with the same pid and start time. When the
launcher dies before that, the byte never comes and nothing was started: no process without a record.
"""

from __future__ import annotations

import os
import sys

_NICE = 5  # the page stays responsive while a job trains on the same cores


def main() -> None:
    """Waits for the byte, then becomes the command given as arguments."""
    if os.read(0, 1) != b"g":
        raise SystemExit(3)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.nice(_NICE)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
