"""Ray Jobs over its REST interface; nothing of Ray is imported, so the studio needs no Ray of its own.

The cluster shares this machine's file system (the job's folder is where samples and checkpoints go) and its
Python. Ray runs an entry point once and forgets it with the cluster: retry and resume stay ours.
"""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from lcm_studio.jobs.backends import BackendError, Exit
from lcm_studio.jobs.config import environment, project_root
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import Job
from lcm_studio.jobs.store import JobStore
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.ray import ray_token

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_STOP_SECONDS = 30
_TIMEOUT = 15.0
_SUBMITS = 20
_LEAVE_OUT = {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "CUDA_VISIBLE_DEVICES"}


def check_address(address: str) -> str:
    """An http(s) address of a Ray dashboard without a path; raises BadRequest."""
    found = urllib.parse.urlsplit(address or DEFAULT_ADDRESS)
    if found.scheme not in ("http", "https") or not found.hostname or found.path.strip("/"):
        raise BadRequest(f"--address {address[:80]!r} is not like {DEFAULT_ADDRESS}")
    return f"{found.scheme}://{found.netloc}"


@dataclass
class RayBackend:
    """Submits, asks and stops by HTTP; the submission id is the job's `reference`."""

    def start(self, store: JobStore, job: Job, folder: JobFolder, argv: tuple[str, ...]) -> bool:
        """The id is written down before it is submitted, so that no submission is without a record."""
        reference = f"{job.id}-{job.attempt}"
        if not store.refer(job, reference):
            return False
        entrypoint = f"exec {shlex.join(argv)} >> {shlex.quote(str(folder.log))} 2>&1"
        passed = {k: v for k, v in environment().items() if k not in _LEAVE_OUT}
        passed["RAY_JOB_STOP_WAIT_TIME_S"] = str(_STOP_SECONDS)
        self._submit(
            job,
            {
                "entrypoint": entrypoint,
                "submission_id": reference,
                "runtime_env": {"env_vars": passed | {"PYTHONPATH": str(project_root())}},
                "metadata": {"name": job.name[:200], "lcm_studio_job": job.id},
            },
        )
        return True

    def _submit(self, job: Job, body: dict[str, Any]) -> None:
        """A head that has just come up refuses for some seconds, until its agent is there."""
        for left in reversed(range(_SUBMITS)):
            try:
                self._call(job, "POST", "/api/jobs/", body)
                return
            except BackendError as error:
                if "try again" not in str(error) or not left:
                    raise
                time.sleep(2)

    def poll(self, job: Job) -> Exit | None:
        """None while Ray says pending or running."""
        try:
            found = self._call(job, "GET", f"/api/jobs/{job.reference}")
        except _Missing:
            return Exit(code=None, message="the Ray cluster does not know this job any more")
        message = str(found.get("message") or "")
        match found.get("status"):
            case "SUCCEEDED":
                return Exit(code=0)
            case "FAILED":
                code = found.get("driver_exit_code")
                return Exit(code=code if isinstance(code, int) else 1, message=message)
            case "STOPPED":
                return Exit(code=-15, message=message)
        return None

    def stop(self, job: Job, *, firm: bool) -> None:
        """Ray sends SIGTERM, waits 30 s and sends SIGKILL by itself."""
        try:
            self._call(job, "POST", f"/api/jobs/{job.reference}/stop")
        except _Missing:
            return

    @staticmethod
    def _call(job: Job, method: str, path: str, body: Any = None) -> dict[str, Any]:
        url = check_address(job.address) + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if secret := ray_token():
            request.add_unredirected_header("Authorization", f"Bearer {secret}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                found = json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise _Missing(f"Ray at {job.address} has no job {job.reference}") from None
            if error.code in (401, 403):
                raise BackendError(
                    f"Ray at {job.address} wants its token; set RAY_AUTH_TOKEN to it, or RAY_AUTH_TOKEN_PATH to a file that holds it"
                ) from None
            detail = error.read(500).decode(errors="replace").splitlines()[-1:]
            raise BackendError(f"Ray at {job.address} refused: {error.code} {detail}") from None
        except (OSError, ValueError) as error:
            raise BackendError(
                f"Ray at {job.address} cannot be reached ({error}); is `ray start --head` running?"
            ) from None
        return found if isinstance(found, dict) else {}


class _Missing(BackendError):
    """Ray answers, and has no such job."""
