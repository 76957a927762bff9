"""Solved paths of the teacher's ODE: against a closed form, stock DPM-Solver++, and within `lcd`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from tests import tiny
from training.losses import consistency_output, distance
from training.paths import BLOCK, KEPT, Block, PathOptions, Paths, block
from training.recipes import find
from training.recipes.base import Draw
from training.trainer import Trainer

SCHEDULE = NoiseSchedule.from_config({"prediction_type": "v_prediction"})
OPTIONS = PathOptions(
    count=6 * BLOCK, seed=1, grid=50, skip=20, noise=0.5, own=0.5, w_min=0, w_max=4, w_power=1.5
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


def test_a_coarser_solver_is_seen_to_be_worse(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = []
    for stride in (2, 12):
        monkeypatch.setattr("training.paths.STRIDE", stride)
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
            levels = lcm_timesteps(found.chain)
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
    assert len(batch["ends"]) == 2
    assert all(len(rows) == 4 for name, rows in batch.items() if name != "ends")
    emb, arguments = made.embedded(batch), made.arguments(batch)
    output = consistency_output(
        lambda x, t: made.student(x, t, timestep_cond=emb, **arguments).sample,
        batch["x_t"], batch["t"], made.schedule,
    )  # fmt: skip
    wanted = distance(output[2:], batch["ends"], c=made.config.huber_c)
    plain = {name: rows[:2] for name, rows in batch.items() if name != "ends"}
    first = made.loss(plain)
    assert torch.allclose(made.loss(batch), (2 * first + wanted.sum()) / 4, rtol=1e-5)


def test_without_paths_the_batch_is_as_published(fields: dict[str, Any]) -> None:
    plain, none = drawn(built(fields)), drawn(built(fields, path_noise=0.1))
    assert plain.keys() == none.keys()
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    part = drawn(built(fields, path_share=0.5))
    assert torch.equal(part["x0"][:2], plain["x0"][:2])


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
    halted._stop = True
    assert not halted.run()
    resumed = trainer(tmp_path / "halted", **own)
    assert resumed.resume()
    assert resumed.run()
    for one, two in zip(whole.flat, resumed.flat, strict=True):
        assert torch.equal(one, two)


def test_own_paths_without_a_student_are_refused() -> None:
    with pytest.raises(ValidationError, match="start_from"):
        find("lcd").Config(teacher="x", path_share=0.5, path_own=0.5)
