"""Every task end to end on tiny random models: what is kept on the re-read file, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lcm_studio.edits import TASKS
from lcm_studio.edits.finish import luma_of, to_bytes
from lcm_studio.edits.noise_level import estimate_sigma
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.session import build, session
from lcm_studio.operators import LUMA
from lcm_studio.sampling import Decode, Encode, Predict, drive
from lcm_studio.spec.events import Done, Failed, Step, Stopped
from lcm_studio.spec.requests import Edit, Generate
from lcm_studio.spec.settings import to_settings
from lcm_studio.web.edit.values import read_out


@pytest.fixture(scope="module")
def engine(tiny_models):
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        yield engine


def scene(height=64, width=64, seed=0):
    """A smooth picture with some texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack(
        [120 + 60 * np.sin(x / 9), 100 + 80 * np.cos(y / 11), 90 + (x + y) % 80], axis=-1
    )
    return to_bytes((base + rng.normal(0, 4, base.shape)).astype(np.float32))


def square(height=64, width=64):
    mask = np.zeros((height, width), np.uint8)
    mask[20:44, 16:40] = 255
    return mask


def run(engine, **kwargs):
    """Done, or the sentence of Failed."""
    settings = {"steps": 2, "model": "lcm", "seed": 3, "image": scene()} | kwargs
    last = list(engine.run(Edit(**settings)))[-1]
    if isinstance(last, Failed):
        return last.message
    assert isinstance(last, Done)
    return last


def reread(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize(
    ("task", "options", "size"),
    [
        ("inpaint", {}, (150, 200)), ("outpaint", {"borders": [30, 0, 9, 0]}, (150, 239)), ("colorize", {}, (150, 200)),
        ("denoise", {}, (150, 200)), ("deblur", {}, (150, 200)), ("superres", {"scale": 2}, (300, 400)),
    ],
)  # fmt: skip
def test_what_stop_leaves_is_the_whole_picture(engine, task, options, size):
    image, mask = scene(150, 200), square(150, 200)
    request = Edit(
        task=task, options=options, steps=50, model="lcm", image=image, mask=mask if task == "inpaint" else None
    )  # fmt: skip
    begun = threading.Event()
    for event in engine.run(request, cancelled=begun.is_set):
        if isinstance(event, Step):
            begun.set()
    assert isinstance(event, Stopped)
    (picture,) = event.previews
    assert picture.shape == (*size, 3)
    if task == "inpaint":
        assert np.array_equal(picture[mask == 0], image[mask == 0])
        assert not np.array_equal(picture[mask > 0], image[mask > 0])
    if task == "outpaint":
        assert np.array_equal(picture[:, 30:230], image)


@pytest.mark.parametrize("method", ["once", "plain", "latent"])
@pytest.mark.parametrize("model", ["lcm", "cm"])
def test_inpaint_keeps_every_known_byte(engine, model, method):
    size = 64 if model == "lcm" else 16
    image, mask = scene(size, size), square(size, size)
    if model == "cm":
        mask = np.zeros((16, 16), np.uint8)
        mask[4:10, 5:12] = 255
    done = run(
        engine, task="inpaint", model=model, image=image, mask=mask, options={"method": method}
    )
    out = reread(done.images[0])
    assert np.array_equal(out[mask == 0], image[mask == 0])
    assert done.fidelity["max_error"] == 0
    assert not np.array_equal(out, image)


def test_outpaint_keeps_the_picture_and_grows_it(engine):
    image = scene()
    done = run(engine, task="outpaint", image=image, options={"borders": (8, 0, 16, 4)})
    out = reread(done.images[0])
    assert out.shape == (68, 88, 3)
    assert np.array_equal(out[:64, 8:72], image)


@pytest.mark.parametrize("size", [(64, 64), (37, 90)])
def test_colorize_keeps_luma(engine, size):
    image = scene(*size)
    out = reread(run(engine, task="colorize", image=image).images[0])
    assert out.shape == image.shape
    assert np.abs(out @ np.asarray(LUMA) - luma_of(image)).max() <= 1


@pytest.mark.parametrize("p", [2, 4, 8])
def test_superres_keeps_block_means(engine, p):
    small = scene(11, 9)
    out = reread(run(engine, task="superres", image=small, options={"scale": p}).images[0])
    means = out.reshape(11, p, 9, p, 3).mean(axis=(1, 3))
    assert np.abs(means - small).max() <= 1


def test_sketch_keeps_all_outside_its_mask(engine):
    image, mask = scene(), square()
    done = run(engine, task="sketch", image=image, mask=mask, options={"strength": 0.7})
    assert np.array_equal(reread(done.images[0])[mask == 0], image[mask == 0])


@pytest.mark.parametrize("task", ["sketch", "inpaint"])
def test_no_error_is_told_where_nothing_is_known(engine, task):
    """A sketch without a mask, and a mask over the whole picture, hold nothing fixed."""
    mask = np.full((64, 64), 255, np.uint8) if task == "inpaint" else None
    done = run(engine, task=task, image=scene(), mask=mask)
    assert done.fidelity["known"] == "nothing"
    assert "max_error" not in done.fidelity
    assert "nothing was held fixed" in read_out(done.fidelity, done.timing, 0)
    held = run(engine, task=task, image=scene(), mask=square())
    assert held.fidelity["known"] == "pixels" and held.fidelity["max_error"] == 0
    assert "known part kept: max error 0/255" in read_out(held.fidelity, held.timing, 0)


@pytest.mark.parametrize(
    ("task", "options"),
    [("denoise", {"sigma": 0.1}), ("denoise", {}), ("deblur", {"kernel": "motion:5,30"})],
)
def test_denoise_and_deblur_report_their_residual(engine, task, options):
    done = run(engine, task=task, options=options)
    assert done.images[0].shape == (64, 64, 3)
    assert ("residual" if task == "denoise" else "max_error") in done.fidelity


def test_interpolation_ends_in_its_pictures(engine):
    a, b = scene(seed=1), scene(seed=2)[::-1].copy()
    done = run(engine, task="interpolate", image=a, image_b=b, options={"frames": 5})
    assert len(done.images) == 5
    assert np.array_equal(reread(done.images[0]), a) and np.array_equal(reread(done.images[-1]), b)


@pytest.fixture
def made_by(engine):
    """(task, prompt, options) -> the outcome of an edit with all that the task needs, and a picture of it that is no input."""

    def made(task, prompt="sea", **said):
        more = {"mask": square()} if task == "inpaint" else {}
        more |= {"image_b": scene(seed=1)} if task == "interpolate" else {}
        own = {"kernel": "gaussian:1"} if task == "deblur" else {}
        own |= {"sigma": 0.1} if task == "denoise" else {}
        own |= {"borders": (8, 0, 0, 0)} if task == "outpaint" else {}
        image = scene(16, 16) if task == "superres" else scene()
        done = run(engine, task=task, image=image, prompt=prompt, options={**own, **said}, **more)
        return done, done.images[1 if task == "interpolate" else 0]

    return made


@pytest.mark.parametrize(
    ("name", "values"),
    [("eta", (0, 0.5, 1)), ("noise_scale", (0.3, 0.6, 1)), ("emphasis", (0, 1, 2.5))],
)
@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_setting_of_the_loop_is_heard_and_reported(made_by, task, name, values):
    found = [made_by(task, **{name: value}) for value in values]
    assert [done.settings[name] for done, _ in found] == list(values)
    assert not np.array_equal(found[0][1], found[2][1])


@pytest.mark.parametrize("task", sorted(TASKS))
def test_of_no_prompt_there_is_no_emphasis(made_by, task):
    assert made_by(task)[0].settings["emphasis"] == 0
    assert np.array_equal(made_by(task, "", emphasis=2.5)[1], made_by(task, "")[1])


@pytest.fixture(scope="module")
def fitted(tiny_models, tmp_path_factory):
    """An engine whose model "fitted" has numbers of its own."""
    root = tmp_path_factory.mktemp("fitted")
    shutil.copytree(tiny_models / "lcm", root / "fitted")
    numbers = Path(__file__).with_name("fitted.yaml").read_text()
    made = "  date: 2026-01-02\n"
    (root / "fitted" / "edits.yaml").write_text(
        "".join(made if "  date:" in line else line for line in numbers.splitlines(True))
    )
    with Engine(EngineConfig(models_dirs=(root,), device="cpu")) as engine:
        yield engine


def test_without_fitted_numbers_the_textbook_holds_and_is_named(made_by):
    done, _ = made_by("superres")
    settings = done.settings
    assert settings["schedule"] == "textbook"
    assert (settings["eta"], settings["noise_scale"], settings["emphasis"]) == (1, 1, 0)
    assert settings["relax"] == [0, 0]
    assert any("edits.yaml" in warning and "textbook" in warning for warning in done.warnings)
    assert not any("edits.yaml" in warning for warning in made_by("sketch")[0].warnings)


def test_relaxation_of_colours_is_heard_and_reported(made_by):
    (none, first), (some, second) = (made_by("colorize", relax=v) for v in (0, 0.8))
    assert [done.settings["relax"][0] for done in (none, some)] == [0, 0.8]
    assert not np.array_equal(first, second)


def test_an_only_estimate_of_colours_is_not_relaxed_but_a_wrong_number_is_refused(made_by, engine):
    (none, first), (some, second) = (made_by("colorize", levels=(1.3,), relax=v) for v in (0, 0.8))
    assert none.settings["relax"] == some.settings["relax"] == [0]
    assert np.array_equal(first, second)
    wrong = {"levels": (1.3,), "relax": 2}
    assert "from 0 to 1" in run(engine, task="colorize", image=scene(), options=wrong)


@pytest.mark.parametrize("task", ["colorize", "superres", "denoise", "deblur"])
@pytest.mark.parametrize("given", [0.3, ["0.1", " 0", 0.25]])
def test_relaxation_is_a_number_or_one_per_level_and_what_is_reported_does_the_same(
    made_by, task, given
):
    levels = (3, 1.5, 0.8, 0.4)
    done, picture = made_by(task, levels=levels, relax=given)
    said = done.settings["relax"]
    assert said == ([0.3, 0, 0, 0] if given == 0.3 else [0.1, 0, 0.25, 0])
    assert np.array_equal(picture, made_by(task, levels=levels, relax=said)[1])
    assert not np.array_equal(picture, made_by(task, levels=levels, relax=0)[1])


@pytest.mark.parametrize(
    ("task", "own", "last"),
    [
        ("superres", {"scale": 2}, (0, 0.3)),
        ("superres", {"scale": 4}, (0.2, 0.15)),
        ("superres", {"scale": 8}, (0.3, 0.15)),
        ("denoise", {"sigma": 0.1}, (0, 0.2)),
        ("denoise", {"sigma": 0.05}, (0, 0)),
        ("deblur", {}, (0, 0.3)),
    ],
)
def test_a_fitted_model_relaxes_what_is_measured_at_the_end(fitted, task, own, last):
    image = scene(16, 16) if task == "superres" else scene()
    options = {"levels": (3, 1.5, 0.8, 0.4), **own}
    done = run(fitted, task=task, model="fitted", image=image, prompt="sea", options=options)
    assert done.settings["relax"] == [0, 0, *last]
    assert done.settings["schedule"] == "fitted on 2026-01-02"
    assert not any("edits.yaml" in warning for warning in done.warnings)


def test_a_model_may_have_an_emphasis_of_its_own_for_a_task(tiny_models, tmp_path):
    shutil.copytree(tiny_models / "lcm", tmp_path / "own")
    (tmp_path / "own" / "studio.json").write_text(json.dumps({"emphasis": {"colorize": 0.5}}))
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as own:
        colours, holes = (
            run(own, task=task, model="own", prompt="sea", **more).settings["emphasis"]
            for task, more in (("colorize", {}), ("inpaint", {"mask": square()}))
        )
    assert (colours, holes) == (0.5, 0)


def test_a_model_may_have_another_guidance_for_edits(tiny_models, tmp_path):
    shutil.copytree(tiny_models / "lcm", tmp_path / "own")
    edit = {"default": 6, "deblur": 9.5}
    said = {"guidance": {"default": 2, "edit": edit, "range": [1, 9]}}
    (tmp_path / "own" / "studio.json").write_text(json.dumps(said))
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as own:
        silent, six, two = (
            run(own, task="colorize", model="own", guidance=g).images[0] for g in (None, 6, 2)
        )
        assert np.array_equal(silent, six)
        assert not np.array_equal(silent, two)
        request = Edit(task="colorize", image=scene(), model="own")
        assert to_settings(request, own.info("own"))["guidance"] == 6
        request = replace(request, task="deblur", options={"kernel": "gaussian:2"})
        assert to_settings(request, own.info("own"))["guidance"] == 9.5
        for scale, warned in ((9.5, False), (9.6, True)):
            said = own.run(replace(request, guidance=scale, steps=1))
            warnings = [w for event in said for w in getattr(event, "warnings", ())]
            assert any("outside what" in w for w in warnings) is warned
        assert to_settings(Generate(model="own"), own.info("own"))["guidance"] == 2


def test_alpha_comes_back_unchanged(engine):
    alpha = np.arange(64 * 64, dtype=np.uint64).reshape(64, 64).astype(np.uint8)
    image = np.dstack([scene(), alpha])
    out = reread(run(engine, task="inpaint", image=image, mask=square()).images[0])
    assert np.array_equal(out[..., 3], alpha)


def test_image_i_is_that_of_its_seed_alone(engine):
    two = run(engine, task="inpaint", mask=square(), count=2)
    alone = run(engine, task="inpaint", mask=square(), seed=4)
    gap = np.abs(two.images[1].astype(int) - alone.images[0])
    assert gap.max() <= 2


def test_a_mask_of_another_size_is_resized_and_said(engine):
    done = run(engine, task="inpaint", mask=square(128, 128))
    assert any("resized" in w for w in done.warnings)


def test_a_full_mask_is_said(engine):
    done = run(engine, task="inpaint", mask=np.full((64, 64), 255, np.uint8))
    assert any("whole picture" in w for w in done.warnings)


def test_a_large_picture_is_tiled_and_keeps_its_size(engine):
    image = scene(150, 170)
    done = run(engine, task="denoise", image=image, options={"sigma": 0.1})
    assert done.images[0].shape == image.shape
    assert done.timing["evaluations"] > 2


BAD = [
    ({"task": "inpaint"}, "needs a mask"),
    ({"task": "inpaint", "mask": np.zeros((64, 64), np.uint8)}, "nothing to do"),
    ({"task": "nonsense"}, "unknown"),
    ({"task": "inpaint", "mask": square(), "options": {"colour": 1}}, "no option"),
    ({"task": "inpaint", "image": np.zeros((64, 64, 3), np.uint16)}, "8-bit"),
    ({"task": "denoise", "image": np.zeros((16_385, 4, 3), np.uint8)}, "limit"),
    ({"task": "superres", "options": {"scale": 3.5}}, "whole number"),
    ({"task": "superres", "options": {"scale": 99}}, "2 to 8"),
    (
        {"task": "superres", "image": np.zeros((1100, 1000, 3), np.uint8), "options": {"scale": 8}},
        "limit",
    ),
    ({"task": "superres", "options": {"operator": "magic"}}, "unknown"),
    ({"task": "denoise", "options": {"sigma": float("nan")}}, "not usable"),
    ({"task": "deblur", "options": {"kernel": "gaussian:30"}}, "kernel"),
    ({"task": "deblur", "options": {"kernel": "box:3"}}, "gaussian:SIGMA"),
    ({"task": "sketch", "options": {"strength": 0}}, "strength"),
    ({"task": "outpaint", "options": {"borders": (0, 0, 0, 0)}}, "borders"),
    ({"task": "outpaint", "options": {"borders": "x"}}, "borders"),
    ({"task": "interpolate"}, "second picture"),
    ({"task": "colorize", "options": {"eta": 1.5}}, "from 0 to 1"),
    ({"task": "colorize", "options": {"emphasis": 4}}, "from 0 to 3"),
    ({"task": "colorize", "options": {"noise_scale": 0}}, "from 0.1 to 1"),
    ({"task": "colorize", "options": {"relax": float("nan")}}, "from 0 to 1"),
    ({"task": "sketch", "options": {"relax": 0.5}}, "no option"),
    ({"task": "superres", "options": {"relax": [0.1, 1.1]}}, "from 0 to 1"),
    ({"task": "superres", "options": {"relax": "much"}}, "from 0 to 1"),
    ({"task": "superres", "options": {"relax": [0.1] * 20}}, "20 numbers"),
    ({"task": "interpolate", "image_b": scene(), "options": {"emphasis": -1}}, "from 0 to 3"),
    ({"task": "interpolate", "image_b": scene(), "options": {"eta": "much"}}, "from 0 to 1"),
    ({"task": "inpaint", "mask": square(), "options": {"levels": [1, 2]}}, "below"),
]


@pytest.mark.parametrize(("kwargs", "words"), BAD)
def test_bad_input_gets_one_sentence(engine, kwargs, words):
    said = run(engine, **kwargs)
    assert isinstance(said, str), "it was carried out"
    assert words in said and "\n" not in said and len(said) < 260


def test_every_task_has_a_test_and_a_title():
    assert set(TASKS) == {
        *(
            "inpaint",
            "outpaint",
            "colorize",
            "superres",
            "denoise",
            "deblur",
            "sketch",
            "interpolate",
        )
    }
    assert all(task.title and task.known for task in TASKS.values())


@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.2])
def test_noise_is_estimated(sigma):
    rng = np.random.default_rng(0)
    clean = np.full((128, 128, 3), 127.0)
    noisy = to_bytes((clean + rng.normal(0, sigma * 255, clean.shape)).astype(np.float32))
    assert abs(estimate_sigma(noisy) / 255 - sigma) < 0.15 * sigma


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 7, 8])
@pytest.mark.parametrize("task", ["superres", "inpaint", "denoise"])
def test_an_edit_encodes_and_decodes_about_once_a_level(engine, task, steps):
    """At most as often as it predicts; from seven levels on once more, to learn what the autoencoder loses."""
    options = {"levels": [2.0 - 0.2 * k for k in range(steps)]}
    mask = square() if task == "inpaint" else None
    image = scene(16, 16) if task == "superres" else scene()  # small enough for one tile
    request = Edit(task=task, image=image, mask=mask, prompt="", steps=steps, options=options)
    counts = {Predict: 0, Decode: 0, Encode: 0}

    def count(ask):
        match ask:
            case Predict(x, _, _) | Decode(x) | Encode(x):
                counts[type(ask)] += len(x)

    with torch.inference_mode():
        drive(session(request, engine.model("lcm"), (3,), 1), engine.model("lcm"), on_ask=count)
    assert counts[Predict] == counts[Decode] == steps
    assert counts[Encode] == steps + (steps >= 7)


@pytest.mark.parametrize("scale", [4, 8])
def test_few_levels_take_the_encoding_as_it_is_and_many_learn_what_it_loses(engine, scale):
    model = engine.model("lcm")
    for steps, wanted in ((4, "plain"), (8, "once")):
        request = Edit(task="superres", image=scene(16, 16), steps=steps, options={"scale": scale})
        assert build(request, model).method == wanted


@pytest.mark.parametrize(("off", "peak", "goals"), [(1, 1, 3), (0, 1, 1), (3, 0, 1)])
def test_deblurring_fits_closer_only_where_rounding_alone_took_it_over_the_bound(
    engine, monkeypatch, off, peak, goals
):
    """A flat picture; the fit is `off` by so many levels, and by `peak` times .16 in one place."""
    flat, seen = np.full((64, 64, 3), 100, np.uint8), []

    def fit(op, x, y, *, damping, goal, report):
        seen.append(goal)
        made = flat + np.uint8(off)
        made[32, 32] += np.uint8(peak)
        return made

    monkeypatch.setattr("lcm_studio.edits.finish.meet_operator", fit)
    options = {"kernel": "gaussian:1", "exact": "always"}
    done = run(engine, task="deblur", image=flat, options=options)
    assert len(seen) == goals and seen == sorted(seen, reverse=True)
    assert done.fidelity["max_error"] == pytest.approx(off + 0.159 * peak, abs=0.01)
