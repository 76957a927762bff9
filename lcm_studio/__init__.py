"""LCM Studio: a workbench for consistency models."""

__version__ = "0.1.0"
