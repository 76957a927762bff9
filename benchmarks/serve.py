"""`python -m benchmarks serve ray://HOST:PORT ...`: pictures a second of deployments, asked by many clients at once.

Start one deployment of one replica and one of two (`python -m lcm_studio serve`), name both: the last column compares.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from lcm_studio.engine.remote.client import RemoteEngine
from lcm_studio.spec.events import Done
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Generate


def measure(engine: RemoteEngine, clients: int, requests: int, steps: int) -> tuple[float, float]:
    """(pictures a second, seconds of the median request)."""

    def client(number: int) -> list[float]:
        seconds = []
        for i in range(requests):
            started = time.perf_counter()
            request = Generate(prompt="sunset, lake", steps=steps, seed=100 * number + i)
            *_, end = engine.run(request, owner=Owner(person=str(number)))
            if not isinstance(end, Done):
                raise SystemExit(f"a request ended with {end}")
            seconds.append(time.perf_counter() - started)
        return seconds

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))  # every replica has its sizes
        started = time.perf_counter()
        seconds = [s for each in pool.map(client, range(clients)) for s in each]
        wall = time.perf_counter() - started
    return clients * requests / wall, statistics.median(seconds)


def main(argv: list[str]) -> int:
    """A row for each deployment."""
    p = argparse.ArgumentParser(prog="python -m benchmarks serve")
    p.add_argument("engines", nargs="+", metavar="ray://HOST:PORT")
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--requests", type=int, default=4, help="of each client")
    p.add_argument("--steps", type=int, default=4)
    args = p.parse_args(argv)
    print(f"{args.clients} clients, {args.requests} requests each, {args.steps} steps\n")
    print("| engine | pictures /s | median s | x the first |\n|---|---|---|---|")
    first = 0.0
    for address in args.engines:
        rate, median = measure(RemoteEngine(address), args.clients, args.requests, args.steps)
        first = first or rate
        print(f"| {address} | {rate:.2f} | {median:.2f} | {rate / first:.2f} |", flush=True)
    return 0
