"""What a running request reports, in order: Queued*, then Step and Working, then one of Done, Failed, Stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels


@dataclass(frozen=True, kw_only=True)
class Queued:
    """Waiting; `position` 1 is next."""

    position: int


@dataclass(frozen=True, kw_only=True)
class Loading:
    """The model is being loaded; `message` is for the user."""

    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """`done` of `total` steps finished after `seconds`; `previews`: clean estimates, one per image, or empty.

    `flagged`: per preview, whether the model's safety checker blacked it out.
    """

    done: int
    total: int
    seconds: float
    remaining: float | None = None
    previews: tuple[Pixels, ...] = ()
    flagged: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Working:
    """Work outside the network that takes a while, e.g. "Making it exact": `share` of it, in [0, 1], is done after `seconds`."""

    message: str
    share: float
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Done:
    """Finished images, uint8 `(H, W, 3 or 4)`, with the seed of each.

    `settings`: everything that is needed to make them again (JSON-serialisable).
    `timing`: seconds by part (prompt, network, decode, encode, other, total) and `evaluations`.
    `fidelity`: of an edit, e.g. max_error (of 255), seam, residual. `warnings`: sentences for the user.
    `flagged`: per image, whether the model's safety checker blacked it out.
    """

    images: tuple[Pixels, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    flagged: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stopped:
    """The user stopped it; what was finished is kept (`previews`: the last clean estimates).

    `flagged`, `previews_flagged`: per picture, whether the model's safety checker blacked it out.
    `note`: what the previews are, where they are no estimates of the whole picture.
    """

    images: tuple[Pixels, ...] = ()
    seeds: tuple[int, ...] = ()
    previews: tuple[Pixels, ...] = ()
    flagged: tuple[bool, ...] = ()
    previews_flagged: tuple[bool, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """`message`: one sentence that says what to do."""

    message: str


Event: TypeAlias = Queued | Loading | Step | Working | Done | Stopped | Failed
