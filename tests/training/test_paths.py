"""Solved paths of the teacher's ODE: against a closed form, stock DPM-Solver++, and within `lcd`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from pydantic import ValidationError
from torch import Tensor

from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.maths.solvers import dpmpp_2m_step
from lcm_studio.operators import LUMA
from tests import tiny
from training.loop import Trainer
from training.objectives.known import known_part
from training.objectives.latent import consistency_output, distance
from training.objectives.paths import BLOCK, KEPT, Block, PathOptions, Paths, block
from training.recipes import find
from training.recipes.base import Draw
from training.recipes.students import part
from training.rng import generator

SCHEDULE = NoiseSchedule.from_config({"prediction_type": "v_prediction"})
OPTIONS = PathOptions(
    count=6 * BLOCK, seed=1, grid=50, skip=20, noise=0.5, own=0.5, edits=0.0, w_min=0, w_max=4, w_power=1.5
)  # fmt: skip
DATA_SIGMA = 0.7


class Gaussian:
    """A teacher of data N(0, s^2): the ODE's paths and f are known, x_t = sqrt(a^2 s^2 + sigma^2) u."""

    shape = (1, 2, 2)
    device = torch.device("cpu")
    schedule = SCHEDULE

    def __init__(self) -> None:
        self.solved: list[int] = []

    def data(self, examples: Sequence[tuple[int, int]]) -> Tensor:
        return torch.stack([torch.full(self.shape, i / 100 + epoch) for i, epoch in examples])

    def teacher(self, block: Block) -> Callable[[Tensor, Tensor], Tensor]:
        self.solved.append(block.number)

        def x0(x: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = SCHEDULE.alpha_sigma(t, x)
            return alpha * DATA_SIGMA**2 / (alpha**2 * DATA_SIGMA**2 + sigma**2) * x

        return x0

    def student(self, block: Block) -> Callable[[Tensor, Tensor], Tensor]:
        return self.true_f

    @staticmethod
    def true_f(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = SCHEDULE.alpha_sigma(t, x)
        return DATA_SIGMA * x / (alpha**2 * DATA_SIGMA**2 + sigma**2).sqrt()


def paths(folder: Path, options: PathOptions = OPTIONS, guide: Gaussian | None = None) -> Paths:
    return Paths(options, guide or Gaussian(), 40, folder, "key")


def test_ends_are_the_true_consistency_function(tmp_path: Path) -> None:
    found = paths(tmp_path)
    assert found.fill() == len(found) == 6 * BLOCK
    drawn = found.draw(400, torch.Generator().manual_seed(0))
    wanted = Gaussian.true_f(drawn.x_t, drawn.t)
    assert (drawn.end - wanted).norm() / wanted.norm() < 0.02  # the solver's error
    starts = {b.start for b in found.blocks}
    assert starts == {"noise", "data", "own"}
    assert (drawn.t % 20 == 19).all()
    assert (drawn.w >= 0).all()
    assert (drawn.w <= 4).all()


@pytest.mark.parametrize(("shift", "eta"), [(1.0, 1.0), (2.0, 0.7), (3.0, 0.0)])
def test_own_paths_start_where_the_sampler_comes_to(
    tmp_path: Path, shift: float, eta: float
) -> None:
    """f of data N(0, s^2) is linear, so a step is x' = c x + sigma' eta z, and the variance is known."""
    options = replace(OPTIONS, count=40 * BLOCK, noise=0.0, own=1.0, shift=shift, eta=eta)
    found = paths(tmp_path, options)
    for number, made in enumerate(found.blocks):
        levels = lcm_timesteps(len(made.chain), 50, 1000, shift=shift)
        assert [20 * (i + 1) - 1 for i in made.chain] == levels
        assert made.first == made.chain[made.stop]
        if number % 8:
            continue
        variance, whole = 1.0, 1.0
        for level, after in pairwise(levels[: made.stop + 1]):
            a, s, a_next, s_next = (
                SCHEDULE.alphas_cumprod[t].item() for t in (level, level, after, after)
            )
            a, s, a_next, s_next = a**0.5, (1 - s) ** 0.5, a_next**0.5, (1 - s_next) ** 0.5
            f = DATA_SIGMA / (a**2 * DATA_SIGMA**2 + s**2) ** 0.5
            c = a_next * f + s_next * (1 - eta**2) ** 0.5 * (1 - a * f) / s
            variance, whole = c**2 * variance + (s_next * eta) ** 2, c * whole
        start = found.solve(made)[:, 0]
        if eta == 0:
            g = generator(options.seed, "path-noise", number)
            z = torch.randn(start.shape, generator=g)
            assert torch.allclose(start, whole * z, rtol=1e-3, atol=1e-4)
        else:
            assert start.std().item() == pytest.approx(variance**0.5, rel=0.2)


def test_paths_of_another_sampler_are_other_paths(tmp_path: Path) -> None:
    paths(tmp_path, replace(OPTIONS, count=4 * BLOCK)).fill()
    again = Gaussian()
    other = paths(tmp_path, replace(OPTIONS, count=4 * BLOCK, eta=0.5), again)
    own = [b.number for b in other.blocks if b.start == "own"]
    assert other.fill() == len(own) * BLOCK
    assert again.solved == own


def test_a_coarser_solver_is_seen_to_be_worse(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = []
    for stride in (2, 12):
        monkeypatch.setattr("training.objectives.paths.STRIDE", stride)
        found = paths(tmp_path / str(stride))
        found.fill()
        drawn = found.draw(400, torch.Generator().manual_seed(0))
        errors.append((drawn.end - Gaussian.true_f(drawn.x_t, drawn.t)).norm())
    assert errors[1] > 2 * errors[0]


def test_the_solver_is_stock_dpm_solver() -> None:
    stock = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing",
        prediction_type="sample", lower_order_final=False, use_lu_lambdas=False,
    )  # fmt: skip
    stock.set_timesteps(10)
    bars = [1 / (1 + float(s) ** 2) for s in stock.sigmas]
    x = wanted = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    before = None
    for k, t in enumerate(stock.timesteps[:-1]):
        x0 = torch.tanh(x) * (1 + k / 10)  # any function will do
        wanted_x0 = torch.tanh(wanted) * (1 + k / 10)
        wanted = stock.step(wanted_x0, t, wanted).prev_sample
        x = dpmpp_2m_step(x, x0, (bars[k], bars[k + 1]), before=before)
        before = (x0, bars[k])
        assert torch.allclose(x, wanted, rtol=1e-4, atol=1e-5)


def test_what_is_there_is_not_solved_again(tmp_path: Path) -> None:
    first = Gaussian()
    paths(tmp_path, replace(OPTIONS, count=3 * BLOCK), first).fill()
    again = Gaussian()
    assert paths(tmp_path, replace(OPTIONS, count=3 * BLOCK), again).fill() == 0
    assert first.solved == [0, 1, 2]
    assert again.solved == []


def test_more_paths_and_other_own_ones_take_what_is_the_same(tmp_path: Path) -> None:
    few, many, other = (Gaussian() for _ in range(3))
    options = replace(OPTIONS, count=8 * BLOCK)

    def fill(options: PathOptions, guide: Gaussian, student: str) -> list[str]:
        found = Paths(options, guide, 40, tmp_path, "key", student)
        found.fill()
        return [found.blocks[number].start for number in guide.solved]

    starts = fill(options, few, "one")
    assert set(starts) == {"noise", "data", "own"}
    assert fill(replace(options, count=10 * BLOCK), many, "one") == [
        block(options, number, 40).start for number in (8, 9)
    ]
    assert set(fill(options, other, "two")) == {"own"}  # another student's paths are others
    assert len(other.solved) == starts.count("own")


def test_blocks_follow_from_seed_and_number_alone() -> None:
    for number in range(40):
        one, two = block(OPTIONS, number, 40), block(OPTIONS, number, 40)
        assert torch.equal(one.w, two.w)
        assert (one.start, one.first, one.examples) == (two.start, two.first, two.examples)
        assert one.indices()[0] == one.first
        assert one.indices()[-1] == 0
        assert one.indices() == sorted(set(one.indices()), reverse=True)
        assert len(one.kept(1)) == KEPT
        assert one.kept(1)[0] == 0
        assert max(one.kept(1)) < len(one.indices())
    assert not torch.equal(block(OPTIONS, 0, 40).w, block(replace(OPTIONS, seed=2), 0, 40).w)
    counted = [block(OPTIONS, n, 40).start for n in range(200)]
    assert abs(counted.count("noise") - 100) < 6
    assert abs(counted.count("own") - 50) < 6


def test_own_paths_start_where_the_students_sampler_is() -> None:
    seen = set()
    for number in range(300):
        found = block(OPTIONS, number, 40)
        if found.start == "own":
            levels = lcm_timesteps(len(found.chain))
            assert [20 * (i + 1) - 1 for i in found.chain] == list(levels)
            assert levels[found.stop] == 20 * (found.first + 1) - 1
            seen.add((found.chain, found.stop))
    assert len(seen) > 8


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("paths")
    for kind in ("sd-plain", "sdxl"):
        tiny.save(kind, root / kind)
    return {
        "teacher": str(root / "sd-plain"), "time_cond_proj_dim": 16, "steps": 2, "batch_size": 4, "log_every": 1,
        "device": "cpu", "ema_decay": 0.5, "resolution": 64, "paths": 2 * BLOCK, "ddim_steps": 10,
        "data": {"kind": "scenes", "count": 8, "cache": str(root / "cache")},
    }  # fmt: skip


def built(fields: dict[str, Any], **more: Any) -> Any:
    recipe = find("lcd")
    torch.manual_seed(0)
    made: Any = recipe(recipe.Config(**fields | more), torch.device("cpu"))
    made.build()
    return made


def drawn(made: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    examples = tuple((i, 0) for i in range(4))
    found: dict[str, Tensor] = made.batch(Draw(step=0, examples=examples, generator=generator))
    return found


@pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
def test_rows_on_paths_have_their_end_as_target(kind: str, fields: dict[str, Any]) -> None:
    made = built(fields, path_share=0.5, teacher=str(Path(fields["teacher"]).parent / kind))
    batch = drawn(made)
    rows = part("path_", batch)
    assert len(rows["end"]) == len(batch["z"]) == 2
    emb, arguments = made.embedded(rows), made.arguments(rows)
    output = consistency_output(
        lambda x, t: made.student(x, t, timestep_cond=emb, **arguments).sample,
        rows["x_t"], rows["t"], made.schedule,
    )  # fmt: skip
    wanted = distance(output, rows["end"], c=made.config.huber_c)
    first = made.loss({k: v for k, v in batch.items() if not k.startswith("path_")})
    assert torch.allclose(made.loss(batch), (2 * first + wanted.sum()) / 4, rtol=1e-5)


def test_the_teacher_is_guided_at_the_levels_below(fields: dict[str, Any]) -> None:
    """Both where it solves paths, and in the solver of Algorithm 1."""
    more = {"path_share": 0.5, "w_min": 3.0}
    plain, never, low = (
        built(fields, **more | {"guided_below": below}) for below in (1000, 1, 500)
    )
    none = built(fields, path_share=0.5, w_min=0.0, w_max=0.0)
    b = next(b for b in plain.paths.blocks if b.start == "noise")
    ends = [made.paths.solve(b)[:, -1] for made in (plain, never, low)]
    unguided = none.paths.solve(replace(b, w=0 * b.w))[:, -1]
    assert torch.allclose(ends[1], unguided, atol=1e-5)
    assert not torch.allclose(ends[0], unguided, atol=1e-3)
    assert not torch.allclose(ends[2], unguided, atol=1e-3)
    assert not torch.allclose(ends[2], ends[0], atol=1e-3)
    batch = drawn(plain)
    batch["t_nk"], batch["t_n"] = torch.tensor([599, 499]), torch.tensor([499, 399])
    steps = [
        made.solver(made.teacher, batch)(batch["z"], batch["t_nk"], batch["t_n"])
        for made in (plain, never, low)
    ]
    assert torch.equal(steps[2][0], steps[1][0])  # 599: by the prompt alone
    assert torch.equal(steps[2][1], steps[0][1])  # 499: guided
    assert not torch.allclose(steps[0], steps[1], atol=1e-3)


def test_without_paths_the_batch_is_as_published(fields: dict[str, Any]) -> None:
    plain, none = drawn(built(fields)), drawn(built(fields, path_noise=0.1))
    assert plain.keys() == none.keys()
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    some = drawn(built(fields, path_share=0.5))
    assert torch.equal(some["z"], plain["z"][:2])


def test_a_run_with_own_paths_stops_and_goes_on_the_same(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    recipe = find("lcd")
    student = tmp_path / "student" / "output"

    def trainer(folder: Path, **more: Any) -> Trainer:
        config = recipe.Config(**fields | {"path_share": 0.5, "checkpoint_every": 1} | more)
        made = Trainer(recipe(config, torch.device("cpu")), folder, quiet=True)
        made.prepare()
        return made

    first = trainer(student.parent)
    first.run()
    first.export()
    own = {"path_own": 1.0, "path_noise": 0.2, "start_from": str(student), "seed": 5}
    whole = trainer(tmp_path / "whole", **own)
    whole.run()
    assert {b.start for b in whole.recipe.paths.blocks} >= {"own"}  # type: ignore[attr-defined]
    halted = trainer(tmp_path / "halted", **own)
    halted.monitor.stop = True
    assert not halted.run()
    resumed = trainer(tmp_path / "halted", **own)
    assert resumed.resume()
    assert resumed.run()
    for one, two in zip(whole.state.parameters, resumed.state.parameters, strict=True):
        assert torch.equal(one, two)


def test_own_paths_without_a_student_are_refused() -> None:
    with pytest.raises(ValidationError, match="start_from"):
        find("lcd").Config(teacher="x", path_share=0.5, path_own=0.5)


def test_edit_blocks_start_within_an_edit() -> None:
    options = replace(OPTIONS, noise=0.1, own=0.2, edits=0.6)
    found = [block(options, number, 40) for number in range(300)]
    kinds = [b.start for b in found]
    assert abs(kinds.count("edit") - 162) < 8
    assert abs(kinds.count("own") - 54) < 8
    for b in found:
        if b.start == "edit":
            assert b.first == b.chain[b.stop]
            assert b.chain == tuple(sorted(set(b.chain), reverse=True))
            assert 1 <= b.chain[-1] <= b.chain[0] <= 49
    deep, shallow = ([b.chain[k] for b in found if b.start == "edit"] for k in (0, -1))
    assert max(deep) > 44
    assert min(deep) < 20
    assert min(shallow) < 8


def test_estimates_on_the_way_get_the_known_part(tmp_path: Path) -> None:
    """The start is noised from what `known` gave back, never from the student's estimate."""

    class Edits(Gaussian):
        def edit(
            self, block: Block, g: torch.Generator
        ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            zero = torch.zeros((BLOCK, *self.shape))
            return zero, lambda estimate: estimate * 0 + 3.0

    options = replace(OPTIONS, noise=0.0, own=0.0, edits=1.0, count=20 * BLOCK)
    found = paths(tmp_path, options, Edits())
    means = {}
    for b in found.blocks:
        start = found.solve(b)[:, 0]
        alpha, sigma = SCHEDULE.alpha_sigma(torch.tensor([20 * (b.first + 1) - 1]), start)
        x0, spread = 3.0 if b.stop else 0.0, float(sigma) / start.numel() ** 0.5
        means[b.stop] = abs(float(start.mean()) - float(alpha) * x0) / spread
    assert len(means) > 3
    assert max(means.values()) < 4


def test_known_parts_are_kept() -> None:
    pictures = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    kinds = set()
    for seed in range(12):
        start, project = known_part(pictures, torch.Generator().manual_seed(seed))
        assert start.shape == pictures.shape
        assert start.abs().max() < 1.2
        out = project(torch.zeros_like(pictures))
        same = (out - pictures).abs().amax(1) < 1e-5
        if torch.allclose(start[:, 0], start[:, 1]):
            kinds.add("colours")
            luma = torch.tensor(LUMA)[:, None, None]
            assert ((out - pictures) * luma).sum(1).abs().max() < 1e-5
            assert ((start - pictures) * luma).sum(1).abs().max() < 1e-5
        else:
            kinds.add("holes")
            assert 0.05 < float((~same).float().mean()) < 0.7
            assert torch.equal(
                start[same[:, None].expand_as(start)], pictures[same[:, None].expand_as(start)]
            )
    assert kinds == {"colours", "holes"}
    again = known_part(pictures, torch.Generator().manual_seed(11))[0]
    assert torch.equal(again, start)


def test_a_run_learns_from_edits(fields: dict[str, Any], tmp_path: Path) -> None:
    student = tmp_path / "student"
    recipe = find("lcd")
    first = Trainer(recipe(recipe.Config(**fields), torch.device("cpu")), student, quiet=True)
    first.prepare()
    first.run()
    first.export()
    made = built(
        fields, path_share=0.5, path_noise=0.0, path_edits=1.0, start_from=str(student / "output")
    )
    assert {b.start for b in made.paths.blocks} == {"edit"}
    batch = drawn(made)
    assert len(batch["path_end"]) == 2
    assert torch.isfinite(made.loss(batch))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"path_edits": 0.5}, "path_edits=0.5 needs a student"),
        ({"path_edits": 0.6, "path_own": 0.5, "start_from": "x"}, "more than 1 together"),
    ],
)
def test_shares_of_edits_that_cannot_be_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        find("lcd").Config(teacher="x", path_share=0.5, **more)
