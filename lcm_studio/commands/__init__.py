"""The shell's subcommands, one module each with `add_parser(subparsers)` and `run(args) -> int`.

A module imports nothing heavy at its top: `--help` loads all of them.
"""
