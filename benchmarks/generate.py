"""Ours against stock diffusers with the same weights: single calls, batches, eight clients, start-up."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.timing import alternate, median, write
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.engine import default_folders
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import BUNDLED_MODEL, Generate

PROMPT = "sunset, snowy mountains, lake"
ROOT = Path(__file__).resolve().parent.parent
CELLS = ((1, 1), (1, 4), (8, 1), (8, 4))


def main(argv: list[str]) -> int:
    """Runs all parts and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks generate", description=__doc__)
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--skip", action="append", default=[], choices=("cells", "clients", "first", "start")
    )
    parser.add_argument("--starts", type=int, default=5, help="fresh processes of each side")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "generate")
    parser.add_argument("--first", choices=("ours", "stock"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.first:
        print(json.dumps(first_call(args)))
        return 0
    parts: dict[str, list[dict[str, Any]]] = {}
    if "first" not in args.skip:
        parts["first call"] = first_calls(args)
    if "start" not in args.skip:
        parts["start"] = start(args)
    with engine_of(args) as engine:
        if "cells" not in args.skip:
            parts["steady state"], parts["overhead of ours"] = cells(engine, args)
        if "clients" not in args.skip:
            parts["clients"] = clients(engine, args)
    print(write(args.out, f"generate, {args.model}", parts))
    return 0


def engine_of(args: argparse.Namespace) -> Engine:
    """Our side."""
    return Engine(EngineConfig(device=args.device, dtype=args.dtype, models_dirs=default_folders()))


def stock_of(engine: Engine, model: str) -> Any:
    """The stock pipeline with the same weights, device and dtype."""
    from diffusers import DiffusionPipeline

    place = engine.placement
    pipe = DiffusionPipeline.from_pretrained(
        engine.info(model).path, dtype=place.torch_dtype(), local_files_only=True
    ).to(place.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_ours(engine: Engine, model: str, batch: int, steps: int, seed: int = 0) -> Done:
    """One request to its end."""
    request = Generate(prompt=PROMPT, model=model, count=batch, steps=steps, seed=seed)
    end = list(engine.run(request))[-1]
    if not isinstance(end, Done):
        raise SystemExit(str(end))
    return end


def run_stock(pipe: Any, engine: Engine, model: str, batch: int, steps: int) -> Any:
    """The same pictures by the stock pipeline."""
    import torch

    info = engine.info(model)
    generators = [torch.Generator("cpu").manual_seed(i) for i in range(batch)]
    if info.kind == "cm":
        return pipe(batch_size=batch, num_inference_steps=steps, generator=generators)
    return pipe(
        [PROMPT] * batch,
        num_inference_steps=steps,
        guidance_scale=info.guidance_default,
        generator=generators,
    )


def cells(
    engine: Engine, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Medians per batch and step count, alternating; and our time outside the networks."""
    pipe = stock_of(engine, args.model)
    rows, overhead = [], []
    for batch, steps in CELLS:
        timings: list[dict[str, float]] = []

        def ours(batch: int = batch, steps: int = steps, kept: Any = timings) -> None:
            kept.append(dict(run_ours(engine, args.model, batch, steps).timing))

        def stock(batch: int = batch, steps: int = steps) -> None:
            run_stock(pipe, engine, args.model, batch, steps)

        seconds = alternate({"stock": stock, "ours": ours}, args.rounds)
        a, b = median(seconds["stock"]), median(seconds["ours"])
        rows.append(
            {"batch": batch, "steps": steps, "stock s": a, "ours s": b, "stock / ours": a / b}
        )
        outside = [1 - (t["network"] + t["decode"]) / t["total"] for t in timings[1:]]
        overhead.append(
            {
                "batch": batch,
                "steps": steps,
                "network s": median([t["network"] for t in timings[1:]]),
                "decode s": median([t["decode"] for t in timings[1:]]),
                "outside share": median(outside),
            }
        )
    return rows, overhead


def clients(engine: Engine, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Four-step requests of many clients at once against the same one after another."""
    count = args.clients
    lane = engine.lane(args.model)
    calls: list[int] = []

    def one_by_one() -> None:
        for i in range(count):
            run_ours(engine, args.model, 1, 4, seed=i)

    def together() -> None:
        before = lane.calls
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda i: run_ours(engine, args.model, 1, 4, seed=i), range(count)))
        calls.append(lane.calls - before)

    seconds = alternate({"one": one_by_one, "all": together}, max(3, args.rounds // 2))
    one, together_s = median(seconds["one"]), median(seconds["all"])
    return [
        {
            "clients": count,
            "one after another images/s": count / one,
            "at once images/s": count / together_s,
            "gain": one / together_s,
            "calls at once": median([float(c) for c in calls]),
        }
    ]


def first_call(args: argparse.Namespace) -> dict[str, float]:
    """In a fresh process: seconds to import and load, of the first picture, and of the same once more."""
    begun = time.perf_counter()
    engine = engine_of(args)
    with engine:
        if args.first == "ours":
            engine.load(args.model)
        else:
            pipe = stock_of(engine, args.model)
        seconds = {"load s": time.perf_counter() - begun}
        for name in ("first call s", "second call s"):
            started = time.perf_counter()
            if args.first == "ours":
                run_ours(engine, args.model, 1, args.steps)
            else:
                run_stock(pipe, engine, args.model, 1, args.steps)
            seconds[name] = time.perf_counter() - started
    return seconds


def first_calls(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians over fresh processes, alternating: what the first picture costs, and what loading does."""
    rows = []
    for steps in (1, 4):
        base = [*_base(args), "--steps", str(steps)]
        said: dict[str, list[dict[str, float]]] = {"stock": [], "ours": []}
        for _ in range(args.starts):
            for who, kept in said.items():
                command = ["-m", "benchmarks", "generate", *base, "--first", who]
                out = subprocess.run(
                    [sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True
                ).stdout
                kept.append(json.loads(out.strip().splitlines()[-1]))
        for who, kept in said.items():
            medians = {name: median([one[name] for one in kept]) for name in kept[0]}
            rows.append({"who": who, "steps": steps, "processes": len(kept), **medians})
    return rows


def start(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Start-up as a user meets it."""
    base = _base(args)
    rows = [{"what": "shell: start to first picture s", "value": _shell(base)}]
    if (ROOT / "app.py").is_file():
        rows.append({"what": "app: start to page s", "value": _page(base)})
    return rows


def _base(args: argparse.Namespace) -> list[str]:
    return ["--model", args.model, "--device", args.device, "--dtype", args.dtype]


def _shell(base: list[str]) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "lcm_studio", "generate", PROMPT, *base, "--steps", "4"]
    out = ROOT / "benchmarks" / "results" / "shell.png"
    subprocess.run(
        [*command, "--out", str(out), "--json"], cwd=ROOT, check=True, capture_output=True
    )
    out.unlink(missing_ok=True)
    return time.perf_counter() - started


def _page(base: list[str]) -> float:
    """Until the page answers; nan where it does not within two minutes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *base],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while time.perf_counter() - started < 120 and app.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                return time.perf_counter() - started
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        return float("nan")
    finally:
        app.terminate()
        app.wait(15)
