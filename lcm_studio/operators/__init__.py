"""Linear operators y = A x that say which part of a picture is known, with A, A^T, A+ and the projection.

Tensors are `(B, C, H, W)`, float32 or float64, of any range; operators are plain objects without weights.
"""

from lcm_studio.operators.base import Identity, Inverse, LinearOperator, project, solve_normal
from lcm_studio.operators.blocks import BlockMean
from lcm_studio.operators.compose import Compose
from lcm_studio.operators.convolution import Convolution
from lcm_studio.operators.correlated import Correlated
from lcm_studio.operators.histospline import Histospline
from lcm_studio.operators.kernels import gaussian_kernel, motion_kernel, parse_kernel
from lcm_studio.operators.pixel import LUMA, Luma, Mask, Neutral
from lcm_studio.operators.separable import (
    Separable,
    bicubic_downsample,
    gaussian_blur,
    gaussian_downsample,
)

__all__ = [
    "LUMA",
    "BlockMean",
    "Compose",
    "Convolution",
    "Correlated",
    "Histospline",
    "Identity",
    "Inverse",
    "LinearOperator",
    "Luma",
    "Mask",
    "Neutral",
    "Separable",
    "bicubic_downsample",
    "gaussian_blur",
    "gaussian_downsample",
    "gaussian_kernel",
    "motion_kernel",
    "parse_kernel",
    "project",
    "solve_normal",
]
