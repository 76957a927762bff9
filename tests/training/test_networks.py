"""Training opens what generation opens: variants and shards, never pickles; refused before anything starts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from training import plan
from training.errors import TrainingFault
from training.networks import check_teacher, open_part
from training.recipes import find

DATA = {"kind": "scenes", "count": 4}


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    pipe = tiny.pipeline("sd-plain")
    pipe.save_pretrained(folder / "plain")
    pipe.save_pretrained(folder / "fp16", variant="fp16")
    pipe.save_pretrained(folder / "shards", max_shard_size="40KB")
    tiny.save("lcm", folder / "lcm")
    tiny.save("cm", folder / "cm")
    return folder


@pytest.mark.parametrize("kind", ["fp16", "shards"])
def test_variants_and_shards_are_planned_and_opened(kind: str, root: Path) -> None:
    assert not list((root / kind / "unet").glob("diffusion_pytorch_model.safetensors"))
    for name in ("lcd", "lcm-lora"):
        config = find(name).Config(teacher=str(root / kind), resolution=64, data=DATA)
        assert "M trained" in plan.plan(name, config, timed=False)
    plain, other = (open_part(root / which, "unet") for which in ("plain", kind))
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert b.dtype == torch.float32 and not b.requires_grad


def test_pickled_weights_are_refused_by_plan_and_run(root: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "pickled"
    tiny.pipeline("sd-plain").save_pretrained(teacher)
    for file in (teacher / "unet").glob("*.safetensors"):
        file.unlink()
    canary = tmp_path / "canary"
    with (teacher / "unet" / "diffusion_pytorch_model.bin").open("wb") as file:
        pickle.dump(Canary(canary), file)
    config = find("lcd").Config(teacher=str(teacher), resolution=64, data=DATA)
    for attempt in (
        lambda: plan.plan("lcd", config),
        lambda: find("lcd")(config, torch.device("cpu")).build(),
    ):
        with pytest.raises(TrainingFault, match="pickled weights") as caught:
            attempt()
        assert caught.value.reason == "missing_weights"
    assert not canary.exists()


@pytest.mark.parametrize(
    ("kind", "words"), [("lcm", "consistency model"), ("cm", "pixel-space"), ("x", "model_index")]
)
def test_what_cannot_be_distilled_is_named_before_the_start(
    kind: str, words: str, root: Path
) -> None:
    for name in ("lcd", "lcm-lora"):
        config = find(name).Config(teacher=str(root / kind), resolution=64, data=DATA)
        with pytest.raises(TrainingFault, match=words):
            plan.plan(name, config)
    with pytest.raises(TrainingFault, match=words):
        check_teacher(root / kind)


def test_a_disk_that_is_too_small_is_told_by_the_plan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_free_disk", lambda output: 1000)
    config = find("lcd").Config(teacher=str(root / "plain"), resolution=64, data=DATA)
    with pytest.raises(TrainingFault, match="are free") as caught:
        plan.plan("lcd", config)
    assert caught.value.reason == "disk"
