"""The Lab's runs on the real engine: they show what they do, agree with plain requests, and refuse in one sentence."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio import lab
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.lab.film import generate_of
from lcm_studio.spec.events import Failed, Step, Stopped
from lcm_studio.spec.lab import (
    Compared,
    Comparison,
    Film,
    Filmed,
    Frame,
    Inversion,
    Inverted,
    Result,
    System,
    Trace,
    Traced,
    TracePoint,
)
from tests import tiny_flow

TEACHER, STUDENT = "sd-plain", "lcm"
COMMON: dict[str, Any] = {"prompt": "sunset", "seed": 5}


# a folder's name says what kind of student it is; of each way to start and to go on one
KINDS = {
    "sd-lightning-4step": "sd-15", "sd-turbo": "sd-15", "tcd": "sd-15", "dmd2": "sd-15",
    "flux-schnell": "flux", "sd3-turbo": "sd3", "sana": "sana",
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds")
    for name, kind in KINDS.items():
        if kind == "sd-15":
            shutil.copytree(tiny_models / kind, root / name)
        else:
            tiny_flow.save(kind, root / name)
    return root


@pytest.fixture(scope="module")
def engine(tiny_models: Path, kinds: Path, bundled: Path) -> Iterator[Engine]:
    folders = (tiny_models, kinds, bundled)
    with Engine(EngineConfig(models_dirs=folders, device="cpu", keep=4)) as engine:
        yield engine


def picture(side: int = 64) -> Any:
    ramp = np.linspace(40, 215, side, dtype=np.uint8)
    return np.stack(
        [
            np.tile(ramp, (side, 1)),
            np.tile(ramp[:, None], (1, side)),
            np.full((side, side), 90, np.uint8),
        ],
        -1,
    )


@pytest.mark.parametrize("sampler", ["ode-heun", "rk45", "langevin"])
def test_a_film_shows_the_way_to_the_picture_of_the_same_request(
    engine: Engine, sampler: str
) -> None:
    system = System(model=TEACHER, sampler=sampler, evaluations=20)
    events = list(lab.film(engine, Film(**COMMON, system=system, frames=8)))
    frames = [e for e in events if isinstance(e, Frame)]
    done = events[-1]
    assert isinstance(done, Filmed), done
    assert 2 <= len(frames) <= 8
    assert [f.index for f in frames] == list(range(len(frames)))
    assert frames[0].evaluations == 1
    assert frames[0].sigma > frames[-1].sigma
    assert frames[0].x_t.shape == frames[0].x0_hat.shape == done.image.shape
    plain = list(engine.run(generate_of(Film(**COMMON), system)))[-1]
    assert np.array_equal(done.image, plain.images[0])
    assert done.evaluations == plain.timing["evaluations"]


@pytest.mark.parametrize("sampler", ["auto", "consistency"])
@pytest.mark.parametrize("model", ["lcm", "cm", "cm-class", *KINDS])
def test_a_film_of_every_kind_of_model_ends_in_its_picture(
    engine: Engine, model: str, sampler: str
) -> None:
    """Each starts from its own noise and goes to the next level in its own way."""
    system = System(model=model, sampler=sampler, evaluations=4)
    done = list(lab.film(engine, Film(**COMMON, system=system, frames=4)))[-1]
    plain = list(engine.run(generate_of(Film(**COMMON), system)))[-1]
    if isinstance(plain, Failed):
        assert isinstance(done, Failed) and done.message == plain.message
        assert model in ("flux-schnell", "sd3-turbo") and "straight" in done.message
        return
    assert isinstance(done, Filmed), done
    assert np.array_equal(done.image, plain.images[0])


def test_without_frames_there_are_none(engine: Engine) -> None:
    events = list(lab.film(engine, Film(**COMMON, system=System(model=TEACHER), frames=0)))
    assert not any(isinstance(e, Frame) for e in events)
    assert any(isinstance(e, Step) for e in events)


def test_a_comparison_goes_on_where_a_system_cannot_run(engine: Engine) -> None:
    systems = (
        System(model=TEACHER, sampler="ode-euler", evaluations=4),
        System(model=TEACHER, sampler="rk45", evaluations=4),
        System(model=TEACHER, sampler="dpmpp", evaluations=40),
        System(model=TEACHER, sampler="ancestral", evaluations=4),
        System(model=STUDENT, sampler="consistency", evaluations=2),
        System(model="nowhere", sampler="ddim", evaluations=2),
    )
    events = list(lab.compare(engine, Comparison(**COMMON, systems=systems)))
    done = events[-1]
    assert isinstance(done, Compared), done
    assert [e for e in events if isinstance(e, Result)] == list(done.results)
    euler, short, fine, ancestral, student, nowhere = done.results
    assert euler.distance is not None and fine.distance is not None
    assert fine.distance < euler.distance
    assert "at least 10" in short.error and short.image is None
    assert "nowhere" in nowhere.error
    assert ancestral.distance is None and ancestral.image is not None
    assert student.distance is not None
    assert (euler.evaluations, fine.evaluations, student.evaluations) == (4, 40, 2)
    assert done.reference_evaluations[TEACHER] > 10


def test_a_trace_holds_a_student_against_its_teacher(engine: Engine) -> None:
    request = Trace(**COMMON, model=STUDENT, teacher=TEACHER, evaluations=19, points=6)
    events = list(lab.trace(engine, request))
    done = events[-1]
    assert isinstance(done, Traced), done
    points = [e for e in events if isinstance(e, TracePoint)]
    assert points == list(done.points)
    assert len(points) == 6
    assert points[0].student_to_start == points[0].teacher_to_start == 0
    assert points[-1].teacher_to_end == 0  # the end is the estimate of the last level
    assert all(a.sigma > b.sigma for a, b in itertools.pairwise(points))
    assert all(p.level == int(p.level) for p in points)


def test_a_trace_is_guided_from_where_the_teacher_s_pictures_are(engine: Engine) -> None:
    """The bundled teacher goes its first levels without guidance; the student was made of that path."""
    found = []
    for guidance in (1.0, 6.0):
        request = Trace(
            **COMMON, guidance=guidance, model="scenery-lcm", teacher="scenery-teacher", evaluations=5, points=3
        )  # fmt: skip
        done = list(lab.trace(engine, request))[-1]
        assert isinstance(done, Traced), done
        found.append(done.points)
    plain, guided = found
    assert np.array_equal(plain[0].teacher, guided[0].teacher)
    assert not np.array_equal(plain[-1].teacher, guided[-1].teacher)


@pytest.mark.parametrize("sampler", ["ode-heun", "dpmpp", "rk45"])
def test_an_inversion_comes_back(engine: Engine, sampler: str) -> None:
    """With a trained network: the paths of a random one are too rough for any solver."""
    request = Inversion(
        **COMMON, image=picture(), model="scenery-teacher", sampler=sampler, evaluations=100 if sampler == "rk45" else 40,
        settings={"tolerance": 0.005} if sampler == "rk45" else {}, frames=6, likelihood=sampler == "rk45",
    )  # fmt: skip
    events = list(lab.invert(engine, request))
    done = events[-1]
    assert isinstance(done, Inverted), done
    assert {e.system for e in events if isinstance(e, Frame)} == {0, 1}
    assert done.round_trip["rmse"] < 2
    assert done.round_trip["latent_rmse"] < 0.05
    assert done.image.shape == request.image.shape
    assert (done.bits_per_dim is not None) == (sampler == "rk45")


@pytest.mark.parametrize(
    ("run", "request_", "word"),
    [
        (lab.film, Film(system=System(model=TEACHER), frames=999), "frames"),
        (lab.film, Film(system=System(model=STUDENT)), "consistency model"),
        (lab.compare, Comparison(systems=()), "compare 1 to"),
        (lab.compare, Comparison(systems=(System(model=TEACHER, sampler="euler"),)), "ode-euler"),
        (lab.trace, Trace(model=TEACHER, teacher=TEACHER), "no consistency model"),
        (lab.trace, Trace(model=STUDENT, teacher=STUDENT), "consistency model"),
        (lab.trace, Trace(model="cm", teacher=TEACHER), "different spaces"),
        (lab.trace, Trace(model=STUDENT, teacher=TEACHER, evaluations=1), "evaluations=1"),
        (lab.trace, Trace(model=STUDENT, teacher=TEACHER, points=1), "points=1"),
        (lab.invert, Inversion(image=picture(60), model=TEACHER), "multiple"),
        (lab.invert, Inversion(image=picture(), model=TEACHER, sampler="pc"), "no way up"),
        (lab.invert, Inversion(image=picture(), model=TEACHER, sampler="ddim"), "no way up"),
        (lab.invert, Inversion(image=picture()[..., 0], model=TEACHER), "colour"),
        (lab.invert, Inversion(image=picture(), model=TEACHER, sampler="rk45", evaluations=12, settings={"tolerance": 1e-6}), "allow more"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(
    engine: Engine, run: Any, request_: Any, word: str
) -> None:
    failed = list(run(engine, request_))[-1]
    assert isinstance(failed, Failed)
    assert word in failed.message
    assert "report this" not in failed.message


@pytest.mark.parametrize("run", [lab.film, lab.compare])
def test_stop_ends_within_one_step(engine: Engine, run: Any) -> None:
    system = System(model=TEACHER, sampler="langevin", evaluations=400)
    request = (
        Film(system=system, frames=0)
        if run is lab.film
        else Comparison(systems=(system,), reference=False)
    )
    seen = 0

    def cancelled() -> bool:
        return seen >= 2

    event: Any = None
    for event in run(engine, request, cancelled):
        seen += isinstance(event, Step)
    assert isinstance(event, Stopped)
    assert seen < 10
