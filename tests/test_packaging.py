"""What `pip install .` installs works by itself: the command, the bundled models, the page's scripts, the trainer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the checkout, so that nothing is built inside it."""
    place = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "assets/screenshots/")):
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / "source" / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(place)],
        cwd=place / "source", check=True,
    )  # fmt: skip
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", str(target), str(wheel)],
        check=True,
    )  # fmt: skip
    return target


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_git_holds(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("lcm_studio", "lcm_studio"), ("training", "training"), ("assets/models", "lcm_studio/assets/models")):  # fmt: skip
        kept = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True)
        wanted = {inside + name.removeprefix(folder) for name in kept.stdout.split()}
        assert wanted and wanted <= names, sorted(wanted - names)
    requirements = (ROOT / "requirements.txt").read_text().split("\n")
    metadata = next(name for name in names if name.endswith("METADATA"))
    said = zipfile.ZipFile(wheel).read(metadata).decode()
    assert all(f"Requires-Dist: {line}" in said for line in requirements if line[:5] == "torch")


def test_the_command_makes_a_picture_with_a_bundled_model(installed: Path, tmp_path: Path) -> None:
    command = str(installed / "bin" / "lcm-studio")
    assert "usage: lcm-studio" in run(installed, tmp_path, sys.executable, command, "--help")
    assert "--host" in run(installed, tmp_path, sys.executable, command, "web", "--help")
    models = run(installed, tmp_path, sys.executable, command, "models")
    assert "scenery-lcm" in models and "scenery-cm" in models
    run(
        installed, tmp_path, sys.executable, command, "generate", "--model", "scenery-cm", "--steps", "1",
        "--seed", "3", "--out", "out",
    )  # fmt: skip
    assert list((tmp_path / "out").glob("*.png"))
    where = run(installed, tmp_path, sys.executable, "-c", "import lcm_studio; print(lcm_studio.__file__)")  # fmt: skip
    assert where.startswith(str(installed))


def test_the_trainer_finds_its_presets_and_the_bundled_teacher(
    installed: Path, tmp_path: Path
) -> None:
    plan = run(
        installed, tmp_path, sys.executable, "-m", "training", "lcd", "--preset", "cpu-quick", "--output",
        str(tmp_path / "run"), "--dry-run", "--untimed",
    )  # fmt: skip
    assert plan.strip()
