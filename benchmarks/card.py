"""A graphics card in 8 minutes: pictures per second of a Stable Diffusion 1.5-sized model at 512 px, random weights.

Ours on each backend against stock diffusers, eager and compiled, and against a pipelined loop in StreamDiffusion's way
(all denoising levels in one call, so that every call finishes a picture). Beside it the share of the multiplications that
the card does in one large product. Rows that would begin after the time is up are left out, and said so.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.sd15 import write_teacher
from benchmarks.timing import median, write

ROOT = Path(__file__).resolve().parent.parent
CELLS = ((1, 1), (1, 4), (8, 1), (8, 4))
SIZE = 512


def main(argv: list[str]) -> int:
    """Runs what fits into the time and writes the results after every row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks card", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "generate-card")
    args = parser.parse_args(argv)
    until = time.monotonic() + 60 * args.minutes
    command = "python -m benchmarks card " + " ".join(argv)
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_teacher(Path(folder) / "sd15", ROOT / "assets" / "models" / "scenery-teacher")
        card = Card(model, args.device, args.rounds)
        for side, batch, steps, prepare in sides(card):
            if time.monotonic() > until - 20:
                left_out.append({"side": side, "batch": batch, "steps": steps})
                continue
            rows.append(card.row(side, batch, steps, prepare))
            parts = {"pictures": rows, "left out, the time was up": left_out}
            text = write(args.out, f"generate on {args.device}", parts, command=command)
        print(text)
    return 0


class Card:
    """The model's folder, stock networks on the card, and what one picture costs."""

    def __init__(self, model: Path, device: str, rounds: int) -> None:
        import torch
        from diffusers import DiffusionPipeline

        self.model, self.device, self.rounds = model, device, rounds
        self.dtype = torch.float16 if device.startswith("cuda") else torch.float32
        self.pipe = DiffusionPipeline.from_pretrained(
            str(model), dtype=self.dtype, local_files_only=True
        ).to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self.engines: dict[str, Any] = {}
        self.limit = self._limit()
        self.flops = self._flops()

    def row(
        self, side: str, batch: int, steps: int, prepare: Callable[[], Callable[[], Any]]
    ) -> dict[str, Any]:
        """Median pictures per second; what `prepare` does is not timed."""
        call = prepare()
        call()
        seconds = []
        for _ in range(self.rounds):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            seconds.append(time.perf_counter() - started)
        rate = batch / median(seconds)
        network, decoder = self.flops
        share = rate * (steps * network + decoder) / self.limit
        return {
            "side": side, "batch": batch, "steps": steps, "pictures/s": rate, "share of limit": share,
        }  # fmt: skip

    def wait(self) -> None:
        """Until the card is done."""
        import torch

        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def inputs(self, rows: int) -> tuple[Any, Any, Any]:
        """Latents, timesteps and a text of `rows` pictures."""
        import torch

        width = self.pipe.unet.config.cross_attention_dim
        length = self.pipe.tokenizer.model_max_length
        x = torch.randn(rows, 4, SIZE // 8, SIZE // 8, device=self.device, dtype=self.dtype)
        t = torch.linspace(999, 249, rows, device=self.device).long()
        return x, t, torch.randn(rows, length, width, device=self.device, dtype=self.dtype)

    def _limit(self) -> float:
        """Multiplications and additions per second of one large product."""
        import torch

        side = 8192 if self.device.startswith("cuda") else 1024
        a = torch.randn(side, side, device=self.device, dtype=self.dtype)
        seconds = []
        for _ in range(8):
            self.wait()
            started = time.perf_counter()
            _ = a @ a
            self.wait()
            seconds.append(time.perf_counter() - started)
        return float(2 * side**3 / min(seconds))

    def _flops(self) -> tuple[float, float]:
        """Of one network call and one decoding, per picture."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        x, t, text = self.inputs(1)
        with torch.inference_mode():
            with FlopCounterMode(display=False) as network:
                self.pipe.unet(x, t, encoder_hidden_states=text)
            with FlopCounterMode(display=False) as decoder:
                self.pipe.vae.decode(x)
        return float(network.get_total_flops()), float(decoder.get_total_flops())


Row = tuple[str, int, int, Callable[[], Callable[[], Any]]]


def sides(card: Card) -> Iterator[Row]:
    """What is measured, the most telling rows first."""
    for batch, steps in CELLS:
        yield "stock eager", batch, steps, lambda b=batch, s=steps: stock(card, b, s)
        yield "ours, torch", batch, steps, lambda b=batch, s=steps: ours(card, "torch", b, s)
        yield "ours, compile", batch, steps, lambda b=batch, s=steps: ours(card, "compile", b, s)
    for steps in (1, 4):
        yield "pipelined levels", 1, steps, lambda s=steps: pipelined(card, s)
    for batch, steps in CELLS[:2]:
        yield "stock compiled", batch, steps, lambda b=batch, s=steps: stock_compiled(card, b, s)


def stock(card: Card, batch: int, steps: int) -> Callable[[], Any]:
    """The stock pipeline without classifier-free guidance."""
    prompts = ["sunset, lake"] * batch
    return lambda: card.pipe(prompts, num_inference_steps=steps, guidance_scale=1.0)


def stock_compiled(card: Card, batch: int, steps: int) -> Callable[[], Any]:
    """The same with its networks compiled, from now on."""
    import torch

    if not hasattr(card.pipe.unet, "_orig_mod"):
        card.pipe.unet.to(memory_format=torch.channels_last)
        card.pipe.unet = torch.compile(card.pipe.unet, mode="max-autotune", dynamic=False)
        card.pipe.vae.decode = torch.compile(card.pipe.vae.decode, mode="max-autotune")
    return stock(card, batch, steps)


def pipelined(card: Card, steps: int) -> Callable[[], Any]:
    """One call for all levels of as many pictures; one of them is decoded."""
    import torch

    x, t, text = card.inputs(steps)

    def call() -> Any:
        with torch.inference_mode():
            latents = card.pipe.unet(x, t, encoder_hidden_states=text, return_dict=False)[0]
            return card.pipe.vae.decode(latents[:1], return_dict=False)[0].cpu()

    return call


def ours(card: Card, backend: str, batch: int, steps: int) -> Callable[[], Any]:
    """The engine, its backend ready before the first call."""
    from lcm_studio.engine import Engine, EngineConfig
    from lcm_studio.spec.events import Done
    from lcm_studio.spec.requests import Generate

    if backend not in card.engines:
        card.engines[backend] = Engine(EngineConfig(device=card.device, backend=backend, once=True))
    engine = card.engines[backend]
    request = Generate(
        prompt="sunset, lake", model=str(card.model), count=batch, steps=steps, guidance=1.0
    )

    def call() -> None:
        end = list(engine.run(request))[-1]
        if not isinstance(end, Done):
            raise SystemExit(str(end))

    return call
