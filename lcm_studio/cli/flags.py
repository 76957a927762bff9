"""Flags of a shell command from a schema of settings, and the settings back from what was typed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from lcm_studio.spec.schema import Setting, Settings, settings_of


def add_flags(parser: argparse.ArgumentParser, cls: type[Settings]) -> None:
    """One flag per setting: `noise_scale` is --noise-scale."""
    for setting in settings_of(cls):
        add_flag(parser, setting)


def add_flag(parser: argparse.ArgumentParser, setting: Setting) -> None:
    """The flag of one setting; its default is None, so that only what was typed is sent."""
    flag = "--" + setting.name.replace("_", "-")
    if setting.kind == "switch":
        parser.add_argument(flag, action="store_true", default=None, help=setting.help)
        return
    kinds: dict[str, Any] = {"whole": int, "number": str if setting.choices else float}
    parser.add_argument(
        flag, type=kinds.get(setting.kind, str), metavar=_metavar(setting), help=about(setting)
    )


def about(setting: Setting) -> str:
    """Help of a setting with its range and default."""
    facts = [setting.span] if setting.kind != "text" else [setting.example]
    if setting.kind == "numbers" and setting.example:
        facts.append(f"as in {setting.example.replace(' ', '')}")
    if setting.unset:
        facts.append(f"default: {setting.unset}")
    elif setting.default not in (None, ""):
        shown = setting.default
        facts.append(f"default: {shown:g}" if isinstance(shown, float) else f"default: {shown}")
    known = "; ".join(fact for fact in facts if fact)
    return (f"{setting.help} ({known})" if known else setting.help).replace("%", "%%")


def typed(args: argparse.Namespace, settings: Iterable[Setting]) -> dict[str, Any]:
    """The settings that were typed."""
    values = {s.name: getattr(args, s.name, None) for s in settings}
    return {name: value for name, value in values.items() if value is not None}


def _metavar(setting: Setting) -> str:
    if setting.kind == "numbers":
        least, most = setting.count
        return ",".join("N" * least) if least == most else "N,N,..."
    if setting.kind == "choice":
        return "|".join(setting.choices)
    return {"whole": "N", "number": "X"}.get(setting.kind, "TEXT")
