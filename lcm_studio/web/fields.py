"""The page's fields for settings of a schema. No Gradio here; `inputs.control` draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lcm_studio.spec.schema import Setting

UNSET = "default"  # of a choice: what the task takes by itself
OWN = "The tool's own"  # how the page calls it
ADVANCED = "Empty: the tool's own."


@dataclass(frozen=True, kw_only=True)
class Field:
    """One control. `name` is that of the setting, or of one of its parts; `tools` are the tasks that it belongs to."""

    name: str
    setting: Setting
    tools: tuple[str, ...] = ()
    start: Any = None

    @property
    def empty(self) -> Any:
        """What it holds where nothing is asked of the task."""
        return "" if self.start is None else self.start

    @property
    def about(self) -> str:
        """What it does, in a sentence."""
        setting = self.setting
        text = setting.help[:1].upper() + setting.help[1:] + "."
        if setting.example:
            text += f" As in {setting.example}."
        if setting.default is None and not setting.parts:
            text += f" {ADVANCED}"
        return text

    @property
    def span(self) -> tuple[float, float] | None:
        """The range of the page's control; None where it is text or choices, which the schema checks."""
        setting = self.setting
        if self.drawn != "slider":
            return None
        return setting.slider or (setting.low, setting.high)

    @property
    def drawn(self) -> str:
        """slider, text, switch, menu (one of a few), offers (a menu that takes other text too) or row (buttons)."""
        setting = self.setting
        if setting.kind == "switch":
            return "switch"
        if setting.kind == "choice":
            return "menu"
        if setting.offers:
            return "offers" if setting.kind == "text" else "row"
        if setting.parts or (
            setting.kind in ("number", "whole")
            and not setting.choices
            and (setting.default is not None or setting.start is not None)
        ):
            return "slider"
        return "text"
