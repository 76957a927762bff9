"""What `training.objectives.paths` needs to know of an lcd recipe to solve its teacher's ODE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.latents import weights_key
from training.objectives.known import known_part
from training.objectives.latent import consistency_output
from training.objectives.paths import Block, PathOptions, Paths
from training.recipes.latents import posterior


class RecipeGuide:
    """The guided teacher, the student and the data of a built `lcd` recipe."""

    def __init__(self, recipe: Any) -> None:
        self._recipe = recipe
        self.schedule, self.device = recipe.schedule, recipe.device
        self.shape = tuple(recipe.latents.shape[1:])

    def data(self, examples: Sequence[tuple[int, int]]) -> Tensor:
        """x_0 of examples; the mean of the autoencoder's posterior where it has a spread."""
        rows = self._recipe.latents(examples).rows
        return (rows.chunk(2, 1)[0] if self._recipe.spread else rows).to(self.device)

    def _told(self, block: Block) -> dict[str, Tensor]:
        recipe = self._recipe
        texts = recipe.texts([recipe.source.caption(*example) for example in block.examples])
        return {**texts, "w": block.w.to(self.device)}

    def teacher(self, block: Block) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, t) -> x_0 of the guided prediction, cond + w (cond - uncond)."""
        recipe, told = self._recipe, self._told(block)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            with recipe.autocast():
                found: Tensor = recipe.guided_x0(recipe.teacher, told, recipe.laid_out(x), t)
            return found

        return predict

    def student(self, block: Block) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, t) -> f(x, t) of the student that the run starts from."""
        recipe, told = self._recipe, self._told(block)
        emb, arguments = recipe.embedded(told), recipe.arguments(told)

        def output(x: Tensor, t: Tensor) -> Tensor:
            with recipe.autocast():
                return consistency_output(
                    lambda x, t: (
                        recipe.target(recipe.laid_out(x), t, timestep_cond=emb, **arguments).sample
                    ),
                    x,
                    t,
                    self.schedule,
                    timestep_scaling=recipe.config.timestep_scaling,
                )

        return output

    def edit(self, block: Block, g: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Latents of the filled start of an edit of the block's pictures; what gives an estimate their known part."""
        recipe = self._recipe
        pictures = recipe.pictures(block.examples)
        filled, project = known_part(pictures, g)

        def encode(u: Tensor) -> Tensor:
            rows = posterior(recipe.vae, u.clamp(-1, 1)).to(self.device)
            return rows.chunk(2, 1)[0] if recipe.spread else rows

        def known(estimate: Tensor) -> Tensor:
            u = recipe.vae.decode(recipe.laid_out(estimate) / recipe.vae.config.scaling_factor)
            return encode(project(u.sample.float().clamp(-1, 1)))

        return encode(filled), known


def open_paths(recipe: Any) -> Paths:
    """The paths of a built `lcd` recipe; nothing is solved yet."""
    c = recipe.config
    options = PathOptions(
        count=c.paths,
        seed=c.seed,
        grid=c.ddim_steps,
        skip=recipe.skip,
        noise=c.path_noise,
        own=c.path_own,
        edits=c.path_edits,
        w_min=c.w_min,
        w_max=c.w_max,
        w_power=c.w_power,
        shift=c.path_shift,
        eta=c.path_eta,
    )
    named = [weights_key(recipe.teacher), recipe.prompts.key, c.mixed_precision, c.resolution]
    named.append(c.guided_below)
    named.append([recipe.source.caption(i, 0) for i in range(min(64, recipe.data_length()))])
    named += [recipe.data_length(), sorted(recipe.scheduler.items())]
    key = hashlib.sha256(json.dumps(named, default=str).encode()).hexdigest()[:24]
    student = weights_key(recipe.student) if c.path_own or c.path_edits else ""
    return Paths(
        options, RecipeGuide(recipe), recipe.data_length(), Path(c.data.cache), key, student
    )
