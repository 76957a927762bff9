"""What an edit costs beyond the same generation, in one process and in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from benchmarks.edit_scenes import KERNEL
from benchmarks.timing import median, write
from lcm_studio.edits import harmonic
from lcm_studio.edits.blurs import blur_operator
from lcm_studio.edits.finish import to_bytes
from lcm_studio.edits.pixels import picture, tensor
from lcm_studio.engine.session import build, session
from lcm_studio.models.protocol import Prompt
from lcm_studio.sampling import Decode, Encode, Predict, answer
from lcm_studio.spec.requests import Edit, Generate

if TYPE_CHECKING:
    from benchmarks.edit_methods import Bench

STEPS = 4


def parts(bench: Bench, name: str, rows: int, repeats: int = 2) -> tuple[float, float, float]:
    """CPU seconds per picture of one (prediction, decode, encode) of `rows` pictures; the quickest of a few."""
    model = bench.engine.model(name)
    width, height = model.info.width, model.info.height
    prompt = Prompt(width=width, height=height)
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


class _Run:
    """One generator driven to its end, and what it took: the whole, the loop in it, each kind of ask."""

    def __init__(self, generator: Any, model: Any) -> None:
        self.calls: dict[str, list[float]] = {}
        self.encoded = 0  # pictures
        started, value = time.perf_counter(), None
        first = last = None
        try:
            while True:
                ask = generator.send(value)
                before = time.perf_counter()
                value = answer(ask, model)
                after = time.perf_counter()
                if isinstance(ask, Predict | Decode | Encode):
                    first, last = first or before, after
                    self.encoded += len(ask.images) if isinstance(ask, Encode) else 0
                    self.calls.setdefault(type(ask).__name__, []).append(after - before)
        except StopIteration:
            ended = time.perf_counter()
        self.whole = ended - started
        self.loop = (last or ended) - (first or started)
        self.spent = sum(map(sum, self.calls.values()))

    def one(self, kind: str) -> float:
        """Mean seconds of a call of this kind, for one picture."""
        calls = self.calls[kind]
        return sum(calls) / (self.encoded if kind == "Encode" else len(calls))


def speed(bench: Bench, rounds: int, results: Path) -> str:
    """The table of section "speed": whole request and loop alone, each against the same generation.

    The loop is from the first network call to the last; the whole adds filling, cropping, blending and the exact
    finish. Every edit is run right before or right after a generation, and a figure is the median of the ratios of these
    pairs: a machine that slows down for seconds slows both. A pixel-projected edit is also held against N networks and
    decodings, as the generation beside it took for them, and N encodings, as it took itself.
    """
    model = bench.engine.model("scenery-lcm")
    hole = bench.scenes("inpaint", [0])[0]
    small, tiny = (bench.scenes(task, [0])[0] for task in ("superres4", "superres8"))
    generate = Generate(prompt=hole.caption, steps=STEPS, seed=1)
    latent = hole.request(STEPS, 1, method="latent")

    def generation() -> _Run:
        return _Run(session(generate, model, (1,), 1), model)

    def edit(request: Edit) -> _Run:
        return _Run(session(request, model, (1,), 1), model)

    def first_of_its_mask() -> _Run:
        """What a new mask costs beyond: its Laplacian is factorized."""
        harmonic.forget()
        return edit(latent)

    kinds: dict[str, Callable[[], _Run]] = {
        "generation, again": generation,
        "inpaint, latent mask": partial(edit, latent),
        "inpaint, latent mask, seen for the first time": first_of_its_mask,
        "inpaint, pixel-projected": partial(edit, hole.request(STEPS, 1)),
        "4x, pixel-projected": partial(edit, small.request(STEPS, 1)),
        "8x, pixel-projected": partial(edit, tiny.request(STEPS, 1)),
    }
    with torch.inference_mode():
        pairs = _paired(generation, kinds, rounds)
    base = [g for found in pairs.values() for g, _ in found]
    rows = [_row("generation", [(g, g) for g in base])]
    rows += [_row(name, found) for name, found in pairs.items()]
    parts_row = [
        {f"{kind} ms": 1e3 * median([run.one(ask) for run in runs])}
        for kind, ask, runs in (
            ("network", "Predict", base),
            ("decode", "Decode", base),
            ("encode", "Encode", [e for _, e in pairs["4x, pixel-projected"]]),
        )
    ]
    said = {
        "Edits and generation": rows,
        "One call": [{k: v for part in parts_row for k, v in part.items()}],
        "Live sketch": _live(bench),
        "Outside the networks": [outside(bench, 512)],
    }
    return write(results, f"Cost of an edit, {STEPS} evaluations, one picture", said)


def _paired(
    base: Callable[[], _Run], kinds: Mapping[str, Callable[[], _Run]], rounds: int
) -> dict[str, list[tuple[_Run, _Run]]]:
    """(base, kind) of every kind, `rounds` times after one that is not kept; which comes first changes in turn."""
    pairs: dict[str, list[tuple[_Run, _Run]]] = {name: [] for name in kinds}
    for turn in range(rounds + 1):
        for name, kind in kinds.items():
            if turn % 2:
                other, own = base(), kind()
            else:
                own, other = kind(), base()
            if turn:
                pairs[name].append((other, own))
    return pairs


def _row(name: str, pairs: Sequence[tuple[_Run, _Run]]) -> dict[str, Any]:
    def calls(base: _Run, edit: _Run) -> float:
        """N (network + decode + encode)."""
        return STEPS * (base.one("Predict") + base.one("Decode") + edit.one("Encode"))

    projected = pairs[0][1].encoded > 1

    return {
        "request": name,
        "loop ms": 1e3 * median([e.loop for _, e in pairs]),
        "whole ms": 1e3 * median([e.whole for _, e in pairs]),
        "loop / generation": median([e.loop / g.loop for g, e in pairs]),
        "whole / generation": median([e.whole / g.whole for g, e in pairs]),
        "loop / N (network + decode + encode)": median([e.loop / calls(g, e) for g, e in pairs])
        if projected
        else "",
        "loop / its own calls": median([e.loop / e.spent for _, e in pairs]),
    }


def outside(bench: Bench, side: int, rounds: int = 5) -> dict[str, Any]:
    """Processor time of what a deblur of `side` x `side` computes itself: building, a projection per level, finishing."""
    truth = bench.scenes("inpaint", [0])[0].truth
    large = cv2.resize(truth, (side, side), interpolation=cv2.INTER_CUBIC)
    blurred = blur_operator(KERNEL, side, side).A(tensor(large).double())
    request = Edit(
        task="deblur",
        image=to_bytes(picture(blurred[0])),
        options={"kernel": KERNEL},
        steps=STEPS,
    )
    model = bench.engine.model("scenery-lcm")
    times: dict[str, list[float]] = {"build": [], "projections": [], "finish": []}
    for _ in range(rounds + 1):
        marks = [time.process_time()]
        problem = build(request, model)
        marks.append(time.process_time())
        for k in range(STEPS):
            assert problem.known is not None and problem.start is not None
            problem.known.project(problem.start, k)
        marks.append(time.process_time())
        problem.finish(problem.start, lambda share: None)
        marks.append(time.process_time())
        for name, (a, b) in zip(times, pairwise(marks), strict=True):
            times[name].append(b - a)
    parts = {f"{name} ms": 1e3 * median(found[1:]) for name, found in times.items()}
    return {"task": f"deblur {side} x {side}", **parts, "whole ms": sum(parts.values())}


def _live(bench: Bench, rounds: int = 15) -> list[dict[str, Any]]:
    """Stroke to pixels within the engine, without page and network: one step, live priority."""
    from lcm_studio.spec.events import Done

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
