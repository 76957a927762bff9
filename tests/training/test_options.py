"""Options that must not change what is learnt, or must say that they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from tests.training import toy
from training.accelerator import apply_options, open_accelerator
from training.errors import TrainingFault
from training.loop import Trainer
from training.plan import plan
from training.recipes import find
from training.state.optimizer import make_optimizer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    for kind in ("sd-plain", "sdxl"):
        tiny.save(kind, folder / kind)
    return folder


def prepared(name: str, root: Path, kind: str = "sd-plain", **fields: Any) -> Trainer:
    recipe = find(name)
    small: dict[str, Any] = {"device": "cpu", "batch_size": 2, "ema_decay": 0.0, "steps": 3}
    if name in ("lcd", "lcm-lora"):
        small |= {"teacher": str(root / kind), "resolution": 64}
    else:
        small |= {"resolution": 16, "channels": (16, 32), "norm_groups": 8, "head_width": 8}
    data = {"kind": "scenes", "count": 4, "cache": str(root)}
    config = recipe.Config(**small | {"data": data} | fields)
    made = Trainer(recipe(config, torch.device("cpu")), root, quiet=True)
    made.prepare()
    return made


def gradients(made: Trainer) -> tuple[torch.Tensor, list[torch.Tensor]]:
    loss = toy.gradients(made)
    found = [p.grad.clone() for p in made.state.parameters if p.grad is not None]
    assert found
    return loss, found


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_larger_batch(parts: int, tmp_path: Path) -> None:
    def made(**fields: object) -> Trainer:
        trainer = Trainer(
            toy.Quiet(toy.config(**fields), torch.device("cpu")), tmp_path, quiet=True
        )
        trainer.prepare()
        return trainer

    found = {}
    for name, fields in (
        ("small", {"batch_size": 8 // parts, "gradient_accumulation_steps": parts}),
        ("large", {"batch_size": 8}),
    ):
        trainer, found[name] = made(**fields), []
        for step in (0, 3, 7):  # an epoch of 37 ends within the steps
            trainer.state.step = step
            found[name].append(gradients(trainer))
            trainer.state.optimizer.zero_grad()
    for (a, first), (b, second) in zip(found["small"], found["large"], strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_a_run_that_accumulates_ends_as_the_one_with_the_larger_batch(tmp_path: Path) -> None:
    toy.train(tmp_path / "a", recipe=toy.Quiet, batch_size=2, gradient_accumulation_steps=4)
    toy.train(tmp_path / "b", recipe=toy.Quiet, batch_size=8)
    a, b = toy.weights(tmp_path / "a"), toy.weights(tmp_path / "b")
    for key, value in b.items():
        torch.testing.assert_close(a[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"), [("lcd", "sd-plain"), ("lcm-lora", "sdxl"), ("edm", "pixels")]
)
def test_checkpointed_gradients_are_the_same(name: str, kind: str, root: Path) -> None:
    found = []
    for on in (False, True):
        made = prepared(name, root, kind, gradient_checkpointing=on)
        entered: list[int] = []
        net = next(iter(made.state.networks.values()))
        block = net.down_blocks[0].resnets[0]  # type: ignore[union-attr,index]
        block.register_forward_pre_hook(lambda *call, entered=entered: entered.append(1))
        found.append(gradients(made))
        found[-1] += (len(entered),)  # type: ignore[operator]
    (a, first, once), (b, second, twice) = found  # type: ignore[misc]
    assert twice == once + 1, "the student's block runs again in the backward pass"
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-7)


def test_half_precision_goes_with_checkpointed_activations(root: Path) -> None:
    options: dict[str, Any] = {"mixed_precision": "bf16", "gradient_checkpointing": True}
    _, found = gradients(prepared("lcd", root, **options))
    assert all(bool(g.isfinite().all()) for g in found)


@pytest.mark.parametrize("name", ["lcd", "lcm-lora", "edm"])
def test_half_precision_gives_nearly_the_same_loss(name: str, root: Path) -> None:
    found = []
    for precision in ("no", "bf16"):
        made = prepared(name, root, mixed_precision=precision)
        made.state.step = 1
        assert all(p.dtype == torch.float32 for p in made.state.parameters)
        found.append(toy.gradients(made).item())
    assert found[1] == pytest.approx(found[0], rel=0.1, abs=1e-3)
    made = prepared(name, root, mixed_precision="bf16")
    losses = [toy.step(made).item() for made.state.step in range(2)]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert all(bool(p.isfinite().all()) for p in made.state.parameters)


def test_a_compiled_network_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"compile": True}
    compiled: list[nn.Module] = []
    real = nn.Module.compile

    def eager(network: nn.Module) -> None:  # the same graph capture, without a C++ compiler
        compiled.append(network)
        real(network, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", eager)
    toy.train(tmp_path / "a", steps=4, **fields)
    assert len(compiled) == 1
    toy.train(tmp_path / "b", steps=4)
    a, b = toy.weights(tmp_path / "a"), toy.weights(tmp_path / "b")
    assert a.keys() == b.keys()
    for key, value in b.items():
        torch.testing.assert_close(a[key], value)


class TestWithoutGpu:
    """What needs CUDA says so, or says that it changes nothing."""

    @pytest.fixture(autouse=True)
    def _no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [({"device": "cuda"}, "no CUDA GPU"), ({"mixed_precision": "fp16"}, "bf16 or no")],
    )
    def test_a_gpu_is_needed_for(self, fields: dict[str, Any], words: str) -> None:
        for start in (open_accelerator, lambda config: plan("edm", config)):
            with pytest.raises(TrainingFault, match=words) as caught:
                start(toy.config(**fields))
            assert caught.value.reason == "config"

    def test_tf32_is_ignored_and_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        apply_options(toy.config(allow_tf32=True), {})
        assert "allow_tf32 changes nothing" in capsys.readouterr().out

    @pytest.mark.parametrize("installed", [False, True])
    def test_xformers(self, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        there = ModuleType("xformers") if installed else None
        monkeypatch.setitem(sys.modules, "xformers", there)  # type: ignore[arg-type]
        said = "no CUDA GPU" if installed else "not installed"
        with pytest.raises(TrainingFault, match=said) as caught:
            apply_options(toy.config(enable_xformers=True), {})
        assert caught.value.reason == "config"

    @pytest.mark.parametrize("installed", [False, True])
    def test_eight_bits(self, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        there: Any = ModuleType("bitsandbytes") if installed else None
        monkeypatch.setitem(sys.modules, "bitsandbytes", there)
        said = "not on a CUDA GPU" if installed else "not installed"
        group = {"net": ([nn.Parameter(torch.zeros(2))], 1.0)}
        with pytest.raises(TrainingFault, match=said) as caught:
            make_optimizer(toy.config(use_8bit_adam=True), group)
        assert caught.value.reason == "config"


def test_eight_bits_and_muon_exclude_each_other() -> None:
    group = {"net": ([nn.Parameter(torch.zeros(2))], 1.0)}
    with pytest.raises(TrainingFault, match="optimizer=muon"):
        make_optimizer(toy.config(use_8bit_adam=True, optimizer="muon"), group)


def test_eight_bits_take_the_fields_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []
    there: Any = ModuleType("bitsandbytes")
    there.optim = SimpleNamespace(
        AdamW8bit=lambda groups, **options: asked.append((groups, options))
    )
    monkeypatch.setitem(sys.modules, "bitsandbytes", there)
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"))
    config = toy.config(use_8bit_adam=True, adam_beta1=0.8, adam_weight_decay=0.0)
    make_optimizer(config, {"net": ([on_gpu], 0.5)})
    (groups, options), = asked  # fmt: skip
    assert groups == [{"params": [on_gpu], "lr": 0.005}]
    assert options == {"betas": (0.8, 0.999), "eps": 1e-8, "weight_decay": 0.0}


def test_a_small_network_beside_a_large_one_needs_no_checkpointing() -> None:
    called: list[str] = []
    large = SimpleNamespace(enable_gradient_checkpointing=lambda: called.append("unet"))
    config = toy.config(gradient_checkpointing=True)
    apply_options(config, {"unet": large, "judge": nn.Linear(2, 2)})
    assert called == ["unet"]


def test_a_network_without_checkpointing_is_named() -> None:
    with pytest.raises(TrainingFault, match="the net has none"):
        apply_options(toy.config(gradient_checkpointing=True), {"net": nn.Linear(2, 2)})


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_captions_are_left_out_by_their_share(share: float, root: Path) -> None:
    made: Any = prepared("lcd", root, proportion_empty_prompts=share).recipe
    draws = [made.captions(_draw(step), share) for step in range(4)]
    assert all((text == "") == (share == 1.0) for texts in draws for text in texts)
    half = [text for step in range(200) for text in made.captions(_draw(step), 0.5)]
    assert 0.4 < half.count("") / len(half) < 0.6


def _draw(step: int) -> Any:
    from training.recipes.base import Draw
    from training.rng import generator

    return Draw(step=step, examples=((0, step), (1, step)), generator=generator("draw", step))
