"""ControlNets and IP-Adapters in edits: what the network is shown, that it follows, and that the known part stays."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lcm_studio.edits.geometry import Box, Frame
from lcm_studio.edits.tiles import tiled
from lcm_studio.edits.view import View
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.large import _part
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import Predict
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import ControlSpec, Edit, IPAdapterSpec
from lcm_studio.spec.settings import to_settings
from tests import tiny
from tests.models.test_control import network, picture
from tests.models.test_ip_adapter import image_encoder, weights


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    root = tmp_path_factory.mktemp("models")
    tiny.save("sd", root / "sd")
    net = network("sd")
    with torch.no_grad():
        net.controlnet_cond_embedding.conv_out.weight *= 50  # so that every picture shows
    net.save_pretrained(root / "controlnets" / "tiny")
    (root / "ip_adapters").mkdir()
    save_file(weights("sd"), root / "ip_adapters" / "tiny-ip.safetensors")
    image_encoder().save_pretrained(root / "ip_adapters" / "image_encoder")
    with Engine(EngineConfig(models_dirs=(root,), device="cpu")) as engine:
        yield engine


CONTROL = ControlSpec(path="tiny")


def mask(size: int = 64) -> np.ndarray:
    out = np.zeros((size, size), np.uint8)
    out[20:44, 16:40] = 255
    return out


def edit(task: str, **more: Any) -> Edit:
    needs = {
        "inpaint": {"mask": mask()},
        "outpaint": {"options": {"borders": (0, 0, 16, 0)}},
        "superres": {"image": picture(32)},
    }
    given = {"image": picture(), "prompt": "lake", "model": "sd", "steps": 2, "seed": 3}
    return Edit(task=task, **{**given, **needs.get(task, {}), **more})


def run(engine: Engine, request: Edit) -> Done:
    end = list(engine.run(request))[-1]
    assert isinstance(end, Done), end
    return end


def gap(a: Done, b: Done) -> int:
    return int(np.abs(a.images[0].astype(int) - b.images[0].astype(int)).max())


@pytest.mark.parametrize(
    "task", ["inpaint", "outpaint", "sketch", "colorize", "superres", "denoise", "deblur"]
)
def test_an_edit_follows_and_its_known_part_stays(engine: Engine, task: str) -> None:
    plain, own = run(engine, edit(task)), edit(task).image
    held = run(engine, edit(task, control=CONTROL))
    assert gap(plain, held) > 1
    if task in ("inpaint", "outpaint"):
        assert held.fidelity["max_error"] == 0
    off = run(engine, edit(task, control=replace(CONTROL, strength=0.0)))
    assert gap(plain, off) <= 1
    # its own picture is what stands for none; another of the result's proportions is another
    if task != "outpaint":
        assert gap(held, run(engine, edit(task, control=replace(CONTROL, image=own)))) <= 1
    if task in ("inpaint", "colorize"):  # elsewhere a random network's answer hides in rounding
        other = run(engine, edit(task, control=replace(CONTROL, image=255 - own)))
        assert gap(held, other) > 1


@pytest.mark.parametrize("task", ["inpaint", "superres", "sketch"])
def test_an_edit_has_a_picture_beside_its_words(engine: Engine, task: str) -> None:
    adapter = IPAdapterSpec(path="tiny-ip", image=255 - picture())
    plain, held = run(engine, edit(task)), run(engine, edit(task, ip_adapter=adapter))
    assert gap(plain, held) > 1
    assert gap(plain, run(engine, edit(task, ip_adapter=replace(adapter, strength=0.0)))) <= 1
    half = run(engine, edit(task, ip_adapter=replace(adapter, end=0.5)))
    assert gap(half, plain) > 1 and gap(half, held) > 1


def test_a_morph_has_a_picture_beside_its_words_and_no_controlnet(engine: Engine) -> None:
    options = {"kind": "seeds", "frames": 3}
    adapter = IPAdapterSpec(path="tiny-ip", image=picture(), end=0.5)
    morph = edit("interpolate", options=options)
    assert gap(run(engine, morph), run(engine, replace(morph, ip_adapter=adapter))) > 1
    with pytest.raises(BadRequest, match="interpolate takes no ControlNet"):
        engine.validate(replace(morph, control=CONTROL))


def test_edits_that_follow_other_pictures_run_beside_each_other(engine: Engine) -> None:
    adapter = IPAdapterSpec(path="tiny-ip", image=picture())
    requests = [
        edit("inpaint", control=CONTROL),
        edit("inpaint", control=replace(CONTROL, kind="canny", strength=0.5), seed=4),
        edit("sketch", control=replace(CONTROL, end=0.5), count=2),
        edit("outpaint", control=CONTROL, ip_adapter=adapter),
        edit("inpaint", options={"method": "replace"}, control=CONTROL),
        edit("inpaint"),
    ]
    alone = [run(engine, request) for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        beside = list(pool.map(lambda request: run(engine, request), requests))
    assert all(gap(a, b) <= 1 for a, b in zip(alone, beside, strict=True))


def ramp(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, y + x], -1).astype(np.uint8)


def test_the_network_is_shown_the_part_that_is_sampled() -> None:
    own, other = ramp(80, 60), ramp(80, 60)[::-1].copy()
    view = View(size=(80, 60), box=Box(8, 12, 40, 44), frame=Frame(0, 0, 32, 32, 40, 40))
    shown = view.shown(CONTROL, own)
    assert shown.shape == (40, 40, 3)
    assert np.array_equal(shown[:32, :32], own[8:40, 12:44])
    assert np.array_equal(shown[32:, :32], own[32:40, 12:44][::-1])  # the frame's mirror
    assert np.array_equal(view.shown(replace(CONTROL, image=other), own)[:32, :32], other[8:40, 12:44])  # fmt: skip
    half = view.shown(replace(CONTROL, image=np.repeat(np.repeat(other, 2, 0), 2, 1)), own)
    assert np.abs(half[2:30, 2:30].astype(int) - other[10:38, 14:42]).max() <= 1


def test_beyond_its_own_picture_the_network_is_shown_nothing() -> None:
    own = ramp(40, 40) + 20
    view = View(size=(40, 60), frame=Frame(0, 0, 40, 60, 40, 60), own=Box(0, 20, 40, 60))
    shown = view.shown(CONTROL, own)
    assert np.array_equal(shown[:, 20:], own) and not shown[:, :20].any()
    outside = View(size=(40, 60), box=Box(0, 0, 40, 16), frame=Frame(0, 0, 40, 16, 40, 16), own=Box(0, 20, 40, 60))  # fmt: skip
    assert not outside.shown(CONTROL, own).any()


def test_a_tile_of_the_network_is_shown_its_part() -> None:
    control = torch.arange(48 * 64.0).reshape(1, 1, 48, 64).repeat(2, 3, 1, 1)
    cond = Cond(tensors={"control": control, "other": torch.zeros(2, 4)}, batch=2)

    def steps() -> Any:
        return (yield Predict(torch.zeros(2, 4, 6, 8), torch.zeros(2), cond))

    ask = next(tiled(steps(), 4, 4))
    parts = ask.cond.tensors["control"]
    assert parts.shape == (len(ask.x_t), 3, 32, 32) and len(ask.x_t) % 2 == 0
    assert torch.equal(parts[0], control[0, :, :32, :32])
    assert torch.equal(parts[-1], control[1, :, -32:, -32:])


def test_a_tile_of_a_large_picture_follows_its_part_of_another() -> None:
    large = edit("superres", image=ramp(100, 200), control=replace(CONTROL, image=ramp(50, 100)))
    part = _part(large, Box(0, 100, 50, 200))
    assert part is not None and part.image is not None
    assert np.array_equal(part.image, ramp(50, 100)[:25, 50:])
    assert _part(replace(large, control=CONTROL), Box(0, 0, 50, 50)) is CONTROL


def test_settings_say_whose_picture_it_followed() -> None:
    told = to_settings(edit("inpaint", control=CONTROL))["control"]
    assert told["path"] == "tiny" and "picture" not in told
    assert "picture" in to_settings(edit("inpaint", control=replace(CONTROL, image=picture())))["control"]  # fmt: skip
