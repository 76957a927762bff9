"""Every link of the documents leads to a file, and every document is reached from the first one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def links(page: Path) -> list[Path]:
    targets = [m[1] for m in LINK.finditer(page.read_text(encoding="utf-8"))]
    return [(page.parent / t).resolve() for t in targets if "://" not in t]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    missing = [str(target) for target in links(page) if not target.exists()]
    assert not missing


def test_every_document_is_reached() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in seen:
            seen.add(page)
            todo += [t for t in links(page) if t.suffix == ".md" and t.exists()]
    assert set(PAGES) - seen == set()


def test_code_names_documents_that_exist() -> None:
    """Messages and docstrings point to documents by their path."""
    named = {
        match[0]
        for room in ("lcm_studio", "training", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
        for match in re.finditer(r"docs/[\w/]+\.md", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
