"""Students of latent distillation that are told w: from their teacher, or from an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from lcm_studio.maths.guidance import guidance_embedding
from training.errors import TrainingFault
from training.networks import open_network
from training.objectives.latent import Consistency
from training.recipes.distillation import Distillation, DistillationConfig


def part(prefix: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of a batch whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}


class StudentConfig(DistillationConfig):
    """Fields of the recipes whose student is told w."""

    start_from: str = Field(
        "",
        description="folder of a student of lcd or dmd to go on from, a diffusers pipeline; "
        "empty: from the teacher's weights",
    )
    time_cond_proj_dim: int = Field(256, ge=8, description="width of the embedding of w")


class Students(Distillation):
    """A student told w, its pictures and its folder."""

    config: Any
    student: Any

    def open_student(self) -> Any:
        """The student at step 0, where it will compute; `teacher` is open."""
        student = student_of(self.teacher, self.config.time_cond_proj_dim)
        if self.config.start_from:
            student = continued(Path(self.config.start_from), student)
        return self.placed(student)

    def f(self, unet: Any, batch: dict[str, Tensor]) -> Consistency:
        """The consistency function of a student."""
        return self.consistency(unet, batch, timestep_cond=self.embedded(batch))

    def embedded(self, batch: dict[str, Tensor]) -> Tensor:
        """The embedding of w that the student takes."""
        return guidance_embedding(batch["w"], self.config.time_cond_proj_dim)

    def pipeline(self) -> Any:
        """The model as it is now."""
        return self.make_pipeline(self.student, guided=True)

    def validate(self, folder: Path, step: int) -> dict[str, float]:
        where = folder / f"step-{step:06d}.png"
        self.draw_sheet(self.pipeline(), where, self.config.validation_guidance)
        return {}

    def export(self, folder: Path) -> None:
        """A LatentConsistencyModelPipeline folder (SDXL: its pipeline) in float16."""
        from training.export import inherit, save_pipeline

        save_pipeline(self.pipeline(), folder)
        scales = (self.config.w_min + 1, self.config.w_max + 1)
        inherit(Path(self.config.teacher), folder, scales=scales, own=self.sampler())

    def sampler(self) -> dict[str, Any]:
        """What studio.json says of the sampler that the student was trained for; nothing where it is the stock one."""
        return {}


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
            f"start_from={str(root)!r} holds no unet; give the output of an lcd or dmd run",
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
