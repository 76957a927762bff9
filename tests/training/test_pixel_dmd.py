"""Distribution matching in pixels on tiny networks: its rows are the stock sampler's, and what it exports opens there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline
from diffusers.schedulers import scheduling_consistency_models as stock
from pydantic import ValidationError
from torch import Tensor

from tests.training.toy import assert_same_networks
from training.errors import TrainingFault
from training.loop import Trainer
from training.recipes import find
from training.recipes.base import Draw
from training.rng import generator

SMALL: dict[str, Any] = {"log_every": 1, "device": "cpu", "resolution": 16, "batch_size": 4}
NETWORK: dict[str, Any] = {
    "channels": (16, 32), "norm_groups": 8, "head_width": 8, "attention_levels": 1, "classes": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`edm`: a tiny teacher."""
    folder = tmp_path_factory.mktemp("pixel-dmd")
    trainer(find("edm"), folder / "edm", folder, steps=1, **NETWORK, validate_every=0).run()
    return folder


def trainer(recipe: Any, folder: Path, cache: Path, **fields: Any) -> Trainer:
    data = {"kind": "scenes", "count": 6, "cache": str(cache / "cache")}
    config = recipe.Config(**SMALL | {"data": data} | fields)
    made = Trainer(recipe(config, torch.device("cpu")), folder, quiet=True)
    made.prepare()
    if recipe.name == "edm":
        made.export()
    return made


def made(root: Path, folder: Path, **fields: Any) -> Trainer:
    given = {"teacher": str(root / "edm" / "output"), "classes": 4, "steps": 3, "fake_warmup": 0}
    return trainer(find("pixel-dmd"), folder, root, **given | fields)


def drawn(recipe: Any, count: int = 4) -> dict[str, Tensor]:
    examples = tuple((i % 6, 0) for i in range(count))
    batch: dict[str, Tensor] = recipe.batch(
        Draw(step=0, examples=examples, generator=generator(3, "draw"))
    )
    return batch


@pytest.mark.parametrize("classes", [0, 4])
def test_it_trains_and_stock_diffusers_opens_it(classes: int, root: Path, tmp_path: Path) -> None:
    teacher = root / "edm"
    if not classes:
        teacher = tmp_path / "edm"
        trainer(find("edm"), teacher, root, **NETWORK | {"classes": 0}, steps=1)
    fields = {"teacher": str(teacher / "output"), "classes": classes, "adversarial_weight": 0.5}
    run = made(root, tmp_path / "run", **fields, validate_every=3, ema_decay=0.5)
    assert run.run()
    run.export()
    output = tmp_path / "run" / "output"
    assert json.loads((output / "studio.json").read_text()) == {"steps": 4}
    assert (tmp_path / "run" / "samples" / "step-000003.png").exists()
    pipe = ConsistencyModelPipeline.from_pretrained(output)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe(num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (16, 16, 3) and np.isfinite(picture).all()


def test_rows_start_where_the_stock_sampler_comes_to(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe: Any = made(root, tmp_path, sampler_steps=(1, 2, 4), keep_share=0).recipe
    batch = drawn(recipe, 7)  # every step of every sampler
    found = recipe.simulated(batch)
    scheduler = CMStochasticIterativeScheduler(num_train_timesteps=40)
    for row, t in enumerate(batch["t"].tolist()):
        chain = next(c for c in recipe.chains if t in c and len(c) == chain_length(batch, row))
        scheduler.set_timesteps(len(chain))
        x = batch["x"][row : row + 1]
        for k in range(chain.index(t)):
            fresh = batch[f"fresh_{k}"][row : row + 1]
            monkeypatch.setattr(stock, "randn_tensor", lambda *_, z=fresh, **__: z)
            step = scheduler.timesteps[k]
            with torch.no_grad():
                said = recipe.student(
                    scheduler.scale_model_input(x, step),
                    step,
                    class_labels=batch["labels"][row : row + 1],
                ).sample
            x = scheduler.step(said, step, x).prev_sample
        torch.testing.assert_close(found[row : row + 1], x, rtol=1e-4, atol=1e-3)


def chain_length(batch: dict[str, Tensor], row: int) -> int:
    """Rows of four steps come back to their second level after one, those of two to theirs."""
    stop = sum(1 for k in range(3) if f"from_{k}" in batch and row < len(batch[f"from_{k}"]))
    first = float(batch["to_0"][row]) if stop else None
    if first is None:
        return 1
    return 2 if first < 5 else 4


def test_below_the_samplers_levels_the_student_stays_as_it_was(root: Path, tmp_path: Path) -> None:
    recipe: Any = made(root, tmp_path, keep_share=0.5).recipe
    batch = drawn(recipe, 8)
    assert (len(batch["x"]), len(batch["keep_x"])) == (4, 4)
    lowest = min(min(chain) for chain in recipe.chains)
    assert float(batch["keep_t"].min()) >= 0.002 and float(batch["keep_t"].max()) < lowest
    with torch.no_grad():
        recipe.loss(batch)
        assert float(recipe.figures["keep_loss"]) < 1e-6
        for p in recipe.student.parameters():
            p.mul_(1.5)
        recipe.loss(batch)
        assert float(recipe.figures["keep_loss"]) > 1e-3


def test_the_judge_moves_the_student_and_the_student_not_the_judge(
    root: Path, tmp_path: Path
) -> None:
    recipe: Any = made(root, tmp_path, adversarial_weight=0.5).recipe
    batch = drawn(recipe)

    def gradients(pull: float) -> list[Tensor]:
        recipe.loss({**batch, "pull": torch.tensor(pull)}).backward()
        learning = [*recipe.fake.parameters(), *recipe.judge.parameters()]
        found = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in learning]
        for p in (*learning, *recipe.student.parameters()):
            p.grad = None
        return found

    still, pulled = gradients(0.0), gradients(1.0)
    assert any(g.any() for g in still)
    for a, b in zip(still, pulled, strict=True):
        torch.testing.assert_close(a, b)


def test_it_resumes_to_the_same_bits(root: Path, tmp_path: Path) -> None:
    more = {"checkpoint_every": 1, "adversarial_weight": 0.5}
    whole = made(root, tmp_path / "whole", **more, steps=2)
    assert whole.run()
    assert made(root, tmp_path / "parts", **more, steps=1).run()
    second = made(root, tmp_path / "parts", **more, steps=2)
    assert second.resume() and second.run()
    assert set(whole.state.networks) == {"unet", "fake", "judge"}
    assert_same_networks(whole, second)


def test_what_does_not_fit_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFault, match="pixel-dmd needs teacher"):
        made(root, tmp_path / "a", teacher="")
    with pytest.raises(ValidationError, match="more than levels=40"):
        made(root, tmp_path / "b", sampler_steps=(1, 50))
    trainer(find("edm"), tmp_path / "other", root, **NETWORK | {"classes": 2}, steps=1)
    with pytest.raises(TrainingFault, match="2 classes and the student 4"):
        made(
            root, tmp_path / "c",
            teacher=str(tmp_path / "other" / "output"), start_from=str(root / "edm" / "output"),
        )  # fmt: skip
