"""Samplers at equal evaluations: Frechet distance from held-out scenes and agreement with the caption.

Captions go through all cells in blocks, and the files are written after each block, so that a run may be cut short at any
time (`--minutes`): what is there then compares equal captions and equal seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.engine import Engine
from lcm_studio.lab.export import plot_quality
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.lab import TEACHER, Conditions, System
from lcm_studio.spec.requests import BUNDLED_MODEL
from lcm_studio.spec.samplers import sampler_info

if TYPE_CHECKING:
    from training.scenery.evaluation.features import FeatureNet

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = "consistency:1,2,4,8 ode-euler:4,8,16 ode-heun:5,9,15 dpmpp:4,8,16 ancestral:8,16 sde:16 pc:16 langevin:16"
FIRST = 10**8 + 2 * 10**6  # of the held-out seeds, clear of those of other benchmarks
EDITION = 2  # of the scenes


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What one block of captions made in one cell."""

    features: np.ndarray
    seconds: float
    evaluations: float


def main(argv: list[str]) -> int:
    """Runs the cells and writes the table, the numbers and the plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks samplers", description=__doc__)
    parser.add_argument("--captions", type=int, default=500, help="default: %(default)s")
    parser.add_argument(
        "--reference", type=int, default=2000, help="real scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--cells", default=DEFAULT, help="sampler:evaluations,... (default: %(default)s)"
    )
    parser.add_argument("--model", default=TEACHER, help="of the score (default: %(default)s)")
    parser.add_argument(
        "--student", default=BUNDLED_MODEL, help="of consistency (default: %(default)s)"
    )
    parser.add_argument("--guidance", type=float, help="default: the models' own")
    parser.add_argument(
        "--block", type=int, default=20, help="captions at a time (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no block after so many")
    parser.add_argument("--features", type=Path, default=ROOT / "assets/models/scenery-features")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/samplers")
    args = parser.parse_args(argv)
    try:
        systems = cells(args.cells, args.model, args.student)
    except (StudioError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return _measure(args, systems)


def cells(text: str, model: str, student: str) -> list[System]:
    """ "dpmpp:4,8 consistency:1" -> systems. Raises StudioError or ValueError."""
    systems = []
    for part in text.split():
        name, _, numbers = part.partition(":")
        chosen = student if sampler_info(name).family == "consistency" else model
        for number in numbers.split(","):
            systems.append(System(model=chosen, sampler=name, evaluations=int(number)))
    return systems


def _measure(args: argparse.Namespace, systems: list[System]) -> int:
    from training.scenery.dataset import caption_of
    from training.scenery.evaluation.features import load_features

    net = load_features(args.features)
    began = time.perf_counter()
    side = 0
    blocks: list[list[Measured]] = []
    captions: list[str] = []
    with Engine() as engine:
        side = engine.info(args.model).width
        for start in range(0, args.captions, args.block):
            minutes = (time.perf_counter() - began) / 60
            if blocks and minutes >= args.minutes:
                break
            count = min(args.block, args.captions - start)
            seeds = range(FIRST + start, FIRST + start + count)
            texts = [caption_of(seed, EDITION) for seed in seeds]
            blocks.append([_block(engine, net, s, texts, start, args.guidance) for s in systems])
            captions += texts
            done = f"{len(captions)} captions in {(time.perf_counter() - began) / 60:.1f} minutes"
            print(done, file=sys.stderr)
            if len(captions) >= 2:
                _write(args, net, systems, blocks, captions, side)
    return 0


def _block(
    engine: Engine,
    net: FeatureNet,
    system: System,
    texts: list[str],
    start: int,
    guidance: float | None,
) -> Measured:
    """Pictures of some captions; the lane joins them into calls of several rows."""
    import torch

    from lcm_studio.lab.film import generate_of

    def one(numbered: tuple[int, str]) -> Done:
        number, text = numbered
        conditions = Conditions(prompt=text, seed=start + number, guidance=guidance)
        for event in engine.run(generate_of(conditions, system)):
            if isinstance(event, Failed):
                raise StudioError(f"{system.label}: {event.message}")
            if isinstance(event, Done):
                return event
        raise StudioError(f"{system.label}: stopped")

    began = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(one, enumerate(texts)))
    seconds = time.perf_counter() - began
    pictures = np.stack([d.images[0] for d in made])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return Measured(
        features=net.embed(images).detach().cpu().numpy(),
        seconds=seconds,
        evaluations=float(np.mean([d.timing["evaluations"] for d in made])),
    )


def _reference(args: argparse.Namespace, net: FeatureNet, side: int, clear: int) -> np.ndarray:
    """Features of real scenes behind the captions' own, kept beside the output while it runs."""
    import tempfile

    import torch

    from training.scenery.dataset import arrays
    from training.scenery.evaluation.cells import fingerprint

    name = f"samplers-reference-{EDITION}-{fingerprint(args.features)[:12]}-{side}-{args.reference}-{clear}.npy"
    kept = Path(tempfile.gettempdir()) / name
    if kept.is_file():
        features: np.ndarray = np.load(kept)
        return features
    first = FIRST + clear
    parts = []
    for start in range(first, first + args.reference, 50):
        seeds = range(start, min(start + 50, first + args.reference))
        pictures = arrays(seeds, side, edition=EDITION)[0]
        images = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).float() / 255
        parts.append(net.embed(images).detach().cpu().numpy())
    features = np.concatenate(parts)
    np.save(kept, features)
    return features


def _write(
    args: argparse.Namespace,
    net: FeatureNet,
    systems: list[System],
    blocks: list[list[Measured]],
    captions: list[str],
    side: int,
) -> None:
    import torch

    from benchmarks.timing import machine
    from training.metrics import frechet
    from training.scenery.evaluation.agreement import prompt_agreement

    reference = _reference(args, net, side, args.captions)
    rows: list[dict[str, Any]] = []
    for i, system in enumerate(systems):
        cell = [block[i] for block in blocks]
        features = np.concatenate([c.features for c in cell])
        shown = net.attributes_of(torch.from_numpy(features))
        rows.append(
            {
                "model": system.model, "sampler": system.sampler, "asked": system.evaluations,
                "evaluations": round(float(np.mean([c.evaluations for c in cell])), 2),
                "fd": round(frechet(features, reference), 3),
                "agreement": round(prompt_agreement(captions, shown), 4),
                "seconds": round(sum(c.seconds for c in cell) / len(features), 4),
            }
        )  # fmt: skip
    about = {
        "captions": len(captions), "asked": args.captions, "minutes": args.minutes, "reference": len(reference), "guidance": args.guidance,
        "first_seed": FIRST, "size": side, "date": time.strftime("%Y-%m-%d"), "machine": machine(),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    title = f"{len(captions)} captions"
    plot_quality(args.out.with_name(f"{args.out.name}-fd.png"), rows, value="fd", title=title)
    plot_quality(
        args.out.with_name(f"{args.out.name}-agreement.png"), rows, value="agreement", title=title
    )
    args.out.with_suffix(".md").write_text(report(rows, about, args.out.name))


def report(rows: list[dict[str, Any]], about: dict[str, Any], name: str) -> str:
    """The table in Markdown."""
    machine = about["machine"]
    command = f"python -m benchmarks samplers --captions {about.get('asked', about['captions'])}"
    cut = about.get("asked", about["captions"]) > about["captions"]
    if cut:
        command += f" --minutes {about['minutes']:g}"
    lines = [
        "# Samplers at equal evaluations", "",
        f"`{command}`, {about['date']}, {machine['device']} with {machine['cpus']} cores, torch "
        f"{machine['torch']}, {machine['threads']} thread, load {machine['load'][0]:g}.", "",
        f"{about['captions']} held-out captions with the same seeds in every row{', as many as the minutes gave' if cut else ''}, pictures of {about['size']} pixels. Frechet distance from "
        f"{about['reference']} real scenes in the features of `scenery-features`; it is too high at few captions, by about as much in every "
        "row, so compare rows and not tables. Agreement: the share of the caption's attributes that the picture shows. Seconds: per picture, "
        "in calls of up to 16 rows, on a machine that did other work too.", "",
        "| model | sampler | evaluations | Frechet distance | agreement | seconds |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {r['model']} | {r['sampler']} | {r['evaluations']:g} | {r['fd']:.2f} | {100 * r['agreement']:.1f}% | {r['seconds']:.2f} |"
        for r in rows
    ]  # fmt: skip
    lines += [
        "",
        f"![Frechet distance]({name}-fd.png)",
        "",
        f"![Agreement]({name}-agreement.png)",
        "",
    ]
    return "\n".join(lines)
