"""With a checker that objects to everything, nothing but black is shown, whichever way a picture takes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from lcm_studio.edits import TASKS
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.events import Done, Step, Stopped
from lcm_studio.spec.requests import Edit, Generate


@pytest.fixture(scope="module")
def engine(tiny_models):
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        engine.model("lcm").check = lambda images: (True,) * len(images)
        yield engine


def request(task: str, **more):
    if task == "generate":
        return Generate(model="lcm", steps=3, previews=True, **more)
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (24, 24, 3), np.uint8)
    mask = np.zeros((24, 24), np.uint8)
    mask[6:14, 8:18] = 255
    options = {"outpaint": {"borders": (8, 0, 0, 0)}, "interpolate": {"frames": 3}}
    return Edit(
        task=task,
        image=image,
        image_b=image[::-1].copy(),
        mask=mask if task == "inpaint" else None,
        options=options.get(task, {}),
        model="lcm",
        steps=3,
        previews=True,
        **more,
    )


@pytest.mark.parametrize("task", [*TASKS, "generate"])
def test_pictures_and_previews_are_black_and_flagged(engine, task):
    events = list(engine.run(request(task)))
    done = events[-1]
    assert isinstance(done, Done)
    assert done.flagged == (True,) * len(done.images)
    assert not any(image.any() for image in done.images)
    previews = [e for e in events if isinstance(e, Step) and e.previews]
    assert len(previews) == 2
    for step in previews:
        assert step.flagged == (True,) * len(step.previews)
        assert not any(p.any() for p in step.previews)


@pytest.mark.parametrize("task", ["inpaint", "interpolate", "generate"])
@pytest.mark.parametrize("previews", [True, False])
def test_what_is_left_of_a_stopped_request_is_black_and_flagged(engine, task, previews):
    from dataclasses import replace

    stop = threading.Event()
    last = None
    for last in engine.run(replace(request(task), previews=previews), stop.is_set):
        if isinstance(last, Step) and last.done == 1:
            stop.set()
    assert isinstance(last, Stopped)
    assert last.previews
    assert last.previews_flagged == (True,) * len(last.previews)
    assert not any(p.any() for p in last.previews)


def test_finished_pictures_that_stop_keeps_are_flagged(engine):
    stop = threading.Event()
    engine.lane("lcm").max_rows = 1
    last = None
    for last in engine.run(request("generate", count=3), stop.is_set):
        if isinstance(last, Step) and last.done == 4:
            stop.set()
    assert isinstance(last, Stopped)
    assert len(last.images) == 1
    assert last.flagged == (True,)
    assert not last.images[0].any()
