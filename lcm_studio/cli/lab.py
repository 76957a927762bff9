"""lab: samplers to see and to measure; films, comparisons, traces, inversion."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.cli.common import (
    add_engine_arguments,
    add_set_argument,
    make_engine,
    parse_settings,
)
from lcm_studio.spec.errors import BadImage, BadRequest, StudioError
from lcm_studio.spec.lab import TEACHER, Comparison, Film, Frame, Inversion, System, Trace
from lcm_studio.spec.requests import BUNDLED_MODEL
from lcm_studio.spec.samplers import SAMPLERS, sampler_info

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.spec.requests import Pixels


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers `lab sample|compare|trace|invert|plane`."""
    top = sub.add_parser("lab", help="score, SDE, ODE and consistency samplers side by side")
    runs = top.add_subparsers(dest="bench", required=True, metavar="RUN")

    sample = _run(runs, "sample", _sample, "one picture by any sampler, as a film too")
    sample.add_argument(
        "--model",
        metavar="NAME|PATH|ID",
        help=f"default: {TEACHER}, or {BUNDLED_MODEL} for consistency",
    )
    sample.add_argument(
        "--sampler",
        default="ode-heun",
        choices=tuple(SAMPLERS),
        metavar="NAME",
        help=", ".join(SAMPLERS),
    )
    sample.add_argument(
        "--evaluations", type=int, help="network evaluations, at most (default: 50, consistency 4)"
    )
    sample.add_argument(
        "--film", action="store_true", help="also the way to it: a strip (PNG) and a film (GIF)"
    )
    sample.add_argument(
        "--frames", type=int, default=24, help="frames of the film (default: %(default)s)"
    )
    add_set_argument(sample)

    compare = _run(
        runs, "compare", _compare, "the same noise through several samplers: sheet, CSV, plot"
    )
    compare.add_argument(
        "--samplers",
        default="ode-euler,ode-heun,dpmpp,consistency",
        metavar="A,B,...",
        help="default: %(default)s",
    )
    compare.add_argument(
        "--evaluations", default="4,8,16,50", metavar="N,N,...", help="default: %(default)s"
    )
    compare.add_argument(
        "--model",
        default=TEACHER,
        metavar="NAME|PATH|ID",
        help="of the score (default: %(default)s)",
    )
    compare.add_argument(
        "--student",
        default=BUNDLED_MODEL,
        metavar="NAME|PATH|ID",
        help="of the sampler consistency (default: %(default)s)",
    )
    compare.add_argument(
        "--no-reference",
        action="store_true",
        help="leave out the fine solution that distances are measured from",
    )

    trace = _run(runs, "trace", _trace, "f(x_t, t) of a student along one path of its teacher")
    trace.add_argument(
        "--model",
        default=BUNDLED_MODEL,
        metavar="NAME|PATH|ID",
        help="the student (default: %(default)s)",
    )
    trace.add_argument(
        "--teacher", default=TEACHER, metavar="NAME|PATH|ID", help="default: %(default)s"
    )
    trace.add_argument(
        "--evaluations",
        type=int,
        default=Trace.evaluations,
        help="of the path (default: %(default)s)",
    )
    trace.add_argument(
        "--points",
        type=int,
        default=Trace.points,
        help="levels that are shown (default: %(default)s)",
    )

    invert = _run(runs, "invert", _invert, "a picture up the ODE to its noise, and back")
    invert.add_argument("--image", required=True, metavar="FILE", help="the picture")
    invert.add_argument("--prompt", dest="prompt_flag", default="", help="what it shows")
    invert.add_argument(
        "--model", default=TEACHER, metavar="NAME|PATH|ID", help="default: %(default)s"
    )
    invert.add_argument(
        "--sampler",
        default=Inversion.sampler,
        metavar="NAME",
        help="ode-heun, ode-euler, dpmpp or rk45 (default: %(default)s)",
    )
    invert.add_argument(
        "--evaluations",
        type=int,
        default=Inversion.evaluations,
        help="each way (default: %(default)s)",
    )
    invert.add_argument(
        "--likelihood", action="store_true", help="also estimate its log-likelihood"
    )
    add_set_argument(invert)
    invert.set_defaults(guidance=1.0)

    if importlib.util.find_spec("lcm_studio.cli.lab_plane") is not None:
        importlib.import_module("lcm_studio.cli.lab_plane").add_parser(runs)


def _run(runs: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """A parser with what all runs share."""
    parser: argparse.ArgumentParser = runs.add_parser(name, help=text)
    if name != "invert":
        parser.add_argument("prompt", nargs="?", default="", help="what to draw")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what to avoid")
    parser.add_argument("--seed", type=int, default=0, help="the noise to start from (default: 0)")
    parser.add_argument(
        "--guidance", type=float, help="guidance scale (default: the model's; 1 for invert)"
    )
    parser.add_argument("--class-label", type=int, help="of a class-conditional model")
    if name != "invert":
        parser.add_argument("--width", type=int, help="pixels (default: the model's)")
        parser.add_argument("--height", type=int, help="pixels (default: the model's)")
    add_engine_arguments(parser)
    parser.add_argument("--out", default="outputs", metavar="FOLDER", help="default: %(default)s/")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _conditions(args: argparse.Namespace) -> dict[str, Any]:
    names = ("prompt", "negative", "seed", "guidance", "class_label", "width", "height")
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def _finish(args: argparse.Namespace, events: Iterator[Any], frames: list[Frame]) -> Any:
    """The last event of a run; frames are kept, progress is printed. Raises StudioError where it fails."""
    from lcm_studio.spec.events import Failed, Loading, Step, Stopped

    event: Any = None
    for event in events:
        if isinstance(event, Frame):
            frames.append(event)
        elif isinstance(event, Failed):
            raise StudioError(event.message)
        elif isinstance(event, Stopped):
            raise StudioError("it was stopped before it finished; run it again")
        elif not args.json and isinstance(event, Loading):
            print(event.message, file=sys.stderr)
        elif not args.json and isinstance(event, Step) and event.done == event.total:
            print(f"{event.done} evaluations  {event.seconds:.2f} s", file=sys.stderr)
    return event


def _say(
    args: argparse.Namespace, files: list[Path], warnings: tuple[str, ...], **more: Any
) -> int:
    if args.json:
        print(json.dumps({"files": [str(f) for f in files], "warnings": list(warnings), **more}))
        return 0
    for file in files:
        print(file)
    for name, value in more.items():
        if isinstance(value, int | float | str):
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    for warning in warnings:
        print(f"note: {warning}", file=sys.stderr)
    return 0


def _png(path: Path, pixels: Pixels, settings: Any = None) -> Path:
    from lcm_studio.images.png import write_png

    try:
        return write_png(path, pixels, settings)
    except OSError as error:
        raise BadRequest(
            f"--out {path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error


def _sample(args: argparse.Namespace) -> int:
    """One picture, and the film of it."""
    from lcm_studio.lab import film
    from lcm_studio.lab.export import film_strip, write_film

    consistency = args.sampler == "consistency"
    system = System(
        model=args.model or (BUNDLED_MODEL if consistency else TEACHER),
        sampler=args.sampler,
        evaluations=args.evaluations
        if args.evaluations is not None
        else (4 if consistency else 50),
        settings=parse_settings(args.set),
    )
    frames: list[Frame] = []
    with make_engine(args) as engine:
        request = Film(**_conditions(args), system=system, frames=args.frames if args.film else 0)
        done = _finish(args, film(engine, request), frames)
    out, stem = Path(args.out), f"{args.seed}-{args.sampler}-{system.evaluations}"
    files = [_png(out / f"{stem}.png", done.image, done.settings)]
    if frames:
        files += [
            _png(out / f"{stem}-film.png", film_strip(frames)),
            write_film(out / f"{stem}-film.gif", frames),
        ]
    return _say(
        args, files, done.warnings, evaluations=done.evaluations, seconds=round(done.seconds, 4),
        settings=dict(done.settings),
    )  # fmt: skip


def _compare(args: argparse.Namespace) -> int:
    """A sheet (samplers down, evaluations across), a table and a plot."""
    from lcm_studio.lab import compare
    from lcm_studio.lab.export import plot_quality, results_rows, sheet, write_csv

    samplers = [name.strip() for name in args.samplers.split(",") if name.strip()]
    budgets = _numbers(args.evaluations)
    for name in samplers:
        sampler_info(name)
    cells = [(name, n) for name in samplers for n in budgets]
    systems = tuple(
        System(
            model=args.student if name == "consistency" else args.model,
            sampler=name,
            evaluations=n,
        )
        for name, n in cells
    )
    with make_engine(args) as engine:
        request = Comparison(**_conditions(args), systems=systems, reference=not args.no_reference)
        done = _finish(args, compare(engine, request), [])
    rows = results_rows(done)
    images = iter(done.results)
    grid: list[list[Any]] = [[next(images).image for _ in budgets] for _ in samplers]
    out, stem = Path(args.out), f"{args.seed}-compare"
    heads = [f"{n} evaluations" for n in budgets]
    files = [
        _png(out / f"{stem}.png", sheet(grid, rows_named=samplers, columns_named=heads)),
        write_csv(out / f"{stem}.csv", rows),
    ]
    plot = plot_quality(out / f"{stem}-plot.png", rows, title=args.prompt)
    warnings = tuple(f"{r.label}: {w}" for r in done.results for w in (*r.warnings, r.error) if w)
    return _say(args, [*files, *([plot] if plot else [])], warnings, results=rows)


def _trace(args: argparse.Namespace) -> int:
    """A strip of pictures, the curves and their numbers."""
    from lcm_studio.lab import trace
    from lcm_studio.lab.export import plot_trace, trace_rows, trace_strip, write_csv

    with make_engine(args) as engine:
        request = Trace(
            **_conditions(args), model=args.model, teacher=args.teacher,
            evaluations=args.evaluations, points=args.points,
        )  # fmt: skip
        done = _finish(args, trace(engine, request), [])
    out, stem, rows = Path(args.out), f"{args.seed}-trace", trace_rows(done)
    files = [
        _png(out / f"{stem}.png", trace_strip(done)),
        write_csv(out / f"{stem}.csv", rows),
        plot_trace(out / f"{stem}-plot.png", done),
    ]
    return _say(args, files, (), evaluations=done.evaluations, points=rows)


def _invert(args: argparse.Namespace) -> int:
    """The noise of a picture, what comes back, and by how much it differs."""
    from lcm_studio.lab import invert
    from lcm_studio.lab.export import film_strip

    frames: list[Frame] = []
    args.prompt = args.prompt_flag
    with make_engine(args) as engine:
        image = _picture(args.image, engine, args.model)
        request = Inversion(
            **_conditions(args), image=image, model=args.model, sampler=args.sampler,
            evaluations=args.evaluations, settings=parse_settings(args.set), likelihood=args.likelihood,
        )  # fmt: skip
        done = _finish(args, invert(engine, request), frames)
    out, stem = Path(args.out), f"{Path(args.image).stem}-invert"
    files = [
        _png(out / f"{stem}-noise.png", done.noise),
        _png(out / f"{stem}-back.png", done.image),
    ]
    if frames:
        files.append(_png(out / f"{stem}-film.png", film_strip(frames, most=16)))
    numbers = {name: round(value, 4) for name, value in done.round_trip.items()}
    more = {} if done.bits_per_dim is None else {"bits_per_dim": round(done.bits_per_dim, 4)}
    return _say(
        args, files, done.warnings, evaluations=done.evaluations, noise_std=round(done.noise_std, 4),
        **numbers, **more,
    )  # fmt: skip


def _picture(path: str, engine: Engine, model: str) -> Pixels:
    """The middle of a picture, cut to multiples of the model's. Raises BadRequest where it cannot be read."""
    from lcm_studio.images import read_image

    try:
        pixels = read_image(path)
    except (BadImage, OSError) as error:
        raise BadRequest(f"--image {path}: {error}") from error
    multiple = engine.info(model).multiple
    height, width = (side // multiple * multiple for side in pixels.shape[:2])
    if not height or not width:
        raise BadRequest(f"--image {path}: it must have at least {multiple} x {multiple} pixels")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width, :3]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise BadRequest(
            f"--evaluations {text!r} is no list of whole numbers; use e.g. 4,8,16"
        ) from error
