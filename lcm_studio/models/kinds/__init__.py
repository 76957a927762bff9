"""What people hand over, one row per kind, and how a file or folder is told to be one. No torch."""

from __future__ import annotations

from lcm_studio.models.kinds.kind import Kind
from lcm_studio.models.kinds.rows import kind_of, kinds_for, row_of
from lcm_studio.models.kinds.table import KINDS

__all__ = ["KINDS", "Kind", "kind_of", "kinds_for", "row_of"]
