"""`python -m training.scenery make`: every stage of the bundled models, from rendering to model folders.

A stage is one run of `python -m training`. What is finished is passed over and what was cut off resumes, so the same
command goes on after a crash, or on another day. Stages, their fields and profiles stand in stages.yaml.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcm_studio import bundled

STAGES = Path(__file__).with_name("stages.yaml")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run: its recipe, its preset, and the fields that come from earlier stages or the profile."""

    name: str
    recipe: str
    preset: str
    sources: dict[str, str] = field(default_factory=dict)  # field -> RUN/path
    fields: dict[str, Any] = field(default_factory=dict)
    shipped: Path | None = None  # its finished output, where that is in assets/
    output: str = "output"  # what later stages take of the run

    def command(
        self, out: Path, sets: Sequence[str] = (), ready: Mapping[str, Path] | None = None
    ) -> list[str]:
        """The command line of this run below `out`; `sets` come last and win. `ready`: RUN/path -> where that is instead."""
        ready = ready or {}
        fields = {"data.cache": str(out / "cache"), **self.fields}
        fields |= {name: str(ready.get(path, out / path)) for name, path in self.sources.items()}
        assignments = [f"{name}={json.dumps(value)}" for name, value in fields.items()]
        return [
            sys.executable, "-m", "training", self.recipe, "--preset", self.preset,
            "--output", str(out / self.name), "--resume",
            *(part for text in (*assignments, *sets) for part in ("--set", text)),
        ]  # fmt: skip

    def finished(self, out: Path) -> bool:
        """Whether the run ended well and its output is there."""
        result = out / self.name / "result.json"
        if not (out / self.name / "output").is_dir() or not result.is_file():
            return False
        return bool(json.loads(result.read_text()).get("state") == "succeeded")


def stages(profile: str = "cpu") -> tuple[Stage, ...]:
    """The stages in their order; raises ValueError for an unknown profile."""
    import yaml

    described = yaml.safe_load(STAGES.read_text())
    if profile not in described["profiles"]:
        known = ", ".join(described["profiles"])
        raise ValueError(f"profile={profile!r} is unknown; use {known}")
    fields = described["profiles"][profile]
    return tuple(
        Stage(
            name=stage["name"],
            recipe=stage["recipe"],
            preset=stage["preset"],
            sources=stage.get("from", {}),
            fields=fields.get(stage["name"], {}),
            shipped=_shipped(stage) if stage["name"] not in fields else None,
            output=stage.get("output", "output"),
        )
        for stage in described["stages"]
    )


def _shipped(stage: dict[str, Any]) -> Path | None:
    folder = bundled.ASSETS / stage["shipped"] if "shipped" in stage else None
    return folder if folder and (folder / "config.json").is_file() else None


def bundles() -> dict[str, str]:
    """Name of a bundled model -> the stage that makes it."""
    import yaml

    made: dict[str, str] = yaml.safe_load(STAGES.read_text())["bundles"]
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for wrong arguments, or that of the stage that failed."""
    parser = argparse.ArgumentParser(prog="python -m training.scenery make", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs, caches and models")
    parser.add_argument(
        "--profile",
        default="cpu",
        help="cpu, nothing (as cpu, from no weights), gpu (one large card) or tiny",
    )
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these stages alone")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument(
        "--anew", action="store_true", help="train also what lies finished in assets/models"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    args = parser.parse_args(argv)
    try:
        every = stages(args.profile)
    except ValueError as error:
        parser.error(str(error))
    unknown = set(args.only or ()) - {stage.name for stage in every}
    if unknown:
        parser.error(f"--only {sorted(unknown)[0]}: use {', '.join(s.name for s in every)}")
    ready = {
        f"{stage.name}/{stage.output}": stage.shipped
        for stage in every
        if stage.shipped and not args.anew
    }
    for stage in every:
        if args.only and stage.name not in args.only:
            continue
        if shipped := ready.get(f"{stage.name}/{stage.output}"):
            print(f"{stage.name}: taken from {shipped}; --anew trains it", flush=True)
            continue
        done = stage.finished(args.out)
        command = stage.command(args.out, args.sets, ready)
        if args.dry_run:
            print(f"{stage.name}{' (finished)' if done else ''}: {shlex.join(command)}")
            continue
        if done:
            print(f"{stage.name}: finished before", flush=True)
            continue
        print(f"{stage.name}: {shlex.join(command)}", flush=True)
        code = subprocess.run(command, check=False).returncode
        if code or not stage.finished(args.out):  # stopped on purpose: exit code 0, no output
            print(f"{stage.name}: not finished; the same command goes on with it", file=sys.stderr)
            return code or 1
    return 0 if args.dry_run or args.only else _bundle(args.out)


def _bundle(out: Path) -> int:
    for name, stage in bundles().items():
        if (out / "models" / name).exists():
            continue
        command = [
            sys.executable, "-m", "training.scenery.bundle", str(out / stage), "--name", name,
            "--into", str(out / "models"),
        ]  # fmt: skip
        code = subprocess.run(command, check=False).returncode
        if code:
            return code
    print(f"the models are in {out / 'models'}; copy them to assets/models when they are better")
    return 0
