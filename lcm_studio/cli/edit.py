"""edit: the tools of the Edit tab, for one picture or a folder of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.cli.common import (
    add_sampling_arguments,
    execute,
    make_engine,
    report,
    sampling,
    save_all,
)
from lcm_studio.spec.errors import BadImage, BadRequest, StudioError

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.spec.requests import Edit, Pixels

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
HELP = {
    "inpaint": "repaint where a mask is white",
    "outpaint": "widen the picture",
    "colorize": "new colours for its luma",
    "superres": "enlarge it",
    "denoise": "remove white noise",
    "deblur": "undo a known blur",
    "sketch": "strokes to a picture",
    "interpolate": "frames between two pictures",
}


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers `edit TASK`."""
    top = sub.add_parser("edit", help="edit a picture, keeping its known part exactly")
    tasks = top.add_subparsers(dest="task", required=True, metavar="TASK")
    for task, text in HELP.items():
        parser = tasks.add_parser(task, help=text)
        parser.add_argument(
            "--image", required=task != "interpolate", metavar="FILE|FOLDER", help="the picture"
        )
        parser.add_argument("--prompt", default="", help="what it should show")
        _own_arguments(parser, task)
        parser.add_argument("--levels", metavar="S,S,...", help="falling noise levels (sigma)")
        parser.add_argument(
            "--method",
            help="residual, once, plain, latent, end; replace: with any sampler, for masks",
        )
        parser.add_argument("--eta", type=float, help="share of fresh noise at each level, 0 to 1")
        parser.add_argument(
            "--noise-scale", type=float, help="noise put in, of what a level is told, 0.1 to 1"
        )
        parser.add_argument(
            "--emphasis", type=float, help="extra weight of the prompt at the first level, 0 to 3"
        )
        add_sampling_arguments(parser)
        parser.set_defaults(run=run)


RELAX: tuple[str, dict[str, Any]] = (
    "--relax",
    {"metavar": "R,R,...", "help": "how much farther the estimate of each level goes, 0 to 1"},
)


def _own_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    if task in ("inpaint", "outpaint", "sketch", "superres"):
        parser.add_argument("--mask", required=False, metavar="FILE", help="white = may change")
    if task in ("inpaint", "outpaint", "sketch"):
        parser.add_argument("--grow", type=int, help="pixels to widen the mask by")
        parser.add_argument("--feather", type=int, help="pixels of soft edge inside the mask")
        parser.add_argument("--context", type=float, help="surroundings to look at (0.5 = half)")
        parser.add_argument("--blend", help="poisson, colour or none")
        parser.add_argument("--invert", action="store_true", default=None, help="swap the mask")
    if task in ("inpaint", "outpaint"):
        parser.add_argument("--borders", metavar="L,T,R,B", help="pixels to add on each side")
    own: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
        "colorize": (RELAX,),
        "superres": (
            ("--scale", {"type": int, "help": "2 to 8 (default: 4)"}),
            ("--operator", {"metavar": "area|bicubic|blur:SIGMA", "help": "how it was shrunk"}),
            RELAX,
        ),
        "denoise": (("--sigma", {"help": "noise for pixels in [0, 1], or auto"}), RELAX),
        "deblur": (("--kernel", {"metavar": "gaussian:SIGMA|motion:LENGTH,ANGLE"}), RELAX),
        "sketch": (("--strength", {"type": float, "help": "0 to 1 (default: 0.6)"}),),
        "interpolate": (
            ("--image-b", {"metavar": "FILE", "help": "the last picture"}),
            ("--frames", {"type": int, "help": "with both ends (default: 9)"}),
            ("--path", {"help": "slerp or linear"}),
            ("--kind", {"help": "pictures, prompts or seeds"}),
            ("--prompt-b", {"help": "the last frame's prompt"}),
            ("--seed-b", {"type": int, "help": "the last frame's seed"}),
            ("--strength", {"type": float, "help": "how far it leaves the pictures, 0 to 1"}),
            ("--video", {"action": "append", "default": [], "metavar": "FILE.mp4|.gif"}),
        ),
    }
    for flag, settings in own.get(task, ()):
        parser.add_argument(flag, **settings)


OPTIONS = (
    *(
        "levels",
        "method",
        "eta",
        "noise_scale",
        "emphasis",
        "relax",
        "grow",
        "feather",
        "context",
        "blend",
        "invert",
        "borders",
    ),
    *(
        "scale",
        "operator",
        "sigma",
        "kernel",
        "strength",
        "frames",
        "path",
        "kind",
        "prompt_b",
        "seed_b",
    ),
)


def run(args: argparse.Namespace) -> int:
    """Edits one picture, or every picture of a folder; bad files are named at the end (exit code 1)."""
    folder = args.image is not None and Path(args.image).is_dir()
    with make_engine(args) as engine:
        if not folder:
            _one(args, engine, args.image, args.out)
            return 0
        return _many(args, engine, Path(args.image))


def _many(args: argparse.Namespace, engine: Engine, folder: Path) -> int:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    if not files:
        raise BadRequest(f"{folder} holds no pictures; put {', '.join(PICTURES)} files into it")
    if Path(args.out).suffix.lower() == ".png":
        raise BadRequest(f"--out {args.out} is one file, but {folder} is a folder; give a folder")
    failed: list[str] = []
    for number, file in enumerate(files, start=1):
        print(f"{number}/{len(files)}  {file.name}", file=sys.stderr)
        target = Path(args.out) / (
            file.stem if args.count > 1 or args.task == "interpolate" else f"{file.stem}.png"
        )
        try:
            _one(args, engine, str(file), str(target))
        except StudioError as error:
            said = str(error)
            failed.append(said if said.startswith(file.name) else f"{file.name}: {said}")
    for line in failed:
        print(f"not edited: {line}", file=sys.stderr)
    return 1 if failed else 0


def _one(args: argparse.Namespace, engine: Engine, image: str | None, out: str) -> None:
    from lcm_studio.edits.video import check_name, write_video

    videos = [Path(video) for video in getattr(args, "video", [])]
    for video in videos:
        check_name(video)
    request = make_request(args, engine, image)
    done = execute(engine, request, progress=not args.json)
    paths = save_all(done, out)
    paths += [write_video(video, done.images) for video in videos]
    fidelity = {k: round(v, 4) if isinstance(v, float) else v for k, v in done.fidelity.items()}
    report(args, done, paths, fidelity=fidelity)
    if not args.json:
        print("  ".join(f"{k} {v}" for k, v in fidelity.items()), file=sys.stderr)


def make_request(args: argparse.Namespace, engine: Engine, image: str | None) -> Edit:
    """The Edit request of the arguments. Raises BadRequest or BadImage with one sentence."""
    import numpy as np

    from lcm_studio.spec.requests import Edit

    task = args.task
    options = {n: getattr(args, n) for n in OPTIONS if getattr(args, n, None) is not None}
    for name in ("levels", "borders", "relax"):
        if name in options:
            options[name] = tuple(part.strip() for part in str(options[name]).split(","))
    if task == "inpaint" and "borders" in options:
        task = "outpaint"
    if image is None:
        if options.get("kind", "pictures") == "pictures":
            raise BadRequest("interpolate needs --image and --image-b, or --kind prompts or seeds")
        info = engine.info(args.model)
        pixels: Pixels = np.zeros((info.height, info.width, 3), np.uint8)
    else:
        pixels = _read(image)
    return Edit(
        task=task,
        image=pixels,
        image_b=_read(args.image_b) if getattr(args, "image_b", None) else None,
        mask=_grey(_read(args.mask)) if getattr(args, "mask", None) else None,
        options=options,
        prompt=args.prompt,
        **sampling(args, engine),
    )


def _read(path: str) -> Pixels:
    from lcm_studio.images import read_image

    try:
        return read_image(path, alpha="keep")
    except BadImage as error:  # of the two or three files of an edit, which one
        name = Path(path).name
        raise BadImage(str(error) if name in str(error) else f"{name}: {error}") from error


def _grey(pixels: Pixels) -> Pixels:
    """A mask of any picture: its brightest channel, transparent parts black."""
    import numpy as np

    if pixels.ndim == 2:
        return pixels
    grey: Pixels = pixels[..., :3].max(axis=2)
    if pixels.shape[2] == 4:
        grey = np.where(pixels[..., 3] > 127, grey, 0).astype(np.uint8)
    return grey
