"""What is special at an edit's first level: more weight for the prompt, a longer way from the start."""

from __future__ import annotations

import pytest
import torch

from lcm_studio.edits.loop import solve
from lcm_studio.edits.problem import Known, Problem
from lcm_studio.edits.prompts import emphasised
from lcm_studio.edits.schedule import EditSchedule
from lcm_studio.models.protocol import Cond, Prompt
from lcm_studio.operators import LUMA, Luma, Neutral
from lcm_studio.sampling import Embed, Predict, drive
from tests.edits.gaussian import GaussianModel
from tests.edits.test_oracle import COUNT

LEVELS = (0.65, 0.62, 0.6, 0.42)  # of colours, in pixels of half the spread


def ends(generator):
    """What a generator that asks for nothing returns."""
    with pytest.raises(StopIteration) as end:
        next(generator)
    return end.value.value


def words(text):
    """Text features that are the text's length, and a guidance embedding that knows no text."""
    return Cond(
        tensors={
            "text_hidden": torch.full((1, 2, 3), float(len(text))),
            "w": torch.tensor([[5.0]]),
            "ids": torch.tensor([[len(text)]]),
        }
    )


@pytest.mark.parametrize("emphasis", [0.5, 1.0, 3.0])
def test_emphasis_goes_on_from_the_empty_prompt_through_the_prompt(emphasis):
    prompt = Prompt(text="autumn", guidance=4.0)
    steps = emphasised(prompt, words("autumn"), emphasis)
    asked = next(steps)
    assert isinstance(asked, Embed)
    assert [(p.text, p.guidance) for p in asked.prompts] == [("", 4.0), ("autumn", 4.0)]
    with pytest.raises(StopIteration) as end:
        steps.send(Cond.join([words(""), words("autumn")]))
    found = end.value.value.tensors
    assert torch.allclose(found["text_hidden"], torch.full((1, 2, 3), 6 * (1 + emphasis)))
    assert float(found["w"]) == 5.0
    assert not found["ids"].is_floating_point()


@pytest.mark.parametrize(("text", "emphasis"), [("autumn", 0.0), ("", 2.0), ("  ", 2.0)])
def test_without_emphasis_or_words_nothing_is_asked_for(text, emphasis):
    own = words(text)
    assert ends(emphasised(Prompt(text=text), own, emphasis)) is own


class Noise:
    def __init__(self, shape):
        self.shape, self.generator = shape, torch.Generator().manual_seed(0)

    def draw(self):
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


class Hues(GaussianModel):
    """One pixel of three channels, whose colours lean to one side and spread widely: (mu, C) of the exact posterior."""

    def __init__(self):
        super().__init__(size=3)
        self.mean = torch.tensor([0.35, 0.0, -0.4], dtype=torch.float64)
        self.cov = 0.25 * torch.eye(3, dtype=torch.float64) + 0.2
        self.values, self.vectors = torch.linalg.eigh(self.cov)


def coloured(relax, levels=LEVELS, seen=None, noise_scale=1.0):
    """(bias of the mean, luma error) of colours of a grey pixel, against the posterior."""
    model = Hues()
    luma = torch.tensor([LUMA], dtype=torch.float64)
    y = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    problem = Problem(
        start=Neutral().pinv(y),
        size=(1, 1),
        schedule=EditSchedule(levels=levels, relax=relax, noise_scale=noise_scale),
        finish=lambda x, report: [],
        known=Known(op=Luma(), y=y, inverse=Neutral()),
    )
    conds = (Cond(batch=COUNT), Cond(batch=COUNT))

    def watched():
        steps = solve(problem, model, conds[0], Noise((COUNT, 3, 1, 1)), conds[1:2])
        value = None
        while True:
            try:
                ask = steps.send(value)
            except StopIteration as end:
                return end.value
            if seen is not None and isinstance(ask, Predict):
                seen.append((conds.index(ask.cond), float(ask.x_t.std())))
            value = yield ask

    x = drive(watched(), model).flatten(1)
    true_mean, _ = model.posterior(luma, y.flatten())
    error = float((x @ luma.T - y.flatten()).abs().max())
    return float((x.mean(0) - true_mean).norm()), error


def test_only_the_first_level_has_a_conditioning_of_its_own():
    seen = []
    coloured((), seen=seen)
    assert [which for which, _ in seen] == [1, 0, 0, 0]


def test_relaxation_comes_nearer_to_the_true_colours_and_keeps_the_luma():
    """The grey start is a guess that the network takes for seen."""
    plain, _ = coloured(())
    relaxed, error = coloured((0.4, 0, 0, 0))
    assert coloured((1.0,))[0] < relaxed < 0.95 * plain
    assert error < 1e-9


@pytest.mark.parametrize("k", range(4))
def test_each_level_hears_its_own_relaxation(k):
    """The known part is kept by each; the last one moves the result straight away from the start."""
    relax = tuple(0.5 * (i == k) for i in range(4))
    (plain, _), (moved, error) = coloured(()), coloured(relax)
    assert moved != plain
    assert error < 1e-9


@pytest.mark.parametrize("scale", [0.5, 0.65])
def test_every_level_is_given_a_share_of_the_noise_that_it_is_told_of(scale):
    whole, less = [], []
    coloured((), seen=whole)
    coloured((), seen=less, noise_scale=scale)
    assert len(less) == len(whole) == len(LEVELS)
    assert less[0][1] == pytest.approx(scale * whole[0][1], rel=0.02)  # the start is one grey
    assert all(b < a for (_, a), (_, b) in zip(whole, less, strict=True))
