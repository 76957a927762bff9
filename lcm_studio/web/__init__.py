"""The workbench in a browser: a Gradio page in front of the same engine the shell uses.

How to add a tab
----------------
1. Make a room ``lcm_studio/web/NAME/`` whose ``tab.py`` has one function (docs/method/architecture.md names the other files)::

       def build(studio: Studio) -> None:      # called inside ``with gr.Tab(title):``
           stage = parts.stage("edit")          # the picture stage: frames, progress, message
           ...components...
           run = parts.action_row("edit")       # buttons run.go, run.stop (ids edit-go, edit-stop)
           def go(values: dict, request: gr.Request):      # inputs given as a set arrive as a dict
               yield from studio.play(lambda: make_request(values), owner=owner_of(request), tab="edit")
           parts.wire_run(studio, run, go, inputs={...}, stage=stage, tab="edit")
           parts.history("edit")                # the session's thumbnails, kept by the browser
           parts.on_restore("edit", apply, outputs=[...])  # settings -> updates; from history or a dropped PNG

2. Add it to ``TABS``. A tab whose module does not exist is left out; modules are imported when the page is built,
   so they must not import torch (``lcm_studio.engine`` does not).

``Studio`` (``lcm_studio.web.studio``) holds what every tab shares: the engine, the options, what is under
way and can be stopped, the store of pictures, and ``play``: Request -> the values the stage draws. Settings with
``"task"`` go to the tab called "edit", all others to "create"; "Send to Edit" calls the browser-side channel
``receive-edit`` (``parts.on_receive``). Extra named endpoints: ``gr.api`` inside ``build``; everything else
is private (``parts.PRIVATE``).

``KEYS`` of the page: Ctrl+Enter presses the visible tab's ``*-go`` button, Esc its ``*-stop`` button.
"""

from __future__ import annotations

TABS: tuple[tuple[str, str], ...] = (
    ("Create", "lcm_studio.web.create.tab"),
    ("Edit", "lcm_studio.web.edit.tab"),
    ("Distil", "lcm_studio.web.distil.tab"),
    ("Lab", "lcm_studio.web.lab.tab"),
)
