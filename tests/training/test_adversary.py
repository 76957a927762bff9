"""The critic of `lcd` against what it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from tests.training.toy import assert_same_networks
from training.loop import Trainer
from training.objectives.critic import Critic, hinge, pulled
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
    critic, context = Critic(6, width=8).double(), torch.randn(3, 5, 6).double()
    parts = [torch.randn(n, 3, 32, 32).double().requires_grad_() for n in (2, 1)]
    wanted = torch.randn(3, 3, 32, 32).double()
    output = torch.cat(parts)
    consistency = (output - wanted).abs().mean()
    near = torch.cat(torch.autograd.grad(consistency, parts, retain_graph=True))
    scores = critic(output, context)
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


def test_a_critic_learns_sharp_from_smeared_in_forty_steps() -> None:
    """With norms, and without the detail beside the picture, it does not in four hundred."""
    from training.scenery.dataset import arrays

    scenes = torch.from_numpy(arrays(range(40), 64, edition=2)[0]).permute(0, 3, 1, 2)
    sharp = scenes.float() / 127.5 - 1
    smeared = nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False)
    told = torch.zeros(8, 2, 6)
    torch.manual_seed(0)
    critic = Critic(6)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.95))
    for step in range(40):
        chosen = [(8 * step + i) % 32 for i in range(8)]
        loss = hinge(critic(sharp[chosen], told), real=True)
        loss = loss + hinge(critic(smeared[chosen], told), real=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right, wrong = critic(sharp[32:], told), critic(smeared[32:], told)
    assert right.mean() > wrong.mean() + 0.5


def test_a_critic_learns_the_caption() -> None:
    torch.manual_seed(0)
    critic = Critic(6, width=8)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-3)
    x = torch.rand(8, 3, 32, 32) * 2 - 1
    told, other = torch.randn(8, 3, 6) + 1, torch.randn(8, 3, 6) - 1
    for _ in range(80):
        loss = hinge(critic(x, told), real=True) + hinge(critic(x, other), real=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5


@pytest.mark.parametrize("more", [{}, {"path_share": 0.5, "paths": 32}])
@pytest.mark.parametrize("crop", [32, 512])
def test_a_critic_sees_pictures_of_the_data_with_their_captions(
    crop: int, more: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = built(fields, adversarial_weight=1.0, critic_crop=crop, **more)
    batch = draw(made)
    captions = [made.source.caption(i, 0) for i in range(4)]
    assert torch.equal(batch["critic_context"], made.texts(captions)["context"])
    side = min(crop, 64)
    assert batch["critic_real"].shape == (4, 3, side, side)
    made.loss(batch).backward()
    assert all(p.grad is not None for p in made.critic.parameters())
    assert all(p.grad is None for p in made.vae.parameters())


def test_a_square_of_latents_is_the_square_of_the_picture(fields: dict[str, Any]) -> None:
    """Where the whole is seen nothing is cut; elsewhere all places come up, and no square leaves the picture."""
    whole = built(fields, adversarial_weight=1.0, critic_crop=64)
    g = torch.Generator().manual_seed(5)
    assert not whole.corners(50, g).any()
    part = built(fields, adversarial_weight=1.0, critic_crop=32)
    side = part.latents.shape[-1]
    corners = part.corners(400, g)
    assert corners.min() == 0 and corners.max() == side - part.square(side)
    z = torch.randn(2, *part.latents.shape[1:])
    where = torch.tensor([[0, 0], [1, 2]])
    n = part.square(side)
    alone = torch.stack([z[0, :, :n, :n], z[1, :, 1 : n + 1, 2 : n + 2]])
    wanted = part.vae.decode(alone / part.vae.config.scaling_factor).sample
    torch.testing.assert_close(part.seen(z, where), wanted)


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
    assert_same_networks(whole, second)


def test_without_them_nothing_changes(fields: dict[str, Any]) -> None:
    plain, own = draw(built(fields)), draw(built(fields, adversarial_weight=1.0))
    for key, value in plain.items():
        assert torch.equal(value, own[key]), key
    added = {"critic_real", "critic_context", "critic_corners"}
    assert added == own.keys() - plain.keys()
