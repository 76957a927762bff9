"""One run from the shell: config, recipe, trainer, and a result that says how it ended."""

from __future__ import annotations

import argparse
import errno
import sys
from typing import TYPE_CHECKING

from training.config import merge, preset, read_yaml
from training.errors import TrainingFault
from training.events import write_result
from training.recipes import find

if TYPE_CHECKING:
    import torch


def run(args: argparse.Namespace) -> int:
    """What `python -m training` does after reading its arguments."""
    from pydantic import ValidationError

    recipe_class = find(args.recipe)
    try:
        start = preset(args.recipe, args.preset) if args.preset else {}
        fields = merge(start | (read_yaml(args.config) if args.config else {}), args.sets)
        config = recipe_class.Config(**fields)
    except (ValidationError, ValueError, OSError) as error:
        print(f"bad config: {one_sentence(error)}", file=sys.stderr)
        return 2
    if args.dry_run:
        from training.plan import plan

        try:
            print(plan(args.recipe, config))
        except TrainingFault as fault:
            print(f"{fault.reason}: {fault}", file=sys.stderr)
            return 2
        return 0
    import torch

    from training.ranks import join, leave
    from training.trainer import Trainer

    device = device_of(config.device)
    ranks = join(device)
    trainer = Trainer(recipe_class(config, device), args.output, ranks=ranks)
    try:
        trainer.prepare()
        resumed = (args.resume or args.export) and trainer.resume()
        if args.export and not resumed:
            return _failed(args, "missing_weights", f"{args.output} holds no valid checkpoint")
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
        leave()
    if ranks.main and not args.export:
        write_result(args.output, "succeeded" if finished else "stopped")
    return 0


def device_of(name: str) -> torch.device:
    """The device of a config; cuda is the GPU of this rank, auto too where there is one."""
    import os

    import torch

    if name not in ("auto", "cuda"):
        return torch.device(name)
    if name == "cuda" or torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


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
    return "; ".join(faults) + "; see docs/distillation.md for the fields"


def _failed(args: argparse.Namespace, reason: str, message: str) -> int:
    write_result(args.output, "failed", reason=reason, message=message)
    print(f"{reason}: {message}", file=sys.stderr)
    return 1
