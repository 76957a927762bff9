"""docs/guide/settings.md from the schema of every task: python -m lcm_studio.edits.describe > docs/guide/settings.md"""

from __future__ import annotations

from lcm_studio.edits.task import EditSettings, EditTask, Masked, Relaxed
from lcm_studio.edits.tasks import TASKS
from lcm_studio.spec.schema import Setting, Settings, settings_of

HEAD = """# Settings of edits

Written by `python -m lcm_studio.edits.describe`; each row is a field of a class in `lcm_studio/edits/tasks/` or
`lcm_studio/edits/task.py`. In the shell `noise_scale` is `--noise-scale`; in Python and the API they are the names in `options`.
Where no default is given, it is the model's own or the task's.
"""
SHARED: tuple[tuple[str, type[Settings]], ...] = (
    ("Every task", EditSettings),
    ("Tasks with a mask to change", Masked),
    ("Colour, Enlarge, Denoise, Deblur", Relaxed),
)


def page() -> str:
    """The whole document."""
    parts = [HEAD]
    seen: set[str] = set()
    for title, cls in SHARED:
        parts.append(section(title, [s for s in settings_of(cls) if s.name not in seen]))
        seen |= {s.name for s in settings_of(cls)}
    parts += [of_task(task, seen) for task in TASKS.values()]
    return "\n".join(part for part in parts if part)


def of_task(task: EditTask, shared: set[str]) -> str:
    """The settings of a task beside those that it shares; empty where it has none."""
    settings = [s for s in settings_of(task.settings) if s.name not in shared]
    return section(f"{task.title} (`{task.name}`)", settings) if settings else ""


def section(title: str, settings: list[Setting]) -> str:
    rows = [f"| `{s.name}` | {s.help} | {allowed(s)} | {default(s)} |" for s in settings]
    return "\n".join(
        [
            f"## {title}\n",
            "| setting | what it is | allowed | default |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def allowed(setting: Setting) -> str:
    """What a setting takes."""
    if setting.kind == "switch":
        return "on, off"
    if setting.kind == "text":
        return setting.example or "text"
    several = "one or more of " if setting.kind == "numbers" and setting.count[1] > 4 else ""
    if setting.kind == "numbers" and not several:
        several = f"{setting.count[0]} of "
    return several + setting.span


def default(setting: Setting) -> str:
    if setting.default in (None, ""):
        return ""
    if isinstance(setting.default, float):
        return f"{setting.default:g}"
    return "off" if setting.default is False else str(setting.default)


if __name__ == "__main__":
    print(page(), end="")
