"""One run from the shell: config, recipe, trainer, and a result that says how it ended."""

from __future__ import annotations

import argparse
import errno
import sys

from lcm_studio.jobs.config import load_config, merged, with_settings
from lcm_studio.spec.errors import StudioError
from training.config import preset
from training.errors import TrainingFault
from training.progress.events import write_result
from training.recipes import find


def run(args: argparse.Namespace) -> int:
    """What `python -m training` does after reading its arguments."""
    from pydantic import ValidationError

    recipe_class = find(args.recipe)
    try:
        fields = preset(args.recipe, args.preset) if args.preset else {}
        if args.config:
            fields = merged(fields, load_config(args.config))
        config = recipe_class.Config(**with_settings(fields, args.sets))
    except (ValidationError, ValueError, StudioError) as error:
        print(f"bad config: {one_sentence(error)}", file=sys.stderr)
        return 2
    there = sorted((args.output / "checkpoints").glob("step-*"))
    if there and not (args.resume or args.export or args.dry_run):
        print(
            f"{args.output} holds a run already, up to {there[-1].name}; go on with --resume, or give "
            "another --output",
            file=sys.stderr,
        )
        return 2
    if args.dry_run:
        from training.plan import plan

        try:
            print(plan(args.recipe, config, args.output, timed=not args.untimed, age=_age()))
        except TrainingFault as fault:
            print(f"{fault.reason}: {fault}", file=sys.stderr)
            return 2
        return 0
    import torch

    from training.accelerator import open_accelerator
    from training.loop import Trainer

    accelerator = None
    try:
        accelerator = open_accelerator(config)
        recipe = recipe_class(config, accelerator.device)
        trainer = Trainer(recipe, args.output, accelerator=accelerator)
        trainer.prepare()
        resumed = (args.resume or args.export) and trainer.resume()
        if args.export and not resumed:
            return _failed(args, "missing_weights", f"{args.output} holds no checkpoint")
        finished = args.export or trainer.run()
        if finished:
            trainer.export()
    except TrainingFault as fault:
        return _failed(args, fault.reason, str(fault))
    except (MemoryError, torch.OutOfMemoryError) as error:
        return _failed(args, "oom", f"{error}; use a smaller batch_size or gradient_checkpointing")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _failed(args, "disk", f"{error}; free some space and start again with --resume")
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        return _failed(args, "oom", "memory ran out; use a smaller batch_size or resolution")
    finally:
        if accelerator is not None:
            accelerator.end_training()
    if accelerator.is_main_process and not args.export:
        write_result(args.output, "succeeded" if finished else "stopped")
    return 0


def _age() -> float:
    """Seconds since this process began."""
    import time

    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())


def one_sentence(error: Exception) -> str:
    """Which field, what it was, and what is allowed."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    faults = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "value_error":  # of several fields together, which the sentence names
            faults.append(
                f"{name}: {fault['ctx']['error']}" if name else str(fault["ctx"]["error"])
            )
            continue
        given = "" if fault["type"] == "extra_forbidden" else f"={str(fault['input'])[:60]!r}"
        what = "there is no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{name}{given}: {what}")
    return "; ".join(faults) + "; see docs/guide/distillation.md for the fields"


def _failed(args: argparse.Namespace, reason: str, message: str) -> int:
    write_result(args.output, "failed", reason=reason, message=message)
    print(f"{reason}: {message}", file=sys.stderr)
    return 1
