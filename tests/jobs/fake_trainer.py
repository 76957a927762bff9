"""Stands in for `python -m training`: same command line, same folder, no network. Config keys: steps, pause, end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    config = yaml.safe_load(args.config.read_text()) or {}
    out: Path = args.output
    stopped = []
    end = config.get("end", "ok")
    if end == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    first = 0
    saved = out / "checkpoints" / "step"
    if args.resume:
        first = int((saved / "n").read_text())

    def save(step: int) -> None:
        saved.mkdir(parents=True, exist_ok=True)
        (saved / "n").write_text(str(step))

    def result(state: str, **more: str) -> int:
        (out / "result.json").write_text(json.dumps({"state": state, **more}))
        return 0 if state != "failed" else 1

    if config.get("worker"):
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("worker", worker.pid, flush=True)
    print("argv", json.dumps(sys.argv), flush=True)
    print("pid", os.getpid(), flush=True)
    with (out / "events.jsonl").open("a") as events:
        for step in range(first, int(config.get("steps", 5))):
            time.sleep(config.get("pause", 0.02))
            events.write(
                json.dumps({"event": "step", "step": step + 1, "loss": 1 / (step + 1)}) + "\n"
            )
            events.flush()
            for request in ("save", "sample"):
                asked = out / "control" / request
                if asked.exists():
                    asked.unlink()
                    save(step + 1)
                    print("did", request, flush=True)
            if stopped:
                save(step + 1)
                return result("stopped", message=f"saved at step {step + 1}")
            if end == "nan" and step == 2:
                return result("failed", reason="nan", message="the loss is NaN at step 3")
            if end == "crash" and step == 2:
                raise ZeroDivisionError("a fault of the trainer")
            if end == "memory" and step == 2:
                raise MemoryError("can't allocate memory: 9 GB")
    (out / "output" / "model_index.json").write_text("{}")
    return result("succeeded", message="done")


if __name__ == "__main__":
    raise SystemExit(main())
