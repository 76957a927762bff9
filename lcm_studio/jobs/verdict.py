"""How a job ended: from what the trainer said, else from how its process went, else from its log."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from lcm_studio.jobs.backends import Exit
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import REMEDIES, Job, Reason, State

_SIGNS = (
    (Reason.OOM, ("OutOfMemoryError", "MemoryError", "can't allocate memory", "out of memory")),
    (Reason.DISK, ("No space left on device", "Disk quota exceeded", "database or disk is full")),
)
_FROM_OUTSIDE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The final state of an attempt, with one sentence for the user."""

    state: State
    reason: Reason = Reason.NONE
    message: str = ""


def judge(job: Job, folder: JobFolder, exit_: Exit, *, ran_out_of_memory: bool = False) -> Verdict:
    """The verdict on a job whose process is gone. `ran_out_of_memory`: the kernel's killer was at work."""
    said = folder.read_result()
    if said is not None:
        message = str(said.get("message") or "")
        match said.get("state"):
            case "succeeded":
                return Verdict(state=State.SUCCEEDED, message=message)
            case "failed":
                reason = _reason(said.get("reason"))
                return Verdict(state=State.FAILED, reason=reason, message=_advise(message, reason))
            case "stopped":
                if job.state is State.STOPPING:
                    return Verdict(state=State.CANCELLED, message=message or _resumable(folder))
                return Verdict(state=State.INTERRUPTED, message=message or _resumable(folder))
    if job.state is State.STOPPING:
        return Verdict(state=State.CANCELLED, message=_resumable(folder))
    if exit_.code is None:
        message = exit_.message or "its process is gone without a word, as after a power cut"
        return Verdict(state=State.INTERRUPTED, message=f"{message}; {_resumable(folder)}")
    if exit_.code < 0 and -exit_.code in {int(number) for number in _FROM_OUTSIDE}:
        if ran_out_of_memory:
            return _failed(Reason.OOM, "the system ended it because memory ran out")
        name = signal.Signals(-exit_.code).name
        message = f"its process was ended from outside by {name}; {_resumable(folder)}"
        return Verdict(state=State.INTERRUPTED, message=message)
    if exit_.code == 0 and (folder.output / "model_index.json").is_file():
        return Verdict(state=State.SUCCEEDED)
    return _from_log(folder, exit_)


def _from_log(folder: JobFolder, exit_: Exit) -> Verdict:
    tail = folder.log_tail(60)
    for reason, signs in _SIGNS:
        if any(sign in tail for sign in signs):
            return _failed(reason, tail.splitlines()[-1])
    if exit_.code == 2:
        said = next((line for line in reversed(tail.splitlines()) if "bad config" in line), "")
        return _failed(Reason.CONFIG, said or "its config was refused")
    last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
    return _failed(Reason.CRASH, last or exit_.message or f"it ended with exit status {exit_.code}")


def _failed(reason: Reason, message: str) -> Verdict:
    return Verdict(state=State.FAILED, reason=reason, message=_advise(message, reason))


def _advise(message: str, reason: Reason) -> str:
    remedy = REMEDIES.get(reason, "")
    text = message.strip().rstrip(".") or reason.value
    return text if not remedy or ";" in text else f"{text}; {remedy}"


def _reason(value: object) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        return Reason.CRASH


def _resumable(folder: JobFolder) -> str:
    if folder.has_checkpoint():
        return "resume goes on from the last checkpoint"
    return "no checkpoint was saved yet: resume begins anew"
