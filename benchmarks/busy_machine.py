"""One scene of the embedded model beside busy programs, by how OpenMP's threads wait: interleaved runs, ratios.

``python benchmarks/busy_machine.py [--busy N] [--rounds N]``. Each run is a process of its own (OpenMP reads
its settings when it starts) that makes one scene to load everything and times the second. Other programs on the machine change
seconds, and less so the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "default": {},
    "short spin": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SCENE = """
import time
from flashworld_core import Request, ViewImage, load_model, make_trajectory
model = load_model("tiny")
path = make_trajectory("orbit", views=8, width=96, height=64)
request = Request(path, images=(ViewImage("flashworld_core/assets/demo/picture.png"),))
model.generate(request)
begin = time.perf_counter()
model.generate(request)
print(time.perf_counter() - begin)
"""


def seconds(setting: dict[str, str]) -> float:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCENE], cwd=ROOT, env={**kept, "PYTHONPATH": str(ROOT), **setting}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--busy", type=int, default=3, help="busy programs beside it")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        times = {name: [] for name in SETTINGS}
        for _ in range(options.rounds):
            for name, setting in SETTINGS.items():
                times[name].append(seconds(setting))
                print(f"{name:<12}{times[name][-1]:8.2f} s", flush=True)
    finally:
        for process in busy:
            process.kill()
    first = times["default"]
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(first, found, strict=True))
        print(f"{name:<12} median {statistics.median(found):6.2f} s, {ratio:5.2f} times as fast as the default")


if __name__ == "__main__":
    main()
