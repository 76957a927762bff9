"""edit: the tools of the Edit tab, for one picture or a folder of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lcm_studio.cli.common import (
    add_sampling_arguments,
    engine_for,
    execute,
    report,
    sampling,
    save_all,
)
from lcm_studio.cli.flags import add_flags, typed
from lcm_studio.cli.steering import add_steering_arguments, steering_of
from lcm_studio.edits.tasks import TASKS, task_of
from lcm_studio.spec.errors import BadImage, BadRequest, StudioError
from lcm_studio.spec.schema import settings_of

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.engine.remote.client import RemoteEngine
    from lcm_studio.spec.requests import Edit, Pixels

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers `edit TASK` for every task, with a flag for each of its settings."""
    top = sub.add_parser("edit", help="edit a picture, keeping its known part exactly")
    tasks = top.add_subparsers(dest="task", required=True, metavar="TASK")
    for task in TASKS.values():
        parser = tasks.add_parser(task.name, help=task.help)
        second = "image_b" in task.takes
        parser.add_argument(
            "--image", required=not second, metavar="FILE|FOLDER", help="the picture"
        )
        if second:
            parser.add_argument("--image-b", metavar="FILE", help="the last picture")
            parser.add_argument("--video", action="append", default=[], metavar="FILE.mp4|.gif")
        if "mask" in (*task.takes, *task.needs):
            parser.add_argument("--mask", metavar="FILE", help="white = may change")
        parser.add_argument("--prompt", default="", help="what it should show")
        add_flags(parser, task.settings)
        if task.name == "inpaint":  # with borders it is Widen
            parser.add_argument("--borders", metavar="L,T,R,B", help="pixels to add on each side")
        add_steering_arguments(parser, edits=True)
        add_sampling_arguments(parser)
        parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Edits one picture, or every picture of a folder; bad files are named at the end (exit code 1)."""
    folder = args.image is not None and Path(args.image).is_dir()
    with engine_for(args) as engine:
        if not folder:
            _one(args, engine, args.image, args.out)
            return 0
        return _many(args, engine, Path(args.image))


def _many(args: argparse.Namespace, engine: Engine | RemoteEngine, folder: Path) -> int:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    if not files:
        raise BadRequest(f"{folder} holds no pictures; put {', '.join(PICTURES)} files into it")
    if Path(args.out).suffix.lower() == ".png":
        raise BadRequest(f"--out {args.out} is one file, but {folder} is a folder; give a folder")
    failed: list[str] = []
    for number, file in enumerate(files, start=1):
        print(f"{number}/{len(files)}  {file.name}", file=sys.stderr)
        target = Path(args.out) / (
            file.stem if (args.count or 1) > 1 or args.task == "interpolate" else f"{file.stem}.png"
        )
        try:
            _one(args, engine, str(file), str(target))
        except StudioError as error:
            said = str(error)
            failed.append(said if said.startswith(file.name) else f"{file.name}: {said}")
    for line in failed:
        print(f"not edited: {line}", file=sys.stderr)
    return 1 if failed else 0


def _one(
    args: argparse.Namespace, engine: Engine | RemoteEngine, image: str | None, out: str
) -> None:
    from lcm_studio.edits.video import check_name, write_video
    from lcm_studio.engine.likeness import words_on

    videos = [Path(video) for video in getattr(args, "video", [])]
    for video in videos:
        check_name(video)
    request = make_request(args, engine, image)
    done = execute(engine, request, progress=not args.json)
    paths = save_all(done, out)
    paths += [write_video(video, done.images, settings=done.settings) for video in videos]
    fidelity = {k: round(v, 4) if isinstance(v, float) else v for k, v in done.fidelity.items()}
    note = words_on(engine, done.images[0], request.model)
    report(args, done, paths, fidelity=fidelity | ({"note": note} if note else {}))
    if not args.json:
        print("  ".join(f"{k} {v}" for k, v in fidelity.items()), file=sys.stderr)
        if note:
            print(f"note: {note}", file=sys.stderr)


def make_request(
    args: argparse.Namespace, engine: Engine | RemoteEngine, image: str | None
) -> Edit:
    """The Edit request of the arguments. Raises BadRequest or BadImage with one sentence."""
    import numpy as np

    from lcm_studio.spec.requests import Edit

    name = args.task
    if name == "inpaint" and args.borders is not None:
        name = "outpaint"
    options = typed(args, settings_of(task_of(name).settings))
    if image is None:
        if options.get("kind", "pictures") == "pictures":
            raise BadRequest("interpolate needs --image and --image-b, or --kind prompts or seeds")
        info = engine.info(args.model)
        pixels: Pixels = np.zeros((info.height, info.width, 3), np.uint8)
    else:
        pixels = _read(image)
    return Edit(
        task=name,
        image=pixels,
        image_b=_read(args.image_b) if getattr(args, "image_b", None) else None,
        mask=_grey(_read(args.mask)) if getattr(args, "mask", None) else None,
        options=options,
        prompt=args.prompt,
        **steering_of(args, edits=True),
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
