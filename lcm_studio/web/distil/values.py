"""The Distil form's values as a recipe and a config, and the pictures it keeps or makes. No Gradio here."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lcm_studio.data.captions import CAPTION_FILES, TABLES
from lcm_studio.data.listing import PICTURES
from lcm_studio.data.shards import looks_like_shards
from lcm_studio.jobs.config import (
    RECIPES,
    check_recipe,
    dump_config,
    environment,
    merged,
    parse_config,
    project_root,
)
from lcm_studio.spec.errors import BadRequest
from lcm_studio.web.server.unzip import free_name, unzip

PRESETS = project_root() / "training" / "presets"
EXAMPLE_SCENES = 600
UPLOADS = "uploads"
MAX_UPLOADS = 5000
MOST_PROMPTS = 8  # as training.recipes.latents.SHEET_PROMPTS
WANTED = (*PICTURES, *CAPTION_FILES, *(Path(name).suffix for name in TABLES))
LABELS = {
    "lcd": "LCM: latent consistency distillation",
    "dmd": "DMD: few steps by distribution matching",
    "lcm-lora": "LCM-LoRA: a small file for the same teacher",
    "cd": "Consistency distillation in pixels",
    "ct": "Consistency training, no teacher",
    "ict": "Improved consistency training, no teacher",
    "ect": "Easy consistency tuning of a diffusion model",
    "pixel-dmd": "DMD in pixels: distribution matching",
    "edm": "A pixel diffusion model from nothing",
    "teacher": "A latent diffusion model from nothing",
    "autoencoder": "An autoencoder",
}
NAMES = (
    "name",
    "recipe",
    "preset",
    "teacher",
    "folder",
    "steps",
    "batch_size",
    "learning_rate",
    "resolution",
    "prompts",
    "more",
)
TITLES = {
    "steps": "Steps",
    "batch_size": "Batch",
    "resolution": "Pixels",
    "learning_rate": "Learning rate",
}
NUMBERS = tuple(TITLES)  # that may stay empty
PLACELESS = ("scenes", "huggingface")  # kinds of data that need no folder
PROMPTED = ("lcd", "dmd", "lcm-lora", "teacher")  # recipes whose validation pictures have prompts
NEEDS_TEACHER = ("lcd", "dmd", "lcm-lora", "cd", "ect", "pixel-dmd")


def presets(recipe: str) -> tuple[str, ...]:
    """Names of the preset files of a recipe."""
    found = sorted(path.stem for path in PRESETS.glob("*.yaml")) if PRESETS.is_dir() else []
    mine = [name for name in found if _preset(name).get("recipe", recipe) == recipe]
    own = [name for name in mine if name.startswith(recipe)]
    return tuple(own or mine)


def _preset(name: str) -> dict[str, Any]:
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        return {}
    path = PRESETS / f"{name}.yaml"
    return parse_config(path.read_text(encoding="utf-8"), name) if path.is_file() else {}


def preset_values(name: str) -> dict[str, Any]:
    """A preset's config; empty for a name that is none."""
    return {key: value for key, value in _preset(name).items() if key != "recipe"}


def hints(preset: str) -> dict[str, str]:
    """What each number is where its field stays empty: the preset's, in words where the recipe decides."""
    values = preset_values(preset)
    own = "the recipe's own"
    known = {name: values[name] for name in NUMBERS if isinstance(values.get(name), int | float)}
    texts = {name: f"{v:g}" if isinstance(v, float) else str(v) for name, v in known.items()}
    return {name: texts.get(name, own) for name in NUMBERS}


def recipes() -> list[tuple[str, str]]:
    """(label, recipe) for the form."""
    return [(LABELS[name], name) for name in RECIPES]


def to_config(said: Mapping[str, Any], *, teacher: str, folder: str) -> tuple[str, dict[str, Any]]:
    """(recipe, config) of the form: the preset, the fields on top, then the YAML of "more"; raises BadRequest.

    `teacher`: the path of the chosen model. `folder`: the place of the data, already checked; empty where "more"
    names data that need none.
    """
    recipe = check_recipe(str(said.get("recipe") or ""))
    config = preset_values(str(said.get("preset") or ""))
    kind = "webdataset" if looks_like_shards(folder) else "folder"
    given = config.get("data")
    data = (
        {k: v for k, v in given.items() if k not in ("kind", "path")}
        if isinstance(given, dict)
        else {}
    )
    config["data"] = ({"kind": kind, "path": folder} if folder else {}) | data
    if recipe in NEEDS_TEACHER:
        if not teacher:
            raise BadRequest(f"{LABELS[recipe]} needs a teacher; choose one")
        config["teacher"] = teacher
    for name, kind_, low in (
        ("steps", int, 1), ("batch_size", int, 1), ("resolution", int, 16), ("learning_rate", float, 0.0),
    ):  # fmt: skip
        value = said.get(name)
        if value is None or value == "":
            continue
        config[name] = _number(name, value, kind_, low)
    prompts = lines_of(said.get("prompts"))
    if prompts and recipe in PROMPTED:
        config["validation_prompts"] = prompts
    more = parse_config(str(said.get("more") or ""), "the further settings")
    config = merged(config, more)
    named = config["data"]
    if not folder and not (isinstance(named, dict) and named.get("kind") in PLACELESS):
        raise BadRequest("choose a folder of pictures first")
    return recipe, config


def from_config(name: str, recipe: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The form, in the order of NAMES, of which `to_config` makes this config again.

    Data that are no place on this machine (scenes, a Hugging Face data set) go into the further settings.
    """
    rest = dict(config)
    given = rest.pop("data", {})
    data = dict(given) if isinstance(given, dict) else {}
    values: dict[str, Any] = dict.fromkeys(NAMES)
    if data.get("kind") not in PLACELESS:
        values["folder"] = data.pop("path", None)
        data.pop("kind", None)
    for field in ("teacher", "steps", "batch_size", "resolution", "learning_rate"):
        values[field] = rest.pop(field, None)
    prompts = rest.get("validation_prompts")
    if isinstance(prompts, list) and prompts == lines_of("\n".join(map(str, prompts))):
        values["prompts"] = "\n".join(rest.pop("validation_prompts"))
    rate = values["learning_rate"]
    rest |= {"data": data} if data else {}
    return values | {
        "name": name,
        "recipe": recipe,
        "preset": "",
        "learning_rate": None if rate is None else str(rate),
        "more": dump_config(rest) if rest else "",
    }


def lines_of(text: Any) -> list[str]:
    """The lines that say something; raises BadRequest for more than there is room for on a sheet."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    if len(lines) > MOST_PROMPTS:
        raise BadRequest(
            f"{len(lines)} validation prompts are more than a sheet has columns; give at most {MOST_PROMPTS}"
        )
    return lines


def _number(name: str, value: Any, kind: type, low: float) -> Any:
    try:
        number = kind(value)
        fits = number >= low and number == number and abs(float(number)) < 1e9
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        what = "whole number" if kind is int else "number"
        raise BadRequest(f"{TITLES[name]}: {str(value)[:40]!r} is no {what} from {low:g} up")
    return number


def recipe_text(recipe: str, config: Mapping[str, Any]) -> str:
    """What to copy: the file, and the command that reads it."""
    command = f"python -m lcm_studio jobs submit {recipe} --config job.yaml"
    direct = f"python -m training {recipe} --config job.yaml --output runs/{recipe}"
    return f"# {command}\n# or, in this shell: {direct}\n# job.yaml:\n{dump_config(config)}"


def keep_uploads(files: Sequence[str], home: Path) -> Path:
    """Uploaded pictures and captions, or zips of them, in a folder of their own; raises BadRequest for others.

    File names are taken from the upload without their folders; a second one of a name gets a number. Of a zip,
    pictures, captions and metadata.jsonl are taken (`server.unzip`).
    """
    if not files:
        raise BadRequest("choose the pictures to upload, with their .txt captions if there are any")
    if len(files) > MAX_UPLOADS:
        raise BadRequest(f"{len(files)} files are too many to upload; use a folder with --data-dir")
    sources = [Path(file) for file in files]
    for source in sources:
        if source.suffix.lower() not in (*WANTED, ".zip"):
            raise BadRequest(
                f"{source.name[:60]!r} is no picture (PNG, JPEG, WebP), no caption (.txt, .caption, "
                "metadata.jsonl, .csv or .json) and no .zip"
            )
    folder = home / UPLOADS / secrets.token_hex(6)
    folder.mkdir(parents=True, mode=0o700)
    try:
        for source in sources:
            if source.suffix.lower() == ".zip":
                unzip(source, folder, wanted=WANTED, most=MAX_UPLOADS)
            else:
                shutil.copyfile(source, free_name(folder, source.name))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def example_scenes(home: Path, count: int = EXAMPLE_SCENES) -> Path:
    """A folder of rendered scenes with captions for the guided example, made once."""
    folder = home / f"example-scenes-256px-{count}"
    if not folder.is_dir():
        part = home / f".{folder.name}-{secrets.token_hex(4)}"
        argv = [sys.executable, "-m", "training.scenery", "--out", str(part), "--count", str(count)]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=project_root(),
            env=environment(), timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BadRequest(
                f"the example scenes could not be rendered: {done.stderr.strip()[-200:]}"
            )
        if not folder.exists():
            part.rename(folder)
    return folder
