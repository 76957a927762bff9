"""A job's config as the studio handles it: one YAML mapping, and changes to it; its meaning is the trainer's.

Everything a user wrote reaches the trainer through this file alone. The command line is fixed, so that no
value can become an argument, a shell word or an environment variable.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from lcm_studio import bundled
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.spec.errors import BadRequest

RECIPES = (
    "lcd", "dmd", "lcm-lora", "cd", "ct", "ict", "ect", "pixel-dmd", "edm", "teacher", "autoencoder",
)  # fmt: skip
MAX_CONFIG_BYTES = 256 * 1024
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,7}")
_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,2})?|auto")
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ",
    "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME",
    "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SYSTEMROOT",
)  # fmt: skip


def project_root() -> Path:
    """The folder that holds lcm_studio and training."""
    return Path(__file__).resolve().parents[2]


def check_recipe(recipe: str) -> str:
    """The recipe, when it is one of the trainer's; raises BadRequest."""
    if recipe not in RECIPES:
        raise BadRequest(f"recipe {recipe[:60]!r} is none of {', '.join(RECIPES)}")
    return recipe


def load_config(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises BadRequest when there is none."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise BadRequest(
                f"{path} is larger than {MAX_CONFIG_BYTES // 1024} kB; is it a config?"
            )
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise BadRequest(f"there is no config file {path}; give the path of a job.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read as a config: {error}") from None


WEIGHTS = (
    "teacher",
    "autoencoder",
    "start_from",
)  # fields of a config that name folders of weights


def parse_config(text: str, name: str = "the config") -> dict[str, Any]:
    """A YAML mapping as a dict; raises BadRequest."""
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = str(error).replace("\n", " ")[:200]
        raise BadRequest(f"{name} is not valid YAML: {line}") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise BadRequest(f"{name} holds no `key: value` lines; see docs/guide/distillation.md")
    return found


def merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `top` on top; sections are merged field by field."""
    changed = deepcopy(dict(base))
    for key, value in top.items():
        old = changed.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            changed[key] = merged(old, value)
        else:
            changed[key] = deepcopy(value)
    return changed


def with_settings(config: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`config` with each `key=value` applied; dotted keys reach into sections; raises BadRequest."""
    changed = deepcopy(dict(config))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise BadRequest(f"--set {setting[:80]!r} is not of the form key=value")
        try:
            value = yaml.safe_load(text) if text.strip() else ""
        except (yaml.YAMLError, RecursionError, ValueError):
            value = text
        *sections, last = key.split(".")
        place = changed
        for section in sections:
            inner = place.setdefault(section, {})
            if not isinstance(inner, dict):
                raise BadRequest(f"--set {key}: {section} is a value, not a section")
            place = inner
        place[last] = value
    return changed


def rooted(config: Mapping[str, Any], base: Path, cache: Path) -> dict[str, Any]:
    """`config` with paths that hold wherever it runs: relative ones against `base`, bundled models by name.

    Data get `cache` as their cache folder where they name none.
    """
    found = deepcopy(dict(config))
    data = found.get("data")
    data = found["data"] = dict(data) if isinstance(data, dict) else {}
    data.setdefault("cache", str(cache))
    for place, key in (*((found, key) for key in WEIGHTS), (data, "path"), (data, "cache")):
        value = place.get(key)
        if not isinstance(value, str) or not value or "\0" in value or Path(value).is_absolute():
            continue
        shipped = bundled.MODELS / value.removeprefix("assets/models/")
        if (base / value).exists() or key == "cache" or "{" in value:
            place[key] = str(base / value)
        elif key in WEIGHTS and shipped.is_dir():
            place[key] = str(shipped)
    return found


def dump_config(config: Mapping[str, Any]) -> str:
    """The YAML text that is written, shown and copied."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return text


def device_of(config: Mapping[str, Any]) -> str:
    """The device whose queue a job waits in: cpu, mps or cuda:N; raises BadRequest."""
    asked = str(config.get("device") or "auto")
    if not _DEVICE.fullmatch(asked):
        raise BadRequest(f"device={asked[:40]!r} is none of auto, cpu, mps, cuda, cuda:N")
    if asked == "auto":
        return "cuda:0" if Path("/dev/nvidia0").exists() else "cpu"
    return "cuda:0" if asked == "cuda" else asked


def check_alone(config: Mapping[str, Any]) -> None:
    """Raises BadRequest for a config that one process, which a job here is, cannot run."""
    if config.get("sharding") == "full":
        raise BadRequest(
            "sharding=full splits the networks over several processes and a job here is one; set "
            "sharding to none, or let `jobs submit --backend slurm` or `skypilot` write the files that "
            "start several"
        )


def command(recipe: str, folder: JobFolder, *, resume: bool) -> tuple[str, ...]:
    """The trainer's whole command line: made of our own paths and a recipe's name, nothing else."""
    fixed = (sys.executable, "-m", "training", check_recipe(recipe))
    paths = ("--config", str(folder.config), "--output", str(folder.path))
    return (*fixed, *paths, *(("--resume",) if resume else ()))


def environment() -> dict[str, str]:
    """What the trainer sees of our environment: an allow-list, and our own settings."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(project_root()),
        "PYTHONSAFEPATH": "1",
        "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
