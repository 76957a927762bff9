"""The page's view of the jobs: which one is shown, what changed since the last look. No Gradio here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.jobs.planning import writing
from lcm_studio.jobs.records import ACTIVE, RESUMABLE, Job, NoSuchJob, State
from lcm_studio.jobs.service import Jobs, default_home
from lcm_studio.spec.errors import StudioError
from lcm_studio.web.distil import views
from lcm_studio.web.server.stops import user_of

if TYPE_CHECKING:
    from lcm_studio.web.studio import Studio

STRANGERS = "Runs are shown to users who sign in: start the studio with --auth."


@lru_cache(maxsize=4)
def _jobs_at(home: Path) -> Jobs:
    return Jobs(home)


def jobs() -> Jobs:
    """The jobs of this user."""
    return _jobs_at(default_home())


def data_home() -> Path:
    """Where uploads and the example scenes are kept, beside the jobs."""
    folder = default_home().parent / "data"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who looks: `user` is signed in (empty where nobody signs in); a stranger on an open address sees no run."""

    user: str = ""
    stranger: bool = False

    def sees(self, job: Job) -> bool:
        """One's own runs, and those of nobody: started in a shell, or where nobody signs in."""
        return not self.stranger and (not job.owner or job.owner == self.user)

    def job(self, job_id: str) -> Job:
        """The job, where it may be seen; else NoSuchJob, as for an id that no job has."""
        job = jobs().get(job_id)
        if not self.sees(job):
            raise NoSuchJob(job_id)
        return job


def viewer_of(studio: Studio, request: Any) -> Viewer:
    """Of Gradio's request, or Starlette's."""
    return Viewer(user=user_of(request), stranger=not studio.options.free_paths)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the page shows of the chosen job."""

    chosen: str | None
    choices: tuple[tuple[str, str], ...]
    head: str
    strip: str
    log: str
    outcome: str
    actions: frozenset[str]
    curves: dict[str, Any] = field(default_factory=dict)

    def marks(self) -> dict[str, str]:
        """A short hash of each part, to send only what changed."""
        parts = {
            "picker": repr((self.chosen, self.choices)), "head": self.head, "strip": self.strip,
            "log": self.log, "outcome": self.outcome, "actions": repr(sorted(self.actions)),
            "curves": json.dumps(self.curves),
        }  # fmt: skip
        return {
            name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in parts.items()
        }


def empty(head: str) -> Look:
    """A board without a run."""
    return Look(
        chosen=None, choices=(), head=head, strip="", log="", outcome="", actions=frozenset()
    )


def look(chosen: str | None, viewer: Viewer, beside: str | None = None) -> Look:
    """The state of `chosen`, or of the newest job where it is none; a sentence where the table cannot be read.

    `beside`: a run whose curves are drawn with it.
    """
    if viewer.stranger:
        return empty(views.plain(STRANGERS))
    try:
        return _look(chosen, viewer, beside)
    except StudioError as error:
        return empty(views.plain(str(error)))
    except OSError as error:  # the timer looks again; an error at every tick would cover the page
        return empty(views.plain(f"The runs cannot be read: {error.strerror or error}."))


def _look(chosen: str | None, viewer: Viewer, beside: str | None) -> Look:
    service = jobs()
    service.wake()
    everybody = service.list()
    every = [job for job in everybody if viewer.sees(job)][::-1]
    options = tuple((views.label(job), job.id) for job in every)
    job = next((job for job in every if job.id == chosen), every[0] if every else None)
    if job is None:
        return empty(views.EMPTY)
    folder = service.folder(job.id)
    second = next((one for one in every if one.id == beside and one is not job), None)
    drawn = [one for one in (job, second) if one is not None]
    ahead = sum(
        other.device == job.device and (other.active or other.queued < job.queued)
        for other in everybody
        if other.id != job.id and not other.final
    )
    return Look(
        chosen=job.id,
        choices=options,
        head=views.head(job, folder, ahead),
        strip=views.strip(job, folder, _prompts(service, job)),
        log=views.log(folder),
        outcome=views.outcome(job, folder),
        actions=possible(job),
        curves=views.curves([(one, service.folder(one.id)) for one in drawn]),
    )


def _prompts(service: Jobs, job: Job) -> list[str]:
    """The validation prompts that a job's config names."""
    try:
        prompts = service.config(job.id).get("validation_prompts")
    except StudioError:  # a damaged config: the log says so
        return []
    return [str(text) for text in prompts] if isinstance(prompts, list) else []


def possible(job: Job) -> frozenset[str]:
    """The buttons that fit the job's state."""
    found = {"duplicate"}
    if job.state in ACTIVE | {State.QUEUED} and job.state is not State.STOPPING:
        found.add("stop")
    if job.state is State.RUNNING:
        found |= {"save", "sample"}
    if job.state in RESUMABLE:
        found.add("resume")
    if job.final:
        found.add("delete")
    if (
        job.state is State.SUCCEEDED
        and (jobs().folder(job.id).output / "model_index.json").is_file()
    ):
        found |= {"open", "compare"}
    return frozenset(found)


def act(action: str, job_id: str, viewer: Viewer) -> tuple[str | None, str]:
    """Carries out a button; (job to show, one sentence)."""
    try:
        service = jobs()
        viewer.job(job_id)
        match action:
            case "stop":
                job = service.stop(job_id)
                word = "is stopped" if job.final else "saves and stops"
                return job_id, f"The run {word}; resume goes on from the last checkpoint."
            case "resume":
                service.resume(job_id)
                return job_id, "The run goes on from its last checkpoint."
            case "save":
                service.ask(job_id, "save")
                return job_id, "A checkpoint is written at the next step."
            case "sample":
                service.ask(job_id, "sample")
                return job_id, "Validation pictures are made at the next step."
            case "delete":
                service.delete(job_id)
                return None, "The run and its folder are deleted."
    except StudioError as error:
        return job_id, str(error)
    return job_id, f"{action} is no action"
