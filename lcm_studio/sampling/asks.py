"""What a sampling generator asks for. A driver answers: alone (`drive`) or many at once (the engine's lane)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from lcm_studio.models.protocol import Cond, Prompt

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels


@dataclass(frozen=True, eq=False)
class Predict:
    """-> x0_hat `(B, C, H, W)` for `x_t` of that shape at levels `t` `(B,)`."""

    x_t: Tensor
    t: Tensor
    cond: Cond


@dataclass(frozen=True, eq=False)
class Decode:
    """-> images `(B, 3, H, W)`, nominally in [-1, 1]."""

    latents: Tensor


@dataclass(frozen=True, eq=False)
class Encode:
    """-> latents of images `(B, 3, H, W)` in [-1, 1]: the posterior's mean."""

    images: Tensor


@dataclass(frozen=True)
class Embed:
    """-> Cond of one image per prompt."""

    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, eq=False)
class Check:
    """-> per image of `(B, 3, H, W)`, whether the model's safety checker objects (a tuple of bool)."""

    images: Tensor


Report: TypeAlias = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Compute:
    """-> `work(report)`: heavy work outside the networks, which a driver may run on another thread.

    `report(share)` tells how much of it is done, in [0, 1]; it raises Cancelled where nobody waits for it any more, so
    long work calls it now and then. `what` tells the user, as in "Finishing".
    """

    work: Callable[[Report], Any]
    what: str = "Computing"


@dataclass(frozen=True, eq=False)
class Estimate:
    """Tells that `done` of `total` steps are over, with the clean estimate so far. -> None.

    `part` of `parts`: of a request whose pictures are made some at a time. `whole`: of decoded estimates `(B, 3, H, W)` the
    pictures that they are of, where a part of each is sampled, or at another size.
    """

    done: int
    total: int
    x0_hat: Tensor
    part: int = 0
    parts: int = 1
    whole: Callable[[Tensor], tuple[Pixels, ...]] | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """Tells that these pictures are final, though the request may go on: Stop keeps them. -> None.

    `flagged`: per picture, whether the model's safety checker blacked it out.
    """

    images: tuple[Pixels, ...]
    flagged: tuple[bool, ...] = ()


Ask: TypeAlias = Predict | Decode | Encode | Embed | Check | Compute | Estimate | Finished
