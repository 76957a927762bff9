"""Students of latent distillation: from their teacher, or from an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from training.errors import TrainingFault
from training.networks import open_network


def student_of(teacher: Any, time_cond_proj_dim: int) -> Any:
    """A copy of the teacher with a w projection of zeros: equal to it at step 0, whatever w."""
    from diffusers import UNet2DConditionModel

    fields = dict(teacher.config)
    fields["time_cond_proj_dim"] = time_cond_proj_dim
    student = UNet2DConditionModel.from_config(fields)
    lacking, extra = student.load_state_dict(teacher.state_dict(), strict=False)
    if extra or [name for name in lacking if "cond_proj" not in name]:
        raise TrainingFault("config", f"the teacher does not fit a student: {lacking} {extra}")
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def continued(root: Path, student: Any) -> Any:
    """`student` with the weights of the UNet in the pipeline folder `root`.

    Raises TrainingFault: reason `missing_weights` where there is none, `config` where its network is
    another one than the teacher's with this `time_cond_proj_dim`.
    """
    if not (root / "unet" / "config.json").is_file():
        raise TrainingFault(
            "missing_weights",
            f"start_from={str(root)!r} holds no unet; give the output of an lcd run",
        )
    old = open_network(root / "unet", "UNet2DConditionModel")
    theirs = {name: tuple(value.shape) for name, value in old.state_dict().items()}
    ours = {name: tuple(value.shape) for name, value in student.state_dict().items()}
    other = sorted(
        name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)
    )
    if other:
        raise TrainingFault(
            "config",
            f"start_from={str(root)!r}: {other[0]} is {theirs.get(other[0])} there and "
            f"{ours.get(other[0])} here; give a student of this teacher with the same "
            "time_cond_proj_dim",
        )
    student.load_state_dict(old.state_dict())
    return student
