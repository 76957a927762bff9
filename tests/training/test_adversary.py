"""The critic of `lcd` and its examples of the student's own: each against what it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lcm_studio.maths.grids import lcm_timesteps
from tests import tiny
from training.adversary import Critic, LatentCritic, encoder_features, frozen, hinge, pull
from training.recipes import find
from training.recipes.base import Draw
from training.recipes.prompts import unet_arguments
from training.trainer import Trainer

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


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_whole_network(kind: str, fields: dict[str, Any]) -> None:
    made = built(fields, teacher=str(Path(fields["teacher"]).parent / kind))
    unet, x, t = made.teacher, torch.randn(2, 4, 8, 8), torch.tensor([19, 999])
    arguments = unet_arguments(made.prompts(["lake", "sea"]), 64)
    seen: list[torch.Tensor] = []
    hook = unet.mid_block.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        before = unet(x, t, **arguments).sample
        hook.remove()
        found = encoder_features(unet, x, t, **arguments)
        assert torch.equal(unet(x, t, **arguments).sample, before)  # no hook is left
    assert torch.equal(found[-1], seen[0])
    assert [f.shape[1] for f in found] == Critic.channels_of(unet)
    assert found[0].shape[2:] == x.shape[2:]  # before the downsampling


def test_the_pull_has_the_share_it_is_told() -> None:
    torch.manual_seed(0)
    critic, output = Critic([4]).double(), torch.randn(3, 4, 8, 8).double().requires_grad_()
    wanted = torch.randn(3, 4, 8, 8).double()

    def parts(leaf: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return (leaf - wanted).abs().mean(), frozen(critic, [leaf])

    leaf = output.detach().requires_grad_()
    consistency, made = parts(leaf)
    (near,) = torch.autograd.grad(consistency, leaf, retain_graph=True)
    loss = pull(output, consistency, made, leaf, 0.5)
    torch.testing.assert_close(loss, consistency)
    loss.backward()
    assert output.grad is not None
    added = output.grad - near
    torch.testing.assert_close(added.norm(), 0.5 * near.norm())
    assert all(p.grad is None for p in critic.parameters())
    with torch.no_grad():  # along the added part the scores rise
        moved = critic([output - 1e-3 * added / added.norm()])[0].mean()
        assert moved > made[0].mean()


def test_hinge_is_nothing_beyond_the_margin() -> None:
    assert hinge([torch.full((2, 1, 2, 2), 1.5)], real=True) == 0
    assert hinge([torch.full((2, 1, 2, 2), -1.5)], real=False) == 0
    assert hinge([torch.zeros(2, 1, 2, 2)], real=True) == 1


def test_a_critic_learns_to_tell() -> None:
    torch.manual_seed(0)
    critic = Critic([4])
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    real, made = torch.randn(8, 4, 8, 8), torch.randn(8, 4, 8, 8)
    made = nn.functional.avg_pool2d(made, 3, 1, 1)  # too smooth
    for _ in range(40):
        loss = hinge(critic([real]), real=True) + hinge(critic([made]), real=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5


def test_a_latent_critic_learns_sharpness_and_the_caption() -> None:
    torch.manual_seed(0)
    critic = LatentCritic(4, context=6)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-3)
    x = torch.randn(16, 4, 8, 8)
    soft = nn.functional.avg_pool2d(x, 3, 1, 1)
    told, other = torch.randn(16, 3, 6) + 1, torch.randn(16, 3, 6) - 1
    for made, theirs in ((soft, told), (x, other)):
        for _ in range(80):
            loss = hinge(critic([x, told]), real=True) + hinge(critic([made, theirs]), real=False)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.5


@pytest.mark.parametrize("more", [{}, {"path_share": 0.5, "paths": 32}])
def test_a_latent_critic_sees_data_with_their_captions(
    more: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = built(fields, adversarial_weight=1.0, critic="latents", **more)
    batch = draw(made)
    examples = tuple((i, 0) for i in range(4))
    captions = [made.source.caption(*example) for example in examples]
    real, context = made.seen(batch, None)
    assert torch.equal(context, made.texts(captions)["context"])
    noise = batch["critic_sigma"] * batch["critic_eps"]
    assert torch.equal(real - noise, batch["critic_real"] + noise - noise)
    estimates = torch.zeros_like(batch["x0"])
    seen, told = made.seen(batch, estimates)
    assert torch.equal(seen, noise)
    assert torch.equal(told, batch["context"])
    assert made.overlaps
    made.loss(batch).backward()
    assert all(p.grad is not None for p in made.critic.parameters())


@pytest.mark.parametrize("critic", ["features", "latents"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_saves_and_resumes_to_the_same_bits(
    kind: str, critic: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    teacher = str(Path(fields["teacher"]).parent / kind)
    more = {"teacher": teacher, "adversarial_weight": 0.5, "own_share": 0.5, "checkpoint_every": 1}
    more["critic"] = critic

    def trainer(folder: Path, steps: int) -> Trainer:
        recipe = find("lcd")
        config = recipe.Config(**fields | more | {"steps": steps})
        made = Trainer(recipe(config, torch.device("cpu")), folder, quiet=True)
        made.prepare()
        return made

    whole = trainer(tmp_path / "whole", 2)
    assert whole.run()
    assert set(whole.networks) == {"unet", "critic"}
    first = trainer(tmp_path / "parts", 1)
    start = [p.detach().clone() for p in first.networks["critic"].parameters()]
    assert first.run()
    for before, after in zip(start, first.networks["critic"].parameters(), strict=True):
        assert not torch.equal(before, after)
    second = trainer(tmp_path / "parts", 2)
    assert second.resume()
    assert second.run()
    for name, network in whole.networks.items():
        other = second.networks[name].state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(value, other[key]), (name, key)


def test_without_them_nothing_changes(fields: dict[str, Any]) -> None:
    plain, own = draw(built(fields)), draw(built(fields, adversarial_weight=1.0))
    for key, value in plain.items():
        assert torch.equal(value, own[key]), key
    assert {"critic_t", "critic_eps"} == own.keys() - plain.keys()


def test_own_examples_are_points_of_the_four_step_sampler(fields: dict[str, Any]) -> None:
    made = built(fields, own_share=1.0, batch_size=64, data=fields["data"] | {"count": 64})

    class Nothing(nn.Module):
        """Predicts the epsilon of x0_hat = 0."""

        def forward(self, x: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
            _, sigma = made.schedule.alpha_sigma(t, x)
            return type("Output", (), {"sample": x / sigma})

    made.target = Nothing()
    found = draw(made)
    levels = lcm_timesteps(4)
    assert set(found["t"].tolist()) == set(levels[1:])  # the first is pure noise, not an estimate
    assert torch.equal(found["s"], found["t"] - made.skip)
    _, sigma = made.schedule.alpha_sigma(found["t"], found["x_t"])
    noise = found["x_t"] / sigma  # an estimate of 0, noised to t, is sigma_t of pure noise
    assert abs(noise.std() - 1) < 0.03
    assert abs(noise.mean()) < 0.03
    some = draw(built(fields, own_share=0.5, batch_size=64, data=fields["data"] | {"count": 64}))
    plain = draw(built(fields, batch_size=64, data=fields["data"] | {"count": 64}))
    kept = (some["x_t"] == plain["x_t"]).flatten(1).all(1)
    assert 16 < int(kept.sum()) < 48
    assert torch.equal(some["t"][kept], plain["t"][kept])
