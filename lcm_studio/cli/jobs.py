"""jobs: distillation in the background, from a shell."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcm_studio.jobs.records import Job
    from lcm_studio.jobs.service import Jobs

_Subparsers = argparse._SubParsersAction


def add_parser(sub: _Subparsers[argparse.ArgumentParser]) -> None:
    """Registers the command with its actions."""
    parser = sub.add_parser("jobs", help="queue, watch and steer training jobs")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    submit = _action(actions, "submit", _submit, "queue a job; prints its id", id_=False)
    submit.add_argument(
        "recipe", help="lcd, dmd, lcm-lora, cd, ct, ict, ect, edm, teacher or autoencoder"
    )
    submit.add_argument("--config", type=Path, required=True, metavar="FILE", help="a job.yaml")
    submit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    submit.add_argument("--name", default="", help="a name for the list")
    submit.add_argument(
        "--backend", default="local", choices=("local", "ray", "slurm", "skypilot"),
        help="slurm and skypilot write files for you to submit (default: local)",
    )  # fmt: skip
    submit.add_argument(
        "--address", default="", metavar="URL", help="of Ray, e.g. http://127.0.0.1:8265"
    )
    submit.add_argument(
        "--out", type=Path, metavar="DIR", help="slurm, skypilot: folder of the job"
    )
    submit.add_argument(
        "--nodes", type=int, default=1, help="slurm, skypilot: machines (default: 1)"
    )
    submit.add_argument(
        "--gpus", type=int, default=1, help="slurm, skypilot: GPUs of each (default: 1)"
    )
    submit.add_argument(
        "--hours", type=int, default=24, help="slurm, skypilot: limit (default: 24)"
    )
    submit.add_argument(
        "--no-check", action="store_true", help="queue it without the trainer's --dry-run"
    )
    _action(actions, "list", _list, "all jobs", id_=False)
    _action(actions, "show", _show, "one job: state, progress, folder")
    logs = _action(actions, "logs", _logs, "the end of a job's log")
    logs.add_argument("--follow", action="store_true", help="go on until the job ends")
    logs.add_argument("--lines", type=int, default=40, help="lines to begin with (default: 40)")
    _action(actions, "stop", _stop, "save and stop a job, or take it out of the queue")
    _action(actions, "resume", _resume, "go on from the last checkpoint")
    _action(actions, "sample", _sample, "make validation pictures now")
    _action(actions, "save", _save, "write a checkpoint now")
    _action(actions, "delete", _delete, "forget an ended job with its folder")


def _action(
    actions: _Subparsers[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_: str,
    *,
    id_: bool = True,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_)
    if id_:
        parser.add_argument("id", help="what submit printed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--jobs-dir", type=Path, metavar="DIR", help="where jobs live")
    parser.set_defaults(run=run)
    return parser


def _jobs(args: argparse.Namespace) -> Jobs:
    from lcm_studio.jobs.service import Jobs

    jobs = Jobs(args.jobs_dir)
    jobs.wake()
    return jobs


def describe(jobs: Jobs, job: Job) -> dict[str, Any]:
    """A job with its progress, JSON-serialisable."""
    from lcm_studio.jobs.progress import progress_of

    folder = jobs.folder(job.id)
    said = asdict(job) | {"state": job.state.value, "reason": job.reason.value}
    return said | {"folder": str(folder.path), "progress": asdict(progress_of(folder))}


def _say(args: argparse.Namespace, jobs: Jobs, job: Job, text: str) -> int:
    print(json.dumps(describe(jobs, job)) if args.json else text)
    return 0


def _submit(args: argparse.Namespace) -> int:
    from lcm_studio.jobs.config import check_recipe, dump_config, load_config, rooted, with_settings
    from lcm_studio.spec.errors import BadRequest

    check_recipe(args.recipe)
    config = with_settings(load_config(args.config), args.settings)
    if args.backend in ("slurm", "skypilot"):
        return _write_files(args, dump_config(config))
    jobs = _jobs(args)
    config = rooted(config, Path.cwd(), jobs.home.parent / "cache")
    if not args.no_check:
        plan = jobs.plan(args.recipe, config, timed=False)
        if not plan.ok:
            raise BadRequest(plan.text)
    job = jobs.submit(
        args.recipe, config, name=args.name, backend=args.backend, address=args.address
    )
    return _say(args, jobs, job, job.id)


def _write_files(args: argparse.Namespace, config: str) -> int:
    from lcm_studio.jobs.backends.files import write_skypilot, write_slurm
    from lcm_studio.spec.errors import BadRequest

    if args.out is None:
        raise BadRequest(f"--backend {args.backend} writes files; say where with --out DIR")
    write, how = (
        (write_slurm, "sbatch") if args.backend == "slurm" else (write_skypilot, "sky jobs launch")
    )
    path = write(args.recipe, config, args.out, nodes=args.nodes, gpus=args.gpus, hours=args.hours)
    print(json.dumps({"file": str(path)}) if args.json else f"{how} {path}")
    return 0


def _list(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    found = jobs.list()
    if args.json:
        print(json.dumps({"jobs": [describe(jobs, job) for job in found]}))
        return 0
    for job in found:
        state = f"{job.state.value} ({job.reason.value})" if job.reason.value else job.state.value
        print(f"{job.id}  {state:20} {job.recipe:12} {job.device:8} {job.name}")
    if not found:
        print("no jobs yet; `lcm_studio jobs submit RECIPE --config job.yaml` queues one")
    return 0


def _show(args: argparse.Namespace) -> int:
    from lcm_studio.jobs.progress import progress_of, sentence

    jobs = _jobs(args)
    job = jobs.get(args.id)
    folder = jobs.folder(job.id)
    lines = [
        f"{job.id}  {job.name}  ({job.recipe} on {job.device}, {job.backend}, attempt {job.attempt})",
        f"state:  {job.state.value}" + (f", reason {job.reason.value}" if job.reason.value else ""),
        f"        {job.message}" if job.message else "",
        f"so far: {sentence(progress_of(folder))}",
        f"folder: {folder.path}",
    ]
    return _say(args, jobs, job, "\n".join(line for line in lines if line))


def _logs(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    folder = jobs.folder(args.id)
    if args.json:
        return (
            _say(args, jobs, jobs.get(args.id), "")
            if args.follow
            else _print_log(folder, args.lines)
        )
    print(folder.log_tail(max(1, args.lines)))
    place = folder.log.stat().st_size if folder.log.exists() else 0
    while args.follow:
        over = jobs.get(args.id).final
        if folder.log.exists():
            with folder.log.open("rb") as log:
                log.seek(place)
                text = log.read()
            place += len(text)
            print(text.decode(errors="replace"), end="", flush=True)
        if over:
            break
        time.sleep(0.5)
    return 0


def _print_log(folder: Any, lines: int) -> int:
    print(json.dumps({"log": folder.log_tail(max(1, lines)).splitlines()}))
    return 0


def _stop(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    job = jobs.stop(args.id)
    return _say(args, jobs, job, f"{job.id} is {job.state.value}")


def _resume(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    job = jobs.resume(args.id)
    return _say(args, jobs, job, f"{job.id} is {job.state.value}, attempt {job.attempt}")


def _ask(args: argparse.Namespace, request: Any) -> int:
    jobs = _jobs(args)
    jobs.ask(args.id, request)
    return _say(args, jobs, jobs.get(args.id), f"{args.id} will {request} at its next step")


def _sample(args: argparse.Namespace) -> int:
    return _ask(args, "sample")


def _save(args: argparse.Namespace) -> int:
    return _ask(args, "save")


def _delete(args: argparse.Namespace) -> int:
    _jobs(args).delete(args.id)
    print(json.dumps({"deleted": args.id}) if args.json else f"{args.id} is deleted")
    return 0
