"""What an edit costs beyond the same generation, in one process and in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.timing import alternate, median, write
from lcm_studio.edits.run import edit_session
from lcm_studio.engine.generate import generate_session
from lcm_studio.models.protocol import Prompt
from lcm_studio.sampling import Decode, Encode, Predict, answer
from lcm_studio.spec.requests import Generate

if TYPE_CHECKING:
    from benchmarks.edit_methods import Bench

STEPS = 4


def parts(bench: Bench, name: str, rows: int, repeats: int = 2) -> tuple[float, float, float]:
    """CPU seconds per picture of one (prediction, decode, encode) of `rows` pictures; the quickest of a few."""
    model = bench.engine.model(name)
    width, height = model.info.width, model.info.height
    prompt = Prompt(width=width, height=height, consistency=model.info.consistency)
    found = []
    with torch.inference_mode():
        cond = model.embed((prompt,)).repeat(rows)
        z = torch.randn(rows, *model.sample_shape(width, height))
        t = model.schedule.level_tensor(model.grid(2)[1], rows)
        images = torch.rand(rows, 3, height, width) * 2 - 1
        for call in (
            lambda: model.predict(z, t, cond),
            lambda: model.decode(z),
            lambda: model.encode(images),
        ):
            times = []
            for _ in range(repeats + 1):
                started = time.process_time()
                call()
                times.append(time.process_time() - started)
            found.append(min(times[1:]) / rows)
    return found[0], found[1], found[2]


class _Watch:
    """Runs one generator and keeps what each kind of ask took, and the whole."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.seconds: dict[str, list[float]] = {}
        self.runs: list[float] = []
        self.loops: list[float] = []

    def __call__(self, generator: Any) -> None:
        started, spent, value = time.perf_counter(), 0.0, None
        first = last = None
        try:
            while True:
                ask = generator.send(value)
                before = time.perf_counter()
                value = answer(ask, self.model)
                after = time.perf_counter()
                if isinstance(ask, Predict | Decode | Encode):
                    first, last = first or before, after
                    self.seconds.setdefault(type(ask).__name__, []).append(after - before)
                    spent += after - before
        except StopIteration:
            ended = time.perf_counter()
        self.runs.append(ended - started)
        self.loops.append((last or ended) - (first or started))


def speed(bench: Bench, rounds: int, results: Path) -> str:
    """The table of section "speed": whole request and loop alone, each against the same generation.

    The loop is from the first network call to the last; the whole adds filling, cropping, blending and the exact
    finish. A pixel-projected edit is also held against the calls that it makes.
    """
    model = bench.engine.model("scenery-lcm")
    hole = bench.scenes("inpaint", [0])[0]
    small, tiny = (bench.scenes(task, [0])[0] for task in ("superres4", "superres8"))
    generate = Generate(prompt=hole.caption, steps=STEPS, seed=1)
    kinds: dict[str, Any] = {
        "generation": lambda: generate_session(generate, model, (1,), 1),
        "inpaint, latent mask": lambda: edit_session(
            hole.request(STEPS, 1, method="latent"), model, (1,), 1
        ),
        "inpaint, pixel-projected": lambda: edit_session(hole.request(STEPS, 1), model, (1,), 1),
        "4x, pixel-projected": lambda: edit_session(small.request(STEPS, 1), model, (1,), 1),
        "8x, pixel-projected": lambda: edit_session(tiny.request(STEPS, 1), model, (1,), 1),
        "4x, residual re-encoding": lambda: edit_session(
            small.request(STEPS, 1, method="residual"), model, (1,), 1
        ),
    }
    watches = {name: _Watch(model) for name in kinds}
    with torch.inference_mode():
        alternate({n: partial(_run, watches[n], kinds[n]) for n in kinds}, rounds)
    p, d, e = (median(_singles(watches, kind)) for kind in ("Predict", "Decode", "Encode"))
    base = watches["generation"]
    rows = []
    for name, watch in watches.items():
        loop, whole = median(watch.loops[1:]), median(watch.runs[1:])
        calls = sum(sum(v) for v in watch.seconds.values()) / len(watch.runs)
        rows.append(
            {
                "request": name,
                "loop ms": 1e3 * loop,
                "whole ms": 1e3 * whole,
                "loop / generation": loop / median(base.loops[1:]),
                "whole / generation": whole / median(base.runs[1:]),
                "loop / N (network + decode + encode)": loop / (STEPS * (p + d + e)),
                "loop / its own calls": loop / calls,
            }
        )
    parts_row = [{"network ms": 1e3 * p, "decode ms": 1e3 * d, "encode ms": 1e3 * e}]
    said = {"Edits and generation": rows, "One call": parts_row, "Live sketch": _live(bench)}
    return write(results, f"Cost of an edit, {STEPS} evaluations, one picture", said)


def _run(watch: _Watch, session: Callable[[], Any]) -> None:
    watch(session())


def _singles(watches: dict[str, _Watch], kind: str) -> list[float]:
    """Times of one picture's call; pairs (the encodes of residual edits) are left out."""
    name = "4x, pixel-projected" if kind == "Encode" else "generation"
    return watches[name].seconds[kind]


def _live(bench: Bench, rounds: int = 15) -> list[dict[str, Any]]:
    """Stroke to pixels within the engine, without page and network: one step, live priority."""
    from lcm_studio.spec.events import Done
    from lcm_studio.spec.requests import Edit

    image = bench.scenes("inpaint", [0])[0].truth
    rows = []
    for steps in (1, STEPS):
        times = []
        for i in range(rounds):
            request = Edit(task="sketch", image=image, steps=steps, seed=i, priority="live")
            started = time.perf_counter()
            done = any(isinstance(event, Done) for event in bench.engine.run(request))
            if not done:
                raise RuntimeError("the live sketch ended without a picture")
            times.append(time.perf_counter() - started)
        rows.append({"steps": steps, "request to picture ms": 1e3 * median(times[1:])})
    return rows
