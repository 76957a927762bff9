"""python -m training.scenery.bundle RUN --name NAME [--into assets/models] [--figures table.md] [--note TEXT]
    [--average RUN].

Puts the output of a finished run on the scenes where the studio finds it: the diffusers folder, the
words it knows, its guidance, and a model card made of the run's own config and events.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_TITLES = {
    "autoencoder": "autoencoder of the Scenery models",
    "teacher": "text-to-image diffusion model of rendered landscapes",
    "lcd": "latent consistency model of rendered landscapes",
    "dmd": "few-step model of rendered landscapes by distribution matching",
    "cd": "pixel-space consistency model of rendered landscapes",
    "ect": "pixel-space consistency model of rendered landscapes",
    "pixel-dmd": "pixel-space consistency model of rendered landscapes by distribution matching",
    "edm": "pixel-space diffusion model of rendered landscapes",
}
# Where the Frechet distance on held-out scenes is least; for a model that replaces none. Those of the student's
# edits are in its edits.yaml, which `benchmarks tune` writes. The teacher's for edits is that of the rivals of
# `benchmarks edits`.
_FEW_STEPS: dict[str, Any] = {
    "guidance": {"default": 8, "edit": 6, "range": [1, 8]},
    "steps": 4,
    "shift": 2,
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "teacher": {"guidance": {"default": 6, "edit": 3, "range": [1, 8]}, "steps": 20},
    "lcd": {**_FEW_STEPS, "eta": 0.7},
    "dmd": {**_FEW_STEPS, "eta": 0.4},
    "ect": {"steps": 4},
    "pixel-dmd": {"steps": 4},
}
_STUDIO, _EDITS = "studio.json", "edits.yaml"
# Of the weights themselves: `benchmarks likeness --write` measures it anew.
_MEASURED = ("own_error",)


def seconds(events: Path) -> float:
    """Time spent in steps over all attempts of a run: gaps between events of one attempt."""
    total, before = 0.0, None
    for line in events.read_text().splitlines():
        row = json.loads(line)
        if row["event"] == "resumed":
            before = None
        if before is not None:
            total += row["time"] - before
        before = row["time"]
    return total


def _state(run: Path) -> dict[str, Any]:
    """What the newest checkpoint says of itself: recipe, config, step."""
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    found: dict[str, Any] = json.loads((newest / "state.json").read_text())
    return found


def card(run: Path, name: str, figures: str, note: str) -> str:
    """The README of a bundled model."""
    state = _state(run)
    recipe, config = state["recipe"], state["config"]
    hidden = ("data", "device", "threads", "log_every", "checkpoint_every", "keep_checkpoints")
    shown = {k: v for k, v in config.items() if k not in hidden}
    for key in ("teacher", "autoencoder", "start_from"):
        if shown.get(key):
            shown[key] = _base(recipe, key)
    data = config["data"]
    front = {"license": "apache-2.0", "library_name": "diffusers", "tags": ["landscapes", recipe]}
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        f"# {name}",
        "",
        f"A {_TITLES.get(recipe, recipe)}, {config['resolution']} x {config['resolution']} pixels, "
        f"trained from nothing on rendered scenes on a CPU. {_stock(run / 'output')}",
        "",
        f"* **Data**: {data['count']} scenes of `training.scenery` (seeds {data['first']} to "
        f"{data['first'] + data['count'] - 1}) with their captions; no picture of anybody else.",
        f"* **Recipe**: `python -m training {recipe}`, step {state['step']}, fields below.",
        f"* **Time**: {seconds(run / 'events.jsonl') / 60:.0f} minutes on one to two CPU cores.",
        "* **Licence**: Apache-2.0, weights and data.",
        *(
            ["* **Limits**: it knows the words of `vocabulary.json` and nothing else."]
            if (run / "output" / "tokenizer").exists()
            else []
        ),
        *([f"* {note}"] if note else []),
        "",
        *(["## Quality", "", figures.strip(), ""] if figures else []),
        "## Fields",
        "",
        "```yaml",
        yaml.safe_dump(shown, sort_keys=True).strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _stock(folder: Path) -> str:
    """How stock diffusers runs it. StableDiffusionPipeline hands its decoder a `generator`, which AutoencoderDC does not take."""
    file = folder / "model_index.json"
    index = json.loads(file.read_text()) if file.is_file() else {}
    kind, vae = index.get("_class_name"), index.get("vae", ["", ""])[1]
    if (kind, vae) != ("StableDiffusionPipeline", "AutoencoderDC"):
        return "Stock diffusers loads and runs it."
    return (
        "Stock diffusers loads it and runs it up to the latents, which its autoencoder decodes (`StableDiffusionPipeline` itself "
        "hands the decoder an argument that `AutoencoderDC` does not take):\n\n"
        "```python\n"
        'latents = pipe("sunset, lake", output_type="latent").images\n'
        "latents = latents / pipe.vae.config.scaling_factor\n"
        "pictures = pipe.vae.decode(latents).sample  # (B, 3, H, W) in [-1, 1]\n"
        "```"
    )


def _base(recipe: str, key: str) -> str:
    """Where a run started, in words that hold on any machine."""
    if (recipe, key) == ("pixel-dmd", "start_from"):
        return "the output of python -m training ect"
    if recipe in ("cd", "ect", "pixel-dmd"):
        return "the output of python -m training edm"
    if (recipe, key) == ("dmd", "start_from"):
        return "the output of python -m training lcd"
    part = {"teacher": "scenery-teacher", "autoencoder": "scenery-teacher/vae"}.get(key)
    return f"assets/models/{part}" if part else "an earlier run of this recipe"


def _forget_origin(about: Path) -> None:
    """Drops the folder that diffusers notes a network was loaded from: it means nothing elsewhere."""
    config = json.loads(about.read_text())
    if config.pop("_name_or_path", None) is not None:
        about.write_text(json.dumps(config, indent=2) + "\n")


def bundle(
    run: Path,
    name: str,
    into: Path,
    figures: str = "",
    note: str = "",
    other: Path | None = None,
    share: float = 0.5,
) -> Path:
    """Copies `run/output` to `into/name` with its card; an older one is replaced once the new one is whole.

    What was set for the older one (studio.json, the numbers of its edits) stays; what was measured of its weights goes.
    With `other`, a run or a model's folder, the network is `share` of the run's and the rest of the other's;
    raises ValueError where they do not fit.
    """
    into.mkdir(parents=True, exist_ok=True)
    target = into / name
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=into) as folder:
        part = Path(folder) / name
        _make(part, run, name, figures, note, other, share)
        if target.exists():
            _keep_settings(target, part)
            target.rename(Path(folder) / "old")
        part.rename(target)
    return target


def _keep_settings(old: Path, new: Path) -> None:
    if (old / _STUDIO).is_file():
        made = json.loads((new / _STUDIO).read_text()) if (new / _STUDIO).is_file() else {}
        kept = json.loads((old / _STUDIO).read_text())
        for name in _MEASURED:
            kept.pop(name, None)
        (new / _STUDIO).write_text(json.dumps(made | kept, indent=1) + "\n")
    if (old / _EDITS).is_file():
        shutil.copy(old / _EDITS, new / _EDITS)
        print(
            f"{_EDITS} is of the weights before; python -m benchmarks tune fits it again",
            file=sys.stderr,
        )


def _make(
    target: Path,
    run: Path,
    name: str,
    figures: str,
    note: str,
    other: Path | None,
    share: float,
) -> None:
    from training.scenery.captions import EXAMPLES, GLUE, vocabulary

    edition = _state(run)["config"]["data"].get("edition", 1)
    shutil.copytree(run / "output", target)
    if other is not None:
        ran = (other / "output").is_dir()
        average(target, other / "output" if ran else other, share)
        first = f"after {_state(other)['step']} steps" if ran else f"of the earlier {other.name}"
        after = f"after {_state(run)['step']} steps"
        said = f"The weights are {1 - share:g} of those {first} and {share:g} of those {after}"
        note = f"{said} (`--average`). {note}".strip()
    for about in target.rglob("config.json"):
        _forget_origin(about)
    (target / "README.md").write_text(card(run, name, figures, note))
    if (target / "tokenizer").exists():
        groups = [{"name": k, "phrases": list(v)} for k, v in vocabulary(edition).items()]
        words = {"groups": groups, "examples": list(EXAMPLES), "glue": list(GLUE)}
        (target / "vocabulary.json").write_text(json.dumps(words, indent=1) + "\n")
    recipe = _state(run)["recipe"]
    if recipe in _SETTINGS:
        (target / _STUDIO).write_text(json.dumps(_SETTINGS[recipe], indent=1) + "\n")


def average(folder: Path, other: Path, share: float = 0.5) -> None:
    """Makes the network in `folder` `share` of itself and the rest of the one in `other`, of equal shapes.

    Late in a distillation one-step pictures still improve while those of several steps get rougher;
    the mean of an early and a late state keeps most of both. The mean of two runs that went on from one state with
    other seeds has less of the noise of either. A fine-tuned one and what it started from: most of what
    was learnt, and less of what was forgotten (Wortsman et al. 2022, WiSE-FT).
    """
    from safetensors.torch import load_file, save_file

    name = "unet/diffusion_pytorch_model.safetensors"
    mine, theirs = load_file(folder / name), load_file(other / name)
    shapes = [{k: v.shape for k, v in one.items()} for one in (mine, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{other} holds another network than {folder}; give a run of the same")
    mean = {
        k: v.float().mul(share).add(theirs[k].float(), alpha=1 - share).to(v.dtype)
        for k, v in mine.items()
    }
    save_file(mean, folder / name, metadata={"format": "pt"})


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 where a run has no output or does not fit the other."""
    parser = argparse.ArgumentParser(prog="python -m training.scenery.bundle", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--into", type=Path, default=Path("assets/models"))
    parser.add_argument("--figures", type=Path, help="markdown file with the measured quality")
    parser.add_argument(
        "--average", type=Path, help="another run or model, to take the mean of both"
    )
    parser.add_argument("--share", type=float, default=0.5, help="share of RUN in that mean (0.5)")
    parser.add_argument("--note", default="", help="one more line of the card")
    args = parser.parse_args(argv)
    for run in (args.run, args.average):
        model = run is args.average and run is not None and (run / "model_index.json").is_file()
        if run is not None and not model and not (run / "output").is_dir():
            print(f"{run} has no output; let the run finish, or use --export", file=sys.stderr)
            return 2
    if not 0 < args.share < 1:
        print(f"--share {args.share} is no part of a mean; use 0 to 1", file=sys.stderr)
        return 2
    figures = args.figures.read_text() if args.figures else ""
    try:
        print(bundle(args.run, args.name, args.into, figures, args.note, args.average, args.share))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
