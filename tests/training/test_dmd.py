"""Distribution matching: its gradient and where it leads in closed form, and the recipe on tiny networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, LCMScheduler
from diffusers.schedulers import scheduling_lcm
from pydantic import ValidationError
from torch import Tensor

from lcm_studio.maths.schedule import NoiseSchedule
from tests import tiny
from tests.training.toy import assert_same_networks
from training.loop import Trainer
from training.objectives.critic import hinge
from training.objectives.distribution import distribution_loss
from training.objectives.judge import Judge, watched
from training.plan import cache_bytes
from training.recipes import find
from training.recipes.base import Draw
from training.rng import generator

SCHEDULE = NoiseSchedule.from_config({"prediction_type": "v_prediction"})
SMALL = {"steps": 3, "log_every": 1, "device": "cpu", "ema_decay": 0.5, "resolution": 64}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dmd")
    for kind in ("sd-plain", "sdxl"):
        tiny.save(kind, folder / kind)
    return folder


def made(root: Path, folder: Path, kind: str = "sd-plain", **fields: Any) -> Trainer:
    recipe = find("dmd")
    data = {"kind": "scenes", "count": 6, "cache": str(root / "cache")}
    given = SMALL | {"batch_size": 4, "teacher": str(root / kind), "data": data} | fields
    trainer = Trainer(recipe(recipe.Config(**given), torch.device("cpu")), folder, quiet=True)
    trainer.prepare()
    return trainer


def test_the_gradient_is_the_difference_of_the_two_models() -> None:
    g = torch.Generator().manual_seed(0)
    estimate, real, fake = (torch.randn(3, 2, 4, 4, generator=g) for _ in range(3))
    estimate.requires_grad_(True)
    distribution_loss(estimate, real, fake).sum().backward()
    size = (estimate.detach() - real).abs().mean((1, 2, 3), keepdim=True)
    assert estimate.grad is not None
    torch.testing.assert_close(estimate.grad, (fake - real) / size / 32)


def test_a_generator_comes_to_the_teachers_distribution() -> None:
    """x = a z + b against data N(m, s^2); both models are known, so nothing but the gradient acts."""
    m, s, g = 0.8, 0.5, torch.Generator().manual_seed(1)
    a, b = torch.tensor(1.5, requires_grad=True), torch.tensor(-1.0, requires_grad=True)

    def x0(x_t: Tensor, t: Tensor, mean: float, std: float) -> Tensor:
        alpha, sigma = SCHEDULE.alpha_sigma(t, x_t)
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return mean + gain * (x_t - alpha * mean)

    optimizer = torch.optim.Adam([a, b], lr=0.05)
    for _ in range(400):
        estimate = a * torch.randn(64, 1, 4, 4, generator=g) + b
        t = torch.randint(20, 980, (64,), generator=g)
        with torch.no_grad():
            x_t = SCHEDULE.add_noise(estimate, torch.randn(estimate.shape, generator=g), t)
            real, fake = x0(x_t, t, m, s), x0(x_t, t, float(b), float(a))
        optimizer.zero_grad()
        distribution_loss(estimate, real, fake).mean().backward()
        optimizer.step()
    assert float(a.detach()) == pytest.approx(s, abs=0.05)
    assert float(b.detach()) == pytest.approx(m, abs=0.05)


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_it_trains_and_stock_diffusers_opens_it(kind: str, root: Path, tmp_path: Path) -> None:
    trainer = made(root, tmp_path, kind, fake_warmup=1, validate_every=3, eta=0.7)
    assert trainer.run()
    trainer.export()
    assert json.loads((tmp_path / "output" / "studio.json").read_text()) == {"steps": 4, "eta": 0.7}
    assert (tmp_path / "samples" / "step-000003.png").exists()
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "output")
    pipe.set_progress_bar_config(disable=True)
    found = pipe(
        "lake", num_inference_steps=2, guidance_scale=3.0, height=64, width=64, output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images[0]  # fmt: skip
    assert np.isfinite(found).all()


def test_the_student_waits_for_the_model_of_its_pictures(root: Path, tmp_path: Path) -> None:
    trainer = made(root, tmp_path, fake_warmup=2, adam_weight_decay=0.0)
    recipe: Any = trainer.recipe
    before = {name: p.detach().clone() for name, p in recipe.student.named_parameters()}
    with trainer.batches() as batches:
        for step, batch in enumerate(batches):
            fake = [p.detach().clone() for p in recipe.fake.parameters()]
            trainer.micro_step(batch)
            trainer.state.advance()
            pairs = zip(fake, recipe.fake.parameters(), strict=True)
            assert any(not torch.equal(old, new) for old, new in pairs)
            still = all(torch.equal(p, before[n]) for n, p in recipe.student.named_parameters())
            assert still == (step < 2)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_rows_start_where_the_stock_sampler_comes_to(
    shift: float, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe: Any = made(root, tmp_path, sampler_steps=(1, 4), shift=shift, keep_share=0).recipe
    examples = tuple((i, 0) for i in range(5))  # one of one step, and each of four
    batch = recipe.batch(Draw(step=0, examples=examples, generator=generator(3, "draw")))
    levels = recipe.chains[1]
    assert sorted(batch["t"].tolist()) == sorted([levels[0], *levels])
    found = recipe.simulated(batch)
    scheduler: LCMScheduler = recipe.lcm_scheduler()
    for row, t in enumerate(batch["t"].tolist()):
        stop = levels.index(t)
        scheduler.set_timesteps(timesteps=levels)
        x = batch["x"][row : row + 1]
        mine = {name: v[row : row + 1] for name, v in batch.items() if v.ndim}
        for k in range(stop):
            fresh = batch[f"fresh_{k}"][row : row + 1]
            monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, z=fresh, **__: z)
            with torch.no_grad():
                said = recipe.student(x, torch.tensor([levels[k]]), **recipe.told(mine)).sample
            x = scheduler.step(said, levels[k], x).prev_sample
        torch.testing.assert_close(found[row : row + 1], x, rtol=1e-4, atol=1e-4)


def test_without_fresh_noise_a_row_is_one_of_ddim(root: Path, tmp_path: Path) -> None:
    recipe: Any = made(root, tmp_path, sampler_steps=(2,), eta=0.0, keep_share=0).recipe
    batch = recipe.batch(Draw(step=0, examples=((0, 0), (1, 0)), generator=generator(3, "draw")))
    other = {**batch, "fresh_0": batch["fresh_0"] + 1}
    assert torch.equal(recipe.simulated(batch), recipe.simulated(other))
    assert not torch.equal(
        recipe.simulated(batch)[0], batch["x"][0]
    )  # one that has a step behind it
    assert torch.equal(recipe.simulated(batch)[1], batch["x"][1])


def test_every_step_of_every_sampler_has_its_turn(root: Path, tmp_path: Path) -> None:
    recipe: Any = made(root, tmp_path, batch_size=2, keep_share=0).recipe
    counts: dict[int, int] = {}
    for step in range(7):
        draw = Draw(step=step, examples=((0, 0), (1, 0)), generator=generator(3, "draw", step))
        for t in recipe.batch(draw)["t"].tolist():
            counts[t] = counts.get(t, 0) + 1
    assert counts == {999: 6, 759: 2, 499: 4, 259: 2}


def test_more_steps_than_levels_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than ddim_steps=20 levels"):
        find("dmd").Config(ddim_steps=20, sampler_steps=(1, 25))
    with pytest.raises(ValidationError):
        find("dmd").Config(sampler_steps=())


def test_below_the_samplers_levels_the_student_stays_as_it_was(root: Path, tmp_path: Path) -> None:
    trainer = made(root, tmp_path, batch_size=8, keep_share=0.5, fake_warmup=0)
    recipe: Any = trainer.recipe
    draw = Draw(
        step=0, examples=tuple((i % 6, 0) for i in range(8)), generator=generator(3, "draw")
    )
    batch = recipe.batch(draw)
    assert (len(batch["x"]), len(batch["keep_x"])) == (4, 4)
    lowest = min(min(chain) for chain in recipe.chains)
    assert int(batch["keep_t"].max()) < lowest == 259
    with torch.no_grad():  # at the start nothing is to be mended there
        recipe.loss(batch)
        assert float(recipe.figures["keep_loss"]) < 1e-6
        for p in recipe.student.parameters():
            p.mul_(1.5)
        recipe.loss(batch)
        assert float(recipe.figures["keep_loss"]) > 1e-3
        again = recipe.batch(replace(draw, generator=generator(3, "draw")))
    torch.testing.assert_close(again["keep_end"], batch["keep_end"])  # what it was, not what it is


def judged(root: Path, folder: Path, **fields: Any) -> Trainer:
    return made(root, folder, adversarial_weight=0.5, fake_warmup=0, **fields)


def drawn(recipe: Any, count: int = 4) -> dict[str, Tensor]:
    examples = tuple((i, 0) for i in range(count))
    batch: dict[str, Tensor] = recipe.batch(
        Draw(step=0, examples=examples, generator=generator(3, "draw"))
    )
    return batch


def test_a_judge_reads_each_level_of_the_encoder(root: Path, tmp_path: Path) -> None:
    recipe: Any = judged(root, tmp_path, keep_share=0).recipe
    batch = drawn(recipe)
    with watched(recipe.fake) as features:
        recipe.fake(batch["x"], batch["fake_t"], **recipe.told(batch))
    side, channels = batch["x"].shape[-1], recipe.fake.config.block_out_channels
    assert [tuple(f.shape[1:]) for f in features] == [
        (wide, side >> level, side >> level) for level, wide in enumerate(channels)
    ]
    places = sum((side >> level) ** 2 for level in range(len(channels)))
    assert recipe.judge(features).shape == (4, places)
    recipe.fake(batch["x"], batch["fake_t"], **recipe.told(batch))
    assert len(features) == len(channels)  # nobody looks any longer


def test_a_judge_learns_to_tell_and_shows_the_way_to_the_data(root: Path, tmp_path: Path) -> None:
    recipe: Any = judged(root, tmp_path, keep_share=0).recipe
    told, g = recipe.told(drawn(recipe)), torch.Generator().manual_seed(4)
    shape, t = recipe.latent_shape, torch.full((4,), 200)
    judge = Judge(recipe.fake.config.block_out_channels)

    def scores(x0: Tensor) -> Tensor:
        x_t = recipe.schedule.add_noise(x0, torch.randn(x0.shape, generator=g), t)
        with watched(recipe.fake) as features:
            recipe.fake(x_t, t, **told)
        found: Tensor = judge(features)
        return found

    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(60):
        data, others = (torch.randn((4, *shape), generator=g) + mean for mean in (1.0, -1.0))
        loss = hinge(scores(data), real=True) + hinge(scores(others), real=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5
    x0 = (torch.randn((4, *shape), generator=g) - 1.0).requires_grad_(True)
    scores(x0).mean().backward()
    assert x0.grad is not None and float(x0.grad.mean()) > 0


def test_the_judge_moves_the_student_and_the_student_not_the_judge(
    root: Path, tmp_path: Path
) -> None:
    recipe: Any = judged(root, tmp_path).recipe
    batch = drawn(recipe)

    def gradients(pull: float) -> dict[str, list[Tensor]]:
        recipe.loss({**batch, "pull": torch.tensor(pull)}).backward()
        networks = {"unet": recipe.student, "fake": recipe.fake, "judge": recipe.judge}
        found = {
            name: [torch.zeros(()) if p.grad is None else p.grad.clone() for p in net.parameters()]
            for name, net in networks.items()
        }
        for network in networks.values():
            network.zero_grad()
        return found

    still, pulled = gradients(0.0), gradients(1.0)
    for name in ("fake", "judge"):
        assert any(g.any() for g in pulled[name])
        for a, b in zip(still[name], pulled[name], strict=True):
            torch.testing.assert_close(a, b)
    recipe.config = recipe.config.model_copy(update={"adversarial_weight": 0.0})
    alone = gradients(1.0)
    assert any(not torch.allclose(a, b) for a, b in zip(alone["unet"], pulled["unet"], strict=True))
    assert not any(g.any() for g in alone["judge"])


def test_without_a_judge_the_same_is_drawn(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Any = made(root, tmp_path / "a", fake_warmup=0).recipe
    other: Any = judged(root, tmp_path / "b").recipe
    shown: list[Draw] = []
    x0 = other.x0
    monkeypatch.setattr(other, "x0", lambda draw: shown.append(draw) or x0(draw))
    mine, theirs = drawn(plain), drawn(other)
    assert theirs.keys() - mine.keys() == {"real"}
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name])
    # the data that the judge sees has the captions of the student's rows
    (draw,) = shown
    captions = [other.source.caption(*example) for example in draw.examples]
    assert len(captions) == len(theirs["x"]) == len(theirs["real"]) == 3
    assert torch.equal(theirs["context"], other.texts(captions)["context"])


def test_a_judge_reads_a_network_that_makes_its_activations_again(
    root: Path, tmp_path: Path
) -> None:
    found = []
    for on in (False, True):
        recipe: Any = judged(root, tmp_path / str(on), gradient_checkpointing=on).recipe
        recipe.loss(drawn(recipe)).backward()
        networks = (recipe.student, recipe.fake, recipe.judge)
        found.append([p.grad for n in networks for p in n.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_a_judged_run_resumes_to_the_same_bits(kind: str, root: Path, tmp_path: Path) -> None:
    more = {"kind": kind, "checkpoint_every": 1, "batch_size": 2, "keep_share": 0}
    whole = judged(root, tmp_path / "whole", **more, steps=2)
    assert whole.run()
    first = judged(root, tmp_path / "parts", **more, steps=1)
    assert first.run()
    second = judged(root, tmp_path / "parts", **more, steps=2)
    assert second.resume() and second.run()
    assert set(whole.state.networks) == {"unet", "fake", "judge"}
    assert_same_networks(whole, second)


def test_without_keeping_and_judging_no_pictures_are_read(root: Path, tmp_path: Path) -> None:
    for fields, reads in (
        ({"keep_share": 0}, False),
        ({"keep_share": 0, "adversarial_weight": 1}, True),
    ):
        config = find("dmd").Config(teacher=str(root / "sd-plain"), **fields)
        assert config.reads_pictures is reads
        assert ("latents" in cache_bytes("dmd", config, 10)) is reads
