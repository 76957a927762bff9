"""What an error outside a hole says of the picture inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lcm_studio.edits.harmonic import harmonic, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 16  # pixels around the hole that a coarser grid may look at


class Membrane:
    """S y, a right inverse of `Mask`: y outside the hole `(H, W)`, its harmonic continuation inside.

    A+ leaves the inside of an estimate alone, with a step at the border wherever the outside was wrong. Estimates err
    in tones over wide parts, so what the border is off by holds for what lies behind it as well: with K the Green's
    function of the Laplacian, K A^T (A K A^T)^-1 y is the membrane through y, which is Poisson editing (Perez et al. 2003)
    of the estimate, at every level instead of once at the end.
    """

    def __init__(self, hole: NDArray[np.bool_]) -> None:
        self.part = near(hole, MARGIN)
        self.hole = hole[self.part]

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """S y / (1 + damping) for `(B, C, H, W)`, solved on the CPU: few numbers go there and back."""
        part = (..., *self.part)
        pictures = y[part].detach().cpu().float().permute(0, 2, 3, 1).numpy()
        solved = [harmonic(np.ascontiguousarray(p), self.hole) for p in pictures]
        whole = y.clone()
        whole[part] = torch.from_numpy(np.stack(solved)).permute(0, 3, 1, 2).to(y)
        return whole / (1 + damping)
