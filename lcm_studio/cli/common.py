"""What several subcommands share. Nothing heavy at the top."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.cli.flags import add_flag, typed
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.requests import BUNDLED_MODEL, EmbeddingSpec, LoraSpec, Sampling
from lcm_studio.spec.samplers import NAMES
from lcm_studio.spec.schema import settings_of

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.engine.remote.client import RemoteEngine
    from lcm_studio.spec.events import Done
    from lcm_studio.spec.requests import Request


OWN = ("prompt", "class_label", "eta")  # of new pictures: tasks have flags of their own
SHARED = tuple(s for s in settings_of(Sampling) if s.name not in OWN)
SWITCHED = {"yes": True, "true": True, "no": False, "false": False}  # how a shell writes a switch


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """--steps ... --json: what generation and editing share."""
    parser.add_argument(
        "--model", default=BUNDLED_MODEL, metavar="NAME|PATH|ID", help="default: %(default)s"
    )
    for setting in SHARED:
        add_flag(parser, setting)
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="a .safetensors LoRA; may be repeated",
    )
    parser.add_argument(
        "--embedding",
        action="append",
        default=[],
        metavar="[WORD=]FILE",
        help="a .safetensors textual inversion; write WORD in the prompt (default: the file's own word); may be repeated",
    )
    parser.add_argument(
        "--timesteps", metavar="T,T,...", help="explicit falling levels instead of --steps"
    )
    parser.add_argument(
        "--model-kind",
        default="auto",
        metavar="NAME",
        help="what the weights are (docs/guide/kinds.md), where the file does not say; default: by the model and its LoRAs",
    )
    parser.add_argument(
        "--sampler", choices=NAMES, default="auto", metavar="NAME", help=f"{', '.join(NAMES)}"
    )
    add_set_argument(parser)
    parser.add_argument(
        "--engine",
        default="",
        metavar="ray://HOST:PORT",
        help="engines elsewhere, started by `serve` (default: one for this command)",
    )
    add_engine_arguments(parser)
    parser.add_argument(
        "--out", default="outputs", metavar="FOLDER|FILE.png", help="default: %(default)s/"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """--set NAME=VALUE: settings of a sampler."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the sampler, such as tolerance=0.001; may be repeated",
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """--device, --dtype, --backend, --models-dir, --embeddings-dir, --online."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    parser.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "torch", "openvino", "compile"),
        help="what runs the networks; a named one is waited for (default: torch for one command)",
    )
    parser.add_argument(
        "--models-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of model folders, beside the bundled ones",
    )
    parser.add_argument(
        "--embeddings-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of textual inversions, beside the folder embeddings/ in those of models",
    )
    parser.add_argument("--online", action="store_true", help="allow downloads from the hub")


def make_engine(args: argparse.Namespace, *, once: bool = True) -> Engine:
    """The engine that the arguments ask for; `once`: for one command."""
    from lcm_studio.engine import Engine, EngineConfig
    from lcm_studio.engine.config import default_folders

    folders = (*default_folders(), *(Path(d) for d in args.models_dir))
    return Engine(
        EngineConfig(
            device=args.device,
            dtype=args.dtype,
            backend=args.backend,
            once=once,
            models_dirs=folders,
            embeddings_dirs=tuple(Path(d) for d in args.embeddings_dir),
            offline=not args.online,
        )
    )


def engine_for(args: argparse.Namespace) -> Engine | RemoteEngine:
    """The engine elsewhere that --engine names, or one for this command."""
    if not args.engine:
        return make_engine(args)
    from lcm_studio.engine.remote.client import RemoteEngine

    return RemoteEngine(args.engine)


def sampling(args: argparse.Namespace, engine: Engine | RemoteEngine) -> dict[str, Any]:
    """The fields of spec.requests.Sampling from the arguments."""
    loras = tuple(parse_lora(text) for text in args.lora)
    info = engine.info_as(
        args.model, loras=loras, kind=args.model_kind, guided_steps=args.guided_steps
    )
    timesteps = parse_timesteps(args.timesteps)
    values = typed(args, SHARED)
    values.setdefault("steps", min(info.steps_default, info.max_steps))
    if timesteps is not None:
        values["steps"] = len(timesteps)
    return {
        **values,
        "model": args.model,
        "loras": loras,
        "embeddings": tuple(parse_embedding(text) for text in args.embedding),
        "timesteps": timesteps,
        "sampler": args.sampler,
        "kind": args.model_kind,
        "sampler_settings": parse_settings(args.set),
    }


def parse_settings(texts: Sequence[str]) -> dict[str, str | bool]:
    """["tolerance=0.001", "denoise=no"] -> {"tolerance": "0.001", "denoise": False}; the sampler's row checks the values.

    Raises BadRequest.
    """
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise BadRequest(
                f"--set {name}{equals}{value}: use NAME=VALUE, such as tolerance=0.001"
            )
    return {
        name.strip(): SWITCHED.get(value.strip().lower(), value.strip()) for name, _, value in pairs
    }


def parse_timesteps(text: str | None) -> tuple[int, ...] | None:
    """ "22,0" -> (22, 0). Raises BadRequest."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise BadRequest(
            f"--timesteps {text!r} is no list of whole numbers; use e.g. 999,499"
        ) from error


def parse_lora(text: str) -> LoraSpec:
    """ "FILE:0.8" or "FILE" -> LoraSpec. Raises BadRequest."""
    path, colon, weight = text.rpartition(":")
    if not colon or path == "" or "/" in weight or "\\" in weight:
        return LoraSpec(path=text)
    try:
        return LoraSpec(path=path, weight=float(weight))
    except ValueError as error:
        raise BadRequest(
            f"--lora {text!r}: the weight after the colon is no number; use FILE:0.8"
        ) from error


def parse_embedding(text: str) -> EmbeddingSpec:
    """ "WORD=FILE" or "FILE" -> EmbeddingSpec."""
    word, equals, path = text.partition("=")
    if not equals or "/" in word or "\\" in word:
        return EmbeddingSpec(path=text)
    return EmbeddingSpec(path=path, word=word.strip())


def execute(engine: Engine | RemoteEngine, request: Request, *, progress: bool) -> Done:
    """Runs a request to its end. Raises StudioError where it fails."""
    import sys

    from lcm_studio.spec.events import Done, Failed, Loading, Step, Working

    for event in engine.run(request):
        if isinstance(event, Done):
            return event
        if isinstance(event, Failed):
            raise StudioError(event.message)
        if progress and isinstance(event, Loading):
            print(event.message, file=sys.stderr)
        if progress and isinstance(event, Working):
            print(f"{event.message}, {event.share:.0%}", file=sys.stderr)
        if progress and isinstance(event, Step):
            print(f"step {event.done}/{event.total}  {event.seconds:.2f} s", file=sys.stderr)
    raise StudioError("it was stopped before it finished; run it again")


def save_all(done: Done, out: str) -> list[Path]:
    """Writes the pictures to the folder `out`, or to `out` itself where that is a .png; returns their paths."""
    from lcm_studio.images.png import write_png

    target = Path(out)
    try:
        frames = done.settings.get("task") == "interpolate"
        paths = _frames(target, done.seeds) if frames else _names(target, done.seeds)
        for path, pixels, seed in zip(paths, done.images, done.seeds, strict=True):
            write_png(path, pixels, {**done.settings, "seed": seed, "count": 1})
    except OSError as error:
        raise BadRequest(
            f"--out {out}: cannot be written ({error.strerror}); choose another place"
        ) from error
    return paths


def _names(target: Path, seeds: Sequence[int]) -> list[Path]:
    if target.suffix.lower() == ".png":
        if len(seeds) == 1:
            return [target]
        return [target.with_name(f"{target.stem}-{seed}{target.suffix}") for seed in seeds]
    names = []
    for seed in seeds:
        path, n = target / f"{seed}.png", 2
        while path.exists() or path in names:
            path, n = target / f"{seed}-{n}.png", n + 1
        names.append(path)
    return names


def _frames(target: Path, seeds: Sequence[int]) -> list[Path]:
    """Numbered names, so that a listing has the frames in order: 0-001.png of seed 0, or x-001.png for x.png."""
    single = target.suffix.lower() == ".png"
    folder = target.parent if single else target
    start = target.stem if single else str(seeds[0])
    stem, n = start, 2
    while not single and any(folder.glob(f"{stem}-[0-9][0-9][0-9].png")):
        stem, n = f"{start}-{n}", n + 1
    return [folder / f"{stem}-{number:03d}.png" for number in range(1, len(seeds) + 1)]


def report(args: argparse.Namespace, done: Done, paths: list[Path], **more: Any) -> None:
    """Prints what was made: the paths, or one JSON object."""
    import json
    import sys

    if not args.json:
        for path in paths:
            print(path)
        for warning in done.warnings:
            print(f"note: {warning}", file=sys.stderr)
        return
    said = {
        "files": [str(path) for path in paths],
        "seeds": list(done.seeds),
        "steps": done.settings.get("steps"),
        "model": done.settings.get("model"),
        "seconds": {k: round(v, 4) for k, v in done.timing.items() if k != "evaluations"},
        "evaluations": int(done.timing.get("evaluations", 0)),
        "settings": dict(done.settings),
        "warnings": list(done.warnings),
        **more,
    }
    print(json.dumps(said))
