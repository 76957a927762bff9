"""The critic of `lcd` against what it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from training.loop import Trainer
from training.objectives.critic import Critic, frozen, hinge, pulled
from training.recipes import find
from training.recipes.base import Draw

KINDS = ("sd-plain", "sdxl")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("adversary")
    for kind in KINDS:
        tiny.save(kind, root / kind)
    return {
        "teacher": str(root / "sd-plain"),
        "time_cond_proj_dim": 16,
        "steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "device": "cpu",
        "ema_decay": 0.5,
        "resolution": 64,
        "data": {"kind": "scenes", "count": 8, "cache": str(root / "cache")},
    }


def built(fields: dict[str, Any], **more: Any) -> Any:
    recipe = find("lcd")
    torch.manual_seed(0)
    made: Any = recipe(recipe.Config(**fields | more), torch.device("cpu"))
    made.build()
    return made


def draw(made: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    examples = tuple((i, 0) for i in range(made.config.batch_size))
    found: dict[str, torch.Tensor] = made.batch(
        Draw(step=0, examples=examples, generator=generator)
    )
    return found


def test_the_pull_has_the_share_it_is_told() -> None:
    torch.manual_seed(0)
    critic, context = Critic(4, context=6).double(), torch.randn(3, 5, 6).double()
    parts = [torch.randn(n, 4, 8, 8).double().requires_grad_() for n in (2, 1)]
    wanted = torch.randn(3, 4, 8, 8).double()
    output = torch.cat(parts)
    consistency = (output - wanted).abs().mean()
    near = torch.cat(torch.autograd.grad(consistency, parts, retain_graph=True))
    scores = frozen(critic, output, context)
    loss = pulled(consistency, scores, parts, 0.5)
    torch.testing.assert_close(loss, consistency)
    loss.backward()
    added = torch.cat([p.grad for p in parts if p.grad is not None]) - near
    torch.testing.assert_close(added.norm(), 0.5 * near.norm())
    assert all(p.grad is None for p in critic.parameters())
    with torch.no_grad():  # along the added part the scores rise
        moved = critic(output - 1e-3 * added / added.norm(), context).mean()
        assert moved > scores.mean()


def test_hinge_is_nothing_beyond_the_margin() -> None:
    assert hinge(torch.full((2, 1, 2, 2), 1.5), real=True) == 0
    assert hinge(torch.full((2, 1, 2, 2), -1.5), real=False) == 0
    assert hinge(torch.zeros(2, 1, 2, 2), real=True) == 1


def test_a_critic_learns_sharpness_and_the_caption() -> None:
    torch.manual_seed(0)
    critic = Critic(4, context=6)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-3)
    x = torch.randn(16, 4, 8, 8)
    soft = nn.functional.avg_pool2d(x, 3, 1, 1)
    told, other = torch.randn(16, 3, 6) + 1, torch.randn(16, 3, 6) - 1
    for made, theirs in ((soft, told), (x, other)):
        for _ in range(80):
            loss = hinge(critic(x, told), real=True) + hinge(critic(made, theirs), real=False)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.5


@pytest.mark.parametrize("more", [{}, {"path_share": 0.5, "paths": 32}])
def test_a_latent_critic_sees_data_with_their_captions(
    more: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = built(fields, adversarial_weight=1.0, **more)
    batch = draw(made)
    captions = [made.source.caption(i, 0) for i in range(4)]
    assert torch.equal(batch["critic_context"], made.texts(captions)["context"])
    examples = Draw(step=0, examples=tuple((i, 0) for i in range(4)), generator=torch.Generator())
    assert batch["critic_real"].shape == made.x0(examples).shape
    made.loss(batch).backward()
    assert all(p.grad is not None for p in made.critic.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_saves_and_resumes_to_the_same_bits(
    kind: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    teacher = str(Path(fields["teacher"]).parent / kind)
    more = {"teacher": teacher, "adversarial_weight": 0.5, "checkpoint_every": 1}

    def trainer(folder: Path, steps: int) -> Trainer:
        recipe = find("lcd")
        config = recipe.Config(**fields | more | {"steps": steps})
        made = Trainer(recipe(config, torch.device("cpu")), folder, quiet=True)
        made.prepare()
        return made

    whole = trainer(tmp_path / "whole", 2)
    assert whole.run()
    assert set(whole.state.networks) == {"unet", "critic"}
    first = trainer(tmp_path / "parts", 1)
    start = [p.detach().clone() for p in first.state.networks["critic"].parameters()]
    assert first.run()
    for before, after in zip(start, first.state.networks["critic"].parameters(), strict=True):
        assert not torch.equal(before, after)
    second = trainer(tmp_path / "parts", 2)
    assert second.resume()
    assert second.run()
    for name, network in whole.state.networks.items():
        other = second.state.networks[name].state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(value, other[key]), (name, key)


def test_without_them_nothing_changes(fields: dict[str, Any]) -> None:
    plain, own = draw(built(fields)), draw(built(fields, adversarial_weight=1.0))
    for key, value in plain.items():
        assert torch.equal(value, own[key]), key
    added = {"critic_sigma", "critic_real", "critic_context", "critic_eps"}
    assert added == own.keys() - plain.keys()
