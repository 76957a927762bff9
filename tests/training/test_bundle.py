"""Putting a finished run where the studio finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.bundle import average, main

NAME = "unet/diffusion_pytorch_model.safetensors"


def network(folder: Path, **weights: torch.Tensor) -> Path:
    (folder / "unet").mkdir(parents=True)
    save_file(weights, folder / NAME)
    return folder


def test_the_mean_of_two_networks(tmp_path: Path) -> None:
    a = network(tmp_path / "a", w=torch.tensor([1.0, 2.0]).half())
    b = network(tmp_path / "b", w=torch.tensor([3.0, 6.0]).half())
    average(a, b)
    assert torch.equal(load_file(a / NAME)["w"], torch.tensor([2.0, 4.0]).half())
    with pytest.raises(ValueError, match="another network"):
        average(a, network(tmp_path / "c", w=torch.zeros(3)))


def test_a_run_without_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "run"), "--name", "x", "--into", str(tmp_path)]) == 2
    assert "has no output" in capsys.readouterr().err
