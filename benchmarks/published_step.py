"""The distillation step as it was published, written plainly, and each of our savings as a switch on it.

What it does is what diffusers' `examples/consistency_distillation/train_lcm_distill_sd_wds.py` does in a
micro-step: VAE and text encoder online, the teacher called twice, an EMA loop over parameters, PyTorch's
default AdamW, `.item()` after every step. Where the published step is wrong (a v-prediction taken for an
epsilon in the DDIM step, autocast of the teacher whatever was asked for) this one is right, so that both
sides have one loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from training.recipes.lcd import LatentDistillation
from training.recipes.students import student_of


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What the published step wastes, saved where True."""

    cached_latents: bool = False
    cached_text: bool = False
    one_teacher_call: bool = False
    foreach_ema: bool = False
    fused_adamw: bool = False
    no_host_sync: bool = False
    channels_last: bool = False

    @staticmethod
    def names() -> tuple[str, ...]:
        """The switches."""
        return tuple(field.name for field in fields(Savings))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """All that is random in one micro-step, so that two sides can have the same.

    x0: scaled latents (B, C, h, w). eps: of the same shape. t: int64 (B,). w: (B,), guidance scale - 1.
    """

    examples: tuple[int, ...]
    texts: tuple[str, ...]
    x0: Tensor
    eps: Tensor
    t: Tensor
    w: Tensor


class PublishedStep:
    """Student, target, optimizer and a step; teacher, VAE, text encoder and data are those of `recipe`.

    `recipe`: a built `lcd` recipe of Stable Diffusion 1.x or 2.x. The student starts from the same weights.
    """

    def __init__(self, recipe: LatentDistillation, savings: Savings) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self.config, self.savings, self.device = recipe.config, savings, recipe.device
        self.autocast = recipe.autocast
        c = self.config
        root = c.teacher
        self.tokenizer = CLIPTokenizer.from_pretrained(root, subfolder="tokenizer")
        self.text: Any = CLIPTextModel.from_pretrained(
            root, subfolder="text_encoder", dtype=torch.float32
        )
        self.text.requires_grad_(False).eval().to(self.device)
        self.vae = self._network("AutoencoderKL", "vae", recipe.vae)
        self.teacher = self._network("UNet2DConditionModel", "unet", recipe.teacher)
        self.student = self._laid_out(student_of(self.teacher, c.time_cond_proj_dim))
        self.target = self._laid_out(student_of(self.teacher, c.time_cond_proj_dim))
        self.target.requires_grad_(False)
        self.student.train()
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(),
            lr=c.learning_rate,
            betas=(c.adam_beta1, c.adam_beta2),
            eps=c.adam_epsilon,
            weight_decay=c.adam_weight_decay,
            fused=True if savings.fused_adamw else None,
        )
        bar = recipe.schedule.alphas_cumprod.to(self.device)
        self.alphas, self.sigmas = bar.sqrt().float(), (1 - bar).sqrt().float()
        self.kind, self.skip = recipe.schedule.prediction_type, recipe.skip
        self.uncond = self._encode_text([""] * c.batch_size)  # once, as published
        self.texts: dict[str, Tensor] = {}

    def _network(self, kind: str, part: str, like: Any) -> Any:
        """A frozen network of the teacher's folder in this side's memory layout."""
        import diffusers

        made = getattr(diffusers, type(like).__name__ if part == "vae" else kind).from_pretrained(
            self.config.teacher, subfolder=part, torch_dtype=torch.float32
        )
        return self._laid_out(made.requires_grad_(False).eval())

    def _laid_out(self, network: Any) -> Any:
        network = network.to(self.device)
        if self.savings.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return network

    def remember(self, texts: Sequence[str]) -> None:
        """Fills the cache of `cached_text`; a run fills it once, before its first step."""
        for text in texts:
            if text not in self.texts:
                self.texts[text] = self._encode_text([text])[0]

    def __call__(self, pictures: Tensor, drawn: Drawn) -> Tensor | float:
        """One step on pictures (B, 3, H, W) in [-1, 1]; the loss, a float where it is waited for."""
        c = self.config
        loss = self.loss(pictures, drawn)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), c.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_target()
        return loss.detach() if self.savings.no_host_sync else loss.detach().item()

    def loss(self, pictures: Tensor, drawn: Drawn) -> Tensor:
        """Algorithm 1 of Luo et al. 2023 on one batch, under the autocast of the config."""
        with self.autocast():
            return self._loss(pictures, drawn)

    def _loss(self, pictures: Tensor, drawn: Drawn) -> Tensor:
        c, saved = self.config, self.savings
        latents = drawn.x0 if saved.cached_latents else self._encode(pictures, drawn.x0)
        context = (
            torch.stack([self.texts[text] for text in drawn.texts])
            if saved.cached_text
            else self._encode_text(drawn.texts)
        )
        t = drawn.t.to(self.device)
        s = torch.where(t < self.skip, torch.zeros_like(t), t - self.skip)
        noisy = self._level(self.alphas, t) * latents + self._level(self.sigmas, t) * drawn.eps
        w = drawn.w.reshape(-1, 1, 1, 1).to(self.device)
        emb = _embedding(drawn.w, c.time_cond_proj_dim).to(self.device)

        out = self.student(noisy, t, timestep_cond=emb, encoder_hidden_states=context).sample
        model_pred = self._consistency(out, noisy, t)
        with torch.no_grad():
            x_prev = self._ddim(self._teach(noisy, t, context), noisy, t, s, w)
            out = self.target(x_prev, s, timestep_cond=emb, encoder_hidden_states=context).sample
            target = self._consistency(out, x_prev, s)
        if c.loss_type == "l2":
            return torch.nn.functional.mse_loss(model_pred, target)
        return ((model_pred - target) ** 2 + c.huber_c**2).sqrt().sub(c.huber_c).mean()

    def _encode(self, pictures: Tensor, x0: Tensor) -> Tensor:
        found = self.vae.encode(pictures)
        scale = self.vae.config.scaling_factor
        if hasattr(found, "latents"):
            latents: Tensor = found.latents * scale
            return latents
        spread = found.latent_dist  # the draw of the posterior that made x0
        sample = spread.mean + spread.std * ((x0 / scale - spread.mean) / spread.std)
        return sample * scale

    @torch.no_grad()
    def _encode_text(self, texts: Sequence[str]) -> Tensor:
        ids = self.tokenizer(
            list(texts),
            max_length=self.tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        found: Tensor = self.text(ids.to(self.device))[0]
        return found

    def _teach(self, x: Tensor, t: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        uncond = self.uncond[: len(x)]
        if self.savings.one_teacher_call:
            both = torch.cat([context, uncond])
            doubled = self.teacher(
                torch.cat([x, x]), torch.cat([t, t]), encoder_hidden_states=both
            ).sample
            first, second = doubled.chunk(2)
            return first, second
        return (
            self.teacher(x, t, encoder_hidden_states=context).sample,
            self.teacher(x, t, encoder_hidden_states=uncond).sample,
        )

    def _level(self, table: Tensor, t: Tensor) -> Tensor:
        return table[t].reshape(-1, 1, 1, 1)

    def _split(self, out: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(x0, eps) of a prediction."""
        alpha, sigma = self._level(self.alphas, t), self._level(self.sigmas, t)
        if self.kind == "epsilon":
            return (x - sigma * out) / alpha, out
        if self.kind == "v_prediction":
            return alpha * x - sigma * out, alpha * out + sigma * x
        return out, (x - alpha * out) / sigma

    def _ddim(
        self, both: tuple[Tensor, Tensor], x: Tensor, t: Tensor, s: Tensor, w: Tensor
    ) -> Tensor:
        (x0, eps), (x0_uncond, eps_uncond) = (self._split(out, x, t) for out in both)
        x0 = x0 + w * (x0 - x0_uncond)
        eps = eps + w * (eps - eps_uncond)
        return self._level(self.alphas, s) * x0 + self._level(self.sigmas, s) * eps

    def _consistency(self, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        scaled = self.config.timestep_scaling * t.reshape(-1, 1, 1, 1).float()
        c_skip = 0.25 / (scaled**2 + 0.25)
        c_out = scaled / (scaled**2 + 0.25) ** 0.5
        return c_skip * x + c_out * self._split(out, x, t)[0]

    @torch.no_grad()
    def _update_target(self) -> None:
        decay = self.config.target_ema
        pairs = zip(self.target.parameters(), self.student.parameters(), strict=True)
        if self.savings.foreach_ema:
            targets, sources = zip(*pairs, strict=True)
            torch._foreach_lerp_(list(targets), [p.detach() for p in sources], 1 - decay)
            return
        for target, source in pairs:
            target.detach().mul_(decay).add_(source, alpha=1 - decay)


def _embedding(w: Tensor, width: int) -> Tensor:
    """Sinusoids of 1000 w, built on the CPU as published, (B, width)."""
    half = width // 2
    scale = torch.log(torch.tensor(10000.0)) / (half - 1)
    angle = 1000.0 * w.cpu()[:, None] * torch.exp(torch.arange(half) * -scale)[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
