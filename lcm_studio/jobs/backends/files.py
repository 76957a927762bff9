"""Files for schedulers that the user submits to: a Slurm batch script, a SkyPilot task.

The scheduler there queues and restarts; the studio opens the output folder afterwards.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from lcm_studio.jobs.config import check_recipe, project_root
from lcm_studio.spec.errors import BadRequest

_SLURM = """#!/bin/bash
#SBATCH --job-name=lcm-studio-{recipe}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task=8
#SBATCH --time={hours}:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output={log}
# Slurm sends TERM two minutes before the time limit: the trainer saves and exits, and a requeued job resumes.
set -eu
cd {root}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
resume=$(ls -A {checkpoints} 2>/dev/null | grep -q . && echo --resume || true)
srun torchrun --nnodes={nodes} --nproc_per_node={processes} \\
    --rdzv_backend=c10d --rdzv_endpoint="$head:29500" --rdzv_id="$SLURM_JOB_ID" \\
    -m training {recipe} --config {config} --output {folder} $resume &
trainer=$!
trap 'kill -TERM "$trainer"' TERM
wait "$trainer" || wait "$trainer"
"""


def _check(nodes: int, gpus: int, hours: int) -> None:
    limits = (("nodes", nodes, 1, 512), ("gpus", gpus, 0, 16), ("hours", hours, 1, 720))
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise BadRequest(f"{name}={value} is outside {low} to {high}")


def write_slurm(
    recipe: str, config: str, folder: Path, *, nodes: int = 1, gpus: int = 1, hours: int = 24
) -> Path:
    """Writes `job.yaml` and `job.sbatch` into `folder`; for `sbatch job.sbatch`."""
    check_recipe(recipe)
    _check(nodes, gpus, hours)
    folder = _new_folder(folder, config)
    text = _SLURM.format(
        recipe=recipe,
        nodes=nodes,
        gpus=gpus,
        processes=max(gpus, 1),
        hours=hours,
        log=_slurm_path(folder / "log.txt"),
        root=shlex.quote(str(project_root())),
        checkpoints=shlex.quote(str(folder / "checkpoints")),
        config=shlex.quote(str(folder / "job.yaml")),
        folder=shlex.quote(str(folder)),
    )
    path = folder / "job.sbatch"
    path.write_text(text, encoding="utf-8")
    return path


def write_skypilot(
    recipe: str, config: str, folder: Path, *, nodes: int = 1, gpus: int = 1, hours: int = 24
) -> Path:
    """Writes `job.yaml` and `sky.yaml` into `folder`; for `sky jobs launch sky.yaml`."""
    check_recipe(recipe)
    _check(nodes, gpus, hours)
    folder = _new_folder(folder, config)
    run = (
        'head=$(echo "$SKYPILOT_NODE_IPS" | head -n1)\n'
        f"torchrun --nnodes={nodes} --nproc_per_node={max(gpus, 1)} "
        '--node_rank="$SKYPILOT_NODE_RANK" --master_addr="$head" --master_port=29500 '
        f"-m training {recipe} --config ~/job.yaml --output ~/job "
        "$(ls -A ~/job/checkpoints 2>/dev/null | grep -q . && echo --resume || true)\n"
    )
    task = {
        "name": f"lcm-studio-{recipe}",
        "num_nodes": nodes,
        "resources": {"accelerators": {"H100": gpus}} if gpus else {"cpus": "8+"},
        "workdir": str(project_root()),
        "file_mounts": {"~/job.yaml": str(folder / "job.yaml")},
        "setup": "python -m pip install -r requirements.txt",
        "run": f"timeout --signal=TERM --kill-after=120 {hours}h bash -c {shlex.quote(run)}\n",
    }
    path = folder / "sky.yaml"
    path.write_text(yaml.safe_dump(task, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _new_folder(folder: Path, config: str) -> Path:
    folder = folder.expanduser().absolute()
    if folder.exists() and any(folder.iterdir()):
        raise BadRequest(f"{folder} is not empty; choose a new folder for the job")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "job.yaml").write_text(config, encoding="utf-8")
    return folder


def _slurm_path(path: Path) -> str:
    """#SBATCH lines know no quotes: a path with white space or % cannot be written there."""
    text = str(path)
    if any(c.isspace() or c in "%\"'\\" for c in text):
        raise BadRequest(
            f"Slurm takes no spaces or quotes in paths; use another folder than {path}"
        )
    return text
