"""The actions on jobs: the same for the page, the shell and Python. Everything is in the table and the folders."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcm_studio.jobs import keeper
from lcm_studio.jobs.backends.ray import check_address
from lcm_studio.jobs.config import (
    check_alone,
    check_recipe,
    command,
    device_of,
    dump_config,
    load_config,
)
from lcm_studio.jobs.layout import JobFolder, Request
from lcm_studio.jobs.planning import run_recorded, scratch_folder, sweep, writing
from lcm_studio.jobs.records import ACTIVE, Job, JobConflict, NoSuchJob, State
from lcm_studio.jobs.store import JobStore
from lcm_studio.spec.errors import BadRequest

HOME_VARIABLE = "LCM_STUDIO_HOME"
_PLAN_SECONDS = 180


def default_home() -> Path:
    """Where jobs live: $LCM_STUDIO_HOME/jobs, else jobs/ in the user's data folder."""
    if given := os.environ.get(HOME_VARIABLE):
        return Path(given).expanduser() / "jobs"
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "lcm-studio" / "jobs"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the trainer's --dry-run says: `ok`, and its text or, when it refuses, its one sentence."""

    ok: bool
    text: str


class Jobs:
    """All jobs below `home`. `awake=False` leaves starting them to someone else's keeper (tests)."""

    def __init__(self, home: Path | None = None, *, awake: bool = True):
        self.home = Path(home or default_home()).absolute()
        with writing(self.home):
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(self.home)
        self.store = JobStore(keeper.store_path(self.home))
        self.awake = awake

    def folder(self, job_id: str) -> JobFolder:
        """The folder of an existing job; raises NoSuchJob, also for anything that is not an id."""
        return JobFolder(self.home / self.store.get(job_id).id)

    def wake(self) -> None:
        """Starts a keeper when there is something for it to do and none is at work."""
        if self.awake and self.store.list(ACTIVE | {State.QUEUED}):
            keeper.wake(self.home)

    def submit(
        self,
        recipe: str,
        config: Mapping[str, Any],
        *,
        name: str = "",
        backend: str = "local",
        address: str = "",
        owner: str = "",
    ) -> Job:
        """Queues a job; raises BadRequest for what can be told without starting the trainer."""
        check_recipe(recipe)
        check_alone(config)
        if backend not in ("local", "ray"):
            raise BadRequest(f"backend={backend[:40]!r} is none of local, ray")
        address = check_address(address) if backend == "ray" else ""
        folder = self._new_folder()
        job = Job(
            id=folder.path.name,
            name=_clean(name) or recipe,
            recipe=recipe,
            device=device_of(config),
            backend=backend,
            address=address,
            owner=owner,
        )
        try:
            with writing(self.home):
                folder.config.write_text(dump_config(config), encoding="utf-8")
            added = self.store.add(job)
        except BadRequest:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        self.wake()
        return added

    def _new_folder(self) -> JobFolder:
        """The empty folder of a job to be; the folder of a job that has drawn the same id is left alone."""
        while True:
            folder = JobFolder(self.home / _new_id())
            with writing(self.home), contextlib.suppress(FileExistsError):
                folder.create()
                return folder

    def plan(self, recipe: str, config: Mapping[str, Any], *, timed: bool = True) -> Plan:
        """The trainer's own plan for this config (--dry-run): memory, steps, images, disk, time, or why not.

        `timed=False` leaves out the time, which is measured and takes some seconds.
        """
        check_recipe(recipe)
        check_alone(config)
        device_of(config)
        with scratch_folder(self.home) as scratch:
            with writing(self.home):
                scratch.config.write_text(dump_config(config), encoding="utf-8")
            argv = (
                *command(recipe, scratch, resume=False),
                "--dry-run",
                *(() if timed else ("--untimed",)),
            )
            try:
                done = run_recorded(argv, scratch, seconds=_PLAN_SECONDS)
            except subprocess.TimeoutExpired:
                return Plan(
                    ok=False, text=f"the plan took longer than {_PLAN_SECONDS} s; try again"
                )
        if done.returncode == 0:
            text = done.stdout.replace(str(scratch.path), "JOB_FOLDER").strip()
            return self._with_disk(text)
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = lines[-1] if lines else f"the trainer ended with status {done.returncode}"
        return Plan(ok=False, text=said.removeprefix("error: "))

    def _with_disk(self, text: str) -> Plan:
        """A plan beside what is free: the trainer says what it will write, the disk of the runs decides."""
        said = re.search(r"^disk\s+(\d+) MB", text, re.MULTILINE)
        free = shutil.disk_usage(self.home).free // 2**20
        if said and int(said[1]) > free:
            return Plan(
                ok=False,
                text=f"this run writes {said[1]} MB and {free} MB are free in {self.home}; free some space, "
                "keep fewer checkpoints, or set LCM_STUDIO_HOME to a larger disk",
            )
        return Plan(ok=True, text=text)

    def model(self, job_id: str) -> Path:
        """The folder of what a job has made; its model is called as the run, unless its studio.json names it."""
        job = self.store.get(job_id)
        output = JobFolder(self.home / job.id).output
        if job.state is State.SUCCEEDED and (output / "model_index.json").is_file():
            about = output / "studio.json"
            with contextlib.suppress(OSError, ValueError):  # a nicety, and no reason not to open it
                fields = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
                if isinstance(fields, dict) and "name" not in fields:
                    part = about.with_suffix(".part")
                    part.write_text(
                        json.dumps({"name": job.name} | fields, indent=1) + "\n", "utf-8"
                    )
                    part.replace(about)
        return output

    def get(self, job_id: str) -> Job:
        """The job; raises NoSuchJob."""
        return self.store.get(job_id)

    def list(self) -> tuple[Job, ...]:
        """All jobs, oldest first."""
        return self.store.list()

    def stop(self, job_id: str) -> Job:
        """Cancels a queued job at once; asks an active one to save and end."""
        for _ in range(50):  # the keeper may move the job between our look and our change
            job = self.store.get(job_id)
            if job.final or job.state is State.STOPPING:
                break
            if job.state is State.QUEUED:
                moved = self.store.move(job, State.CANCELLED, message="stopped before it began")
            else:
                moved = self.store.move(job, State.STOPPING)
            if moved:
                break
        self.wake()
        job = self.store.get(job_id)
        if not job.final and job.state is not State.STOPPING:
            raise JobConflict(f"job {job.id} keeps changing; try again")
        return job

    def resume(self, job_id: str) -> Job:
        """A further attempt, from the newest valid checkpoint where there is one."""
        job = self.store.requeue(self.store.get(job_id))
        self.wake()
        return job

    def ask(self, job_id: str, request: Request) -> None:
        """Save now, sample now: a request that the running trainer takes up at its next step."""
        job = self.store.get(job_id)
        if job.state not in (State.RUNNING, State.STARTING):
            raise JobConflict(
                f"job {job.id} is {job.state.value}; only a running job can {request}"
            )
        JobFolder(self.home / job.id).ask(request)

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, with its folder: config, checkpoints and output."""
        job = self.store.get(job_id)
        if not job.final:
            raise JobConflict(f"job {job.id} is {job.state.value}; stop it first, then delete it")
        self.store.delete(job)
        shutil.rmtree(self.home / job.id, ignore_errors=True)

    def config(self, job_id: str) -> dict[str, Any]:
        """The config that the job was submitted with."""
        return load_config(self.folder(job_id).config)

    def duplicate(
        self, job_id: str, changes: Mapping[str, Any] | None = None, *, name: str = ""
    ) -> Job:
        """A new job with the config of an old one and top-level `changes` to it."""
        old = self.store.get(job_id)
        config = self.config(job_id) | dict(changes or {})
        return self.submit(
            old.recipe, config, name=name or old.name, backend=old.backend, address=old.address,
            owner=old.owner,
        )  # fmt: skip

    def wait(self, job_id: str, *, seconds: float) -> Job:
        """The job once it has ended, or as it is when `seconds` are over."""
        end = time.monotonic() + seconds
        while not (job := self.store.get(job_id)).final and time.monotonic() < end:
            time.sleep(0.2)
        return job


def _new_id() -> str:
    """A sortable id without meaning to anyone else, e.g. 20300102-030405-9f3a2c."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def _clean(name: str) -> str:
    return " ".join("".join(c for c in name if c.isprintable()).split())[:80]


__all__ = ["BadRequest", "JobConflict", "Jobs", "NoSuchJob", "Plan", "default_home"]
