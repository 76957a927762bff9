"""Rows of `dmd` that are edits: what they start from and hold, and where the student's gradient goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler
from diffusers.schedulers import scheduling_lcm

from tests import tiny
from tests.training.test_dmd import drawn, made
from tests.training.toy import assert_same_networks
from training.objectives.given import coarse, given_parts
from training.recipes import find
from training.recipes.base import Draw
from training.rng import generator


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dmd-edits")
    for kind in ("sd-plain", "sdxl"):
        tiny.save(kind, folder / kind)
    return folder


def test_a_hole_is_filled_from_its_border() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    z = torch.stack([y + x, y - 2 * x])[None].repeat(60, 1, 1, 1)
    starts, held = given_parts(z, z, torch.Generator().manual_seed(0))
    # a plane is as smooth as can be; where a hole meets the picture's edge, nothing says how it goes on
    inner = held[:, 0, 0].all(1) & held[:, 0, -1].all(1) & held[:, 0, :, [0, -1]].all((1, 2))
    assert inner.any()
    torch.testing.assert_close(starts[inner], z[inner])


def test_a_coarse_picture_has_the_means_of_its_squares() -> None:
    z = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = coarse(z, 4)
    assert torch.allclose(found[:, :4, 4:], z[:, :4, 4:].mean((1, 2))[:, None, None])
    assert coarse(z[:, :3, :3], 4).shape == (3, 3, 3)


def test_every_kind_of_edit_has_its_share() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(400, 2, 8, 8, generator=g)
    starts, held = given_parts(z, z.roll(1, 0), g)
    holes = held.flatten(1).any(1)
    assert abs(float(holes.float().mean()) - 0.6) < 0.06
    assert torch.equal(torch.where(held, starts, 0), torch.where(held, z, 0))
    shares = (~held[holes]).float().mean((1, 2, 3))
    assert float(shares.min()) > 0.05 and float(shares.max()) < 0.7
    mixed = (starts - (z + z.roll(1, 0)) / 2).flatten(1).abs().amax(1) == 0
    assert 0.08 < float(mixed.float().mean()) < 0.22


def test_rows_go_as_edits_of_the_stock_sampler_do(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each estimate gets the held part back before its noise, in the row's own falling levels."""
    recipe: Any = made(root, tmp_path, sampler_steps=(4,), edit_share=0.9, keep_share=0).recipe
    examples = tuple((i % 6, 0) for i in range(12))
    batch = recipe.batch(Draw(step=0, examples=examples, generator=generator(3, "draw")))
    found, depth = recipe.simulated(batch), 0
    scheduler: LCMScheduler = recipe.lcm_scheduler()
    for row, t in enumerate(batch["t"].tolist()):
        mine = {name: v[row : row + 1] for name, v in batch.items() if v.ndim}
        x, k = mine["x"], 0
        while f"from_{k}" in batch and row < len(batch[f"from_{k}"]):
            here, after = (int(batch[f"{name}_{k}"][row]) for name in ("from", "to"))
            assert here > after >= t
            scheduler.set_timesteps(timesteps=[here, after])
            with torch.no_grad():
                said = recipe.student(x, torch.tensor([here]), **recipe.told(mine)).sample
            monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: torch.zeros(()))
            x0 = scheduler.step(said, here, x).denoised
            whole = torch.where(mine["held"], mine["given"], x0)
            x = scheduler.add_noise(
                whole, batch[f"fresh_{k}"][row : row + 1], torch.tensor([after])
            )
            k, depth = k + 1, max(depth, k + 1)
        torch.testing.assert_close(found[row : row + 1], x, rtol=1e-4, atol=1e-4)
    assert depth > 1, "no row has two steps behind it"


def test_edits_stay_at_the_samplers_levels_and_some_have_no_words(
    root: Path, tmp_path: Path
) -> None:
    recipe: Any = made(root, tmp_path, edit_share=0.5, batch_size=6, keep_share=0).recipe
    batch = drawn(recipe, 6)
    lowest = min(min(chain) for chain in recipe.chains)
    assert lowest <= int(batch["t"].min()) and int(batch["t"].max()) <= 999
    blank, bare = recipe.texts([""])["context"], 0
    for step in range(60):
        draw = Draw(step=step, examples=((0, 0), (1, 0)), generator=generator(3, "draw", step))
        batch = recipe.batch(draw)  # one plain row and one edit, which may come to its turn first
        silent = sum(torch.equal(row[None], blank) for row in batch["context"])
        assert silent <= 1
        bare += silent
    assert 10 <= bare <= 32


def test_the_student_learns_from_the_part_that_is_not_held(root: Path, tmp_path: Path) -> None:
    recipe: Any = made(root, tmp_path, edit_share=0.9, keep_share=0, fake_warmup=0).recipe
    batch = drawn(recipe, 6)
    estimate = torch.randn(batch["x"].shape, requires_grad=True)
    recipe.f = lambda unet, rows: lambda x, t: estimate
    first_steps = {name: v for name, v in batch.items() if not name.startswith("fresh_")}
    recipe.loss(first_steps).backward()
    assert estimate.grad is not None
    held = batch["held"].expand_as(estimate)
    assert held.any() and not estimate.grad[held].any() and estimate.grad[~held].any()


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_a_run_with_edits_resumes_to_the_same_bits(kind: str, root: Path, tmp_path: Path) -> None:
    more = {
        "kind": kind,
        "checkpoint_every": 1,
        "edit_share": 0.5,
        "adversarial_weight": 0.5,
        "fake_warmup": 0,
    }
    whole = made(root, tmp_path / "whole", **more, steps=2)
    assert whole.run()
    first = made(root, tmp_path / "parts", **more, steps=1)
    assert first.run()
    second = made(root, tmp_path / "parts", **more, steps=2)
    assert second.resume() and second.run()
    assert_same_networks(whole, second)


def test_edits_read_pictures() -> None:
    assert find("dmd").Config(keep_share=0, edit_share=0.1).reads_pictures
