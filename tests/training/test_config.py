"""Configs, presets and the schedules and orders that are functions of the step."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from lcm_studio.jobs.config import merged, with_settings
from lcm_studio.spec.errors import BadRequest
from tests.training import toy
from training.config import LR_SCHEDULES, preset, presets
from training.recipes import NAMES, find
from training.rng import derive, generator, order
from training.state import lr


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_valid_configs(name: str) -> None:
    assert presets(name), f"{name} has no preset"
    for one in presets(name):
        find(name).Config(**preset(name, one))


def test_the_presets_that_were_promised_are_there() -> None:
    assert {"paper", "reference", "cpu-quick", "24gb", "sdxl"} <= set(presets("lcd"))
    assert {"cpu-quick", "24gb", "sdxl"} <= set(presets("lcm-lora"))
    assert "cpu-quick" in presets("dmd")
    with pytest.raises(ValueError, match="paper"):
        preset("lcd", "nothing")


def test_unknown_fields_and_values_out_of_range_are_errors() -> None:
    for fields in ({"stepz": 3}, {"steps": 0}, {"learning_rate": float("nan")}, {"data": {"x": 1}}):
        with pytest.raises(ValidationError):
            find("lcd").Config(**fields)


def test_what_no_machine_has_is_refused_before_the_start() -> None:
    for fields in (
        {"batch_size": 99999999999}, {"learning_rate": 1e308}, {"steps": 10**12}, {"resolution": 10**6},
        {"gradient_accumulation_steps": 10**9}, {"threads": 10**6}, {"device": "moon"}, {"seed": 2**70},
        {"data": {"count": 10**12}},
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=r"less than or equal|pattern"):
            find("lcd").Config(**fields)


def test_one_merger_reaches_into_sections() -> None:
    base = {"steps": 1, "data": {"kind": "scenes"}}
    found = with_settings(base, ["steps=7", "data.count=3", "teacher=x=y"])
    assert found == {"steps": 7, "data": {"kind": "scenes", "count": 3}, "teacher": "x=y"}
    assert merged(base, {"data": {"count": 3}, "a": 1}) == {
        "steps": 1, "data": {"kind": "scenes", "count": 3}, "a": 1,
    }  # fmt: skip
    assert base == {"steps": 1, "data": {"kind": "scenes"}}
    with pytest.raises(BadRequest, match="key=value"):
        with_settings({}, ["steps"])


def test_no_without_quotes_is_a_word() -> None:
    assert find("lcd").Config(**with_settings({}, ["mixed_precision=no"])).mixed_precision == "no"
    with pytest.raises(ValidationError):
        find("lcd").Config(mixed_precision=True)


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_every_schedule_warms_up_and_stays_in_range(name: str) -> None:
    rule = lr.factor(toy.config(lr_scheduler=name, steps=100, lr_warmup_steps=10))
    values = [rule(step) for step in range(100)]
    assert all(0 <= v <= 1 for v in values)
    assert max(values) == 1
    if name != "constant":
        assert values[0] < values[5] < values[10]
    if name in ("linear", "cosine", "polynomial", "trapezoid"):
        assert values[-1] < 0.05


def test_scale_lr_counts_examples_of_a_step() -> None:
    import torch

    from training.state.optimizer import make_optimizer

    p = torch.nn.Parameter(torch.zeros(2))
    config = toy.config(scale_lr=True, batch_size=4, gradient_accumulation_steps=3)
    made = make_optimizer(config, {"net": ([p], 1.0)}, world=2)
    assert made.param_groups[0]["lr"] == pytest.approx(1e-2 * 24)


def test_every_epoch_is_a_permutation_and_another_one() -> None:
    seen = order(0, 74, 37, seed=5)
    first, second = seen[:37], seen[37:]
    assert sorted(i for i, _ in first) == sorted(i for i, _ in second) == list(range(37))
    assert [i for i, _ in first] != [i for i, _ in second]
    assert {e for _, e in first} == {0} and {e for _, e in second} == {1}
    assert order(30, 20, 37, seed=5) == seen[30:50]
    assert order(0, 37, 37, seed=6) != first


def test_generators_depend_on_each_part() -> None:
    parts = itertools.product((0, 1), (0, 1), (0, 1))
    seeds = {derive(seed, "step", step, rank) for seed, step, rank in parts}
    assert len(seeds) == 8
    a = generator(0, "x").initial_seed()
    assert a == generator(0, "x").initial_seed() == derive(0, "x")
