"""Ours on each backend against stock diffusers with the same weights: single calls, batches, clients, start-up."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import alternate, median, write
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.config import default_folders
from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import BUNDLED_MODEL, Generate

PROMPT = "sunset, snowy mountains, lake"
ROOT = Path(__file__).resolve().parent.parent
RANDOM = "random-sd15"
RANDOM_TINY = "random-tiny"
CELLS = ((1, 1), (1, 4), (8, 1), (8, 4))
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SIDES = {
    "torch": ("torch", ""),
    "openvino": ("openvino", "fp32"),
    "openvino bf16": ("openvino", "bf16"),
    "stock bf16": ("", ""),
}
"""name -> (backend, dtype) of ours; a name that starts with stock is stock diffusers."""


def main(argv: list[str]) -> int:
    """Runs all parts and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks generate", description=__doc__)
    parser.add_argument(
        "--model",
        default=BUNDLED_MODEL,
        help=f"{RANDOM} = Stable Diffusion 1.5's shapes and random weights (4 GB of memory a side)",
    )
    parser.add_argument(
        "--decoder",
        default="default",
        help=f"of ours; {RANDOM_TINY} = a tiny decoder of random weights, shaped as TAESD",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--side",
        action="append",
        choices=(*SIDES, "stock compiled", "compile"),
        help="what is compared with stock diffusers (repeatable; default: what fits the device)",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--cell", action="append", metavar="BATCHxSTEPS", help="default: 1x1, 1x4, 8x1 and 8x4"
    )
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: seconds of computing, for a machine that others use too (set OMP_NUM_THREADS=1)",
    )  # fmt: skip
    parser.add_argument("--guidance", type=float, help="default: the model's")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--skip", action="append", default=[], choices=("cells", "clients", "first", "start")
    )
    parser.add_argument("--starts", type=int, default=5, help="fresh processes of each side")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "generate")
    parser.add_argument("--first", choices=("ours", "stock"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.first:
        print(json.dumps(first_call(args)))
        return 0
    command = "python -m benchmarks generate " + " ".join(argv)
    with tempfile.TemporaryDirectory() as folder:
        if args.model == RANDOM:
            from benchmarks.sd15 import write_teacher

            like = ROOT / "assets" / "models" / "scenery-teacher"
            args.model = str(write_teacher(Path(folder) / RANDOM, like))
        if args.decoder == RANDOM_TINY:
            from benchmarks.sd15 import write_tiny_decoder

            args.decoder = str(write_tiny_decoder(Path(folder) / RANDOM_TINY))
        parts = measured(args)
    print(write(args.out, f"generate, {Path(args.model).name}", parts, command=command))
    return 0


def measured(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The tables asked for."""
    parts: dict[str, list[dict[str, Any]]] = {}
    if "first" not in args.skip:
        parts["first call"] = first_calls(args)
    if "start" not in args.skip:
        parts["start"] = start(args)
    if "cells" not in args.skip:
        parts["steady state"], parts["overhead of ours"] = cells(args)
    if "clients" not in args.skip:
        with engine_of(args) as engine:
            parts["clients"] = clients(engine, args)
    return parts


def engine_of(args: argparse.Namespace, backend: str = "auto", dtype: str = "") -> Engine:
    """Our side, its backend ready before the first call."""
    config = EngineConfig(
        device=args.device,
        dtype=dtype or args.dtype,
        backend=backend,
        once=True,
        models_dirs=default_folders(),
    )
    return Engine(config)


def stock_of(engine: Engine, model: str, *, bf16: bool = False, compiled: bool = False) -> Any:
    """The stock pipeline with the same weights on the same device."""
    import torch
    from diffusers import DiffusionPipeline

    place = engine.placement
    pipe = DiffusionPipeline.from_pretrained(
        engine.info(model).path,
        dtype=torch.bfloat16 if bf16 else place.torch_dtype(),
        local_files_only=True,
    ).to(place.device)
    pipe.set_progress_bar_config(disable=True)
    if compiled:
        pipe.unet = torch.compile(pipe.unet, dynamic=False)
        if hasattr(pipe, "vae"):
            pipe.vae.decode = torch.compile(pipe.vae.decode, dynamic=False)
    return pipe


def run_ours(
    engine: Engine,
    model: str,
    batch: int,
    steps: int,
    seed: int = 0,
    guidance: float | None = None,
    decoder: str = "default",
) -> Done:
    """One request to its end."""
    request = Generate(
        prompt=PROMPT,
        model=model,
        count=batch,
        steps=steps,
        seed=seed,
        guidance=guidance,
        decoder=decoder,
        eta=None if engine.info(model).eta is None else 1.0,  # as stock
    )
    end = list(engine.run(request))[-1]
    if not isinstance(end, Done):
        raise SystemExit(str(end))
    return end


def run_stock(
    pipe: Any, engine: Engine, model: str, batch: int, steps: int, guidance: float | None = None
) -> Any:
    """The same pictures by the stock pipeline."""
    import torch

    from training.scenery.evaluation.cells import steps_told

    info = engine.info(model)
    generators = [torch.Generator("cpu").manual_seed(i) for i in range(batch)]
    if info.kind == "cm":
        return pipe(batch_size=batch, num_inference_steps=steps, generator=generators)
    return pipe(
        [PROMPT] * batch,
        **steps_told(pipe.scheduler, steps, info.shift),
        guidance_scale=info.guidance_default if guidance is None else guidance,
        generator=generators,
    )


def sides_of(args: argparse.Namespace) -> tuple[str, ...]:
    """What is compared with eager stock diffusers on this device."""
    if args.side:
        return tuple(args.side)
    import torch

    gpu = args.device.startswith("cuda") or (args.device == "auto" and torch.cuda.is_available())
    return ("stock compiled", "torch", "compile") if gpu else SIDES


def cells(args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Medians per batch and step count, all sides in turn; and the fastest side's time outside the networks."""
    sides = sides_of(args)
    engines = {
        side: engine_of(args, *SIDES.get(side, (side, "")))
        for side in sides
        if not side.startswith("stock")
    }
    first = next(iter(engines.values()), None) or engine_of(args, "torch")
    pipes = {
        side: stock_of(first, args.model, bf16="bf16" in side, compiled="compiled" in side)
        for side in ("stock", *sides)
        if side.startswith("stock")
    }
    rows, overhead = [], []
    for batch, steps in _cells(args):
        timings: dict[str, list[Mapping[str, float]]] = {side: [] for side in engines}

        def ours(side: str, batch: int = batch, steps: int = steps, kept: Any = timings) -> None:
            done = run_ours(
                engines[side],
                args.model,
                batch,
                steps,
                guidance=args.guidance,
                decoder=args.decoder,
            )
            kept[side].append(done.timing)

        def stock(side: str, batch: int = batch, steps: int = steps) -> None:
            run_stock(pipes[side], first, args.model, batch, steps, args.guidance)

        calls = {side: partial(stock, side) for side in pipes}
        calls |= {side: partial(ours, side) for side in engines}
        seconds = alternate(calls, args.rounds, clock=CLOCKS[args.clock])
        medians = {side: median(values) for side, values in seconds.items()}
        rows.append(
            {"batch": batch, "steps": steps}
            | {f"{side} s": value for side, value in medians.items()}
            | {f"{side} x": medians["stock"] / medians[side] for side in sides}
        )
        for side, kept in timings.items():
            outside = [1 - (t["network"] + t["decode"]) / t["total"] for t in kept[1:]]
            overhead.append(
                {
                    "batch": batch,
                    "steps": steps,
                    "side": side,
                    "network s": median([t["network"] for t in kept[1:]]),
                    "decode s": median([t["decode"] for t in kept[1:]]),
                    "outside share": median(outside),
                }
            )
    for engine in engines.values():
        engine.close()
    return rows, overhead


def _cells(args: argparse.Namespace) -> tuple[tuple[int, int], ...]:
    if not args.cell:
        return CELLS
    return tuple((int(b), int(s)) for b, s in (cell.split("x") for cell in args.cell))


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
    out = ROOT / "benchmarks" / "shell.png"
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
