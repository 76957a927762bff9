"""Recipes by name; a recipe's module is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

from training.recipes.base import Recipe

_WHERE = {
    "lcd": ("lcd", "LatentDistillation"),
    "dmd": ("dmd", "DistributionMatching"),
    "lcm-lora": ("lora", "LoraDistillation"),
    "cd": ("consistency", "Cd"),
    "ct": ("consistency", "Ct"),
    "ict": ("consistency", "Ict"),
    "ect": ("consistency", "Ect"),
    "pixel-dmd": ("pixel_dmd", "PixelDistributionMatching"),
    "edm": ("edm", "Edm"),
    "autoencoder": ("autoencoder", "Autoencoder"),
    "teacher": ("teacher", "Teacher"),
}
NAMES = tuple(_WHERE)


def find(name: str) -> type[Recipe]:
    """The recipe class; raises KeyError for a name that is none of NAMES."""
    module, attribute = _WHERE[name]
    found: type[Recipe] = getattr(import_module(f"training.recipes.{module}"), attribute)
    return found
