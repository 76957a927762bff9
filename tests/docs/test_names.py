"""What the documents show exists: every code block parses, its imports import, and what it calls is bound in it."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(match[1], id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in re.finditer(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)
]
# `engine/lane.py`, `maths.schedule.NoiseSchedule`, `sampling.multistep` in running text
DOTTED = re.compile(
    r"`(?:lcm_studio\.)?((?:spec|maths|operators|sampling|models|edits|engine)(?:\.\w+)+)"
)


def bound_in(tree: ast.Module) -> dict[str, object]:
    """Names that a block imports or assigns, with the imported objects. Raises what a wrong import raises."""
    names: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                top = importlib.import_module(alias.name.partition(".")[0])
                names[alias.asname or alias.name.partition(".")[0]] = (
                    module if alias.asname else top
                )
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, None)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.setdefault(node.name, None)
    return names


def unbound(block: str) -> list[str]:
    """What a block calls, or names with a capital, and does not bind; values such as `request` are the reader's own."""
    tree = ast.parse(block)
    names = bound_in(tree)
    called = {
        n.func.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    wanted = called | {name for name in used if name[:1].isupper()}
    missing = [name for name in sorted(wanted) if name not in names and not hasattr(builtins, name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            made = names.get(node.func.id)
            if callable(made):
                missing += misfit(node, made)
    return missing


def misfit(call: ast.Call, made: object) -> list[str]:
    """Keywords that what is called does not take."""
    try:
        parameters = inspect.signature(made).parameters  # type: ignore[arg-type]
    except ValueError:
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return []
    return [f"{k.arg}=" for k in call.keywords if k.arg is not None and k.arg not in parameters]


@pytest.mark.parametrize("block", BLOCKS)
def test_code_blocks_name_what_exists(block: str) -> None:
    assert unbound(block) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_running_text_exist(page: Path) -> None:
    missing = []
    dotted_names = (d for d in DOTTED.findall(page.read_text()) if not d.endswith(".yaml"))
    for dotted in dotted_names:
        parts = dotted.split(".")
        found: object = importlib.import_module(f"lcm_studio.{parts[0]}")
        for i, part in enumerate(parts[1:], 2):
            if inspect.isclass(found) and f"self.{part}" in inspect.getsource(found):
                break
            if not hasattr(found, part):
                try:
                    importlib.import_module(".".join(("lcm_studio", *parts[:i])))
                except ImportError:
                    missing.append(dotted)
                    break
            found = getattr(found, part)
    assert missing == []


def test_the_check_sees_what_is_not_there() -> None:
    assert unbound("EditResult(images, fidelity)") == ["EditResult"]
    assert unbound("from lcm_studio.sampling import drive\ndrive(steps, model, at=1)") == ["at="]
    with pytest.raises(AttributeError):
        unbound("from lcm_studio.sampling import nothing")
