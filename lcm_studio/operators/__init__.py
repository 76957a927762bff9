"""Linear operators y = A x that say which part of a picture is known, with A, A^T, A+ and the projection.

Tensors are `(B, C, H, W)`, float32 or float64, of any range; operators are plain objects without weights.
"""

from lcm_studio.operators.base import Identity, Inverse, LinearOperator, project, solve_normal
from lcm_studio.operators.blocks import BlockMean
from lcm_studio.operators.compose import Compose
from lcm_studio.operators.convolution import Convolution
from lcm_studio.operators.correlated import Correlated
from lcm_studio.operators.cosine import (
    Cosine,
    bicubic_downsample,
    gaussian_blur,
    gaussian_downsample,
    line_blur,
)
from lcm_studio.operators.histospline import Histospline
from lcm_studio.operators.kernels import gaussian_kernel, motion_kernel, parse_kernel
from lcm_studio.operators.pixel import LUMA, Luma, Mask, Neutral

__all__ = [
    "LUMA",
    "BlockMean",
    "Compose",
    "Convolution",
    "Correlated",
    "Cosine",
    "Histospline",
    "Identity",
    "Inverse",
    "LinearOperator",
    "Luma",
    "Mask",
    "Neutral",
    "bicubic_downsample",
    "gaussian_blur",
    "gaussian_downsample",
    "gaussian_kernel",
    "line_blur",
    "motion_kernel",
    "parse_kernel",
    "project",
    "solve_normal",
]
