"""What `import flashworld_core` and the ComfyUI pack cost on top of `import torch`, each time in a fresh interpreter.

python benchmarks/import_time.py
python benchmarks/import_time.py --markdown benchmarks/import_time.md
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

TARGET_SECONDS = 0.2
ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import importlib.util, sys, time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import flashworld_core
package = time.perf_counter()
from flashworld_core import Cameras, FlashWorldError, Gaussians
import flashworld_core.formats.scenes, flashworld_core.ops.select
end = time.perf_counter()
sys.path.append("tests/nodes/standin")
import comfy.model_management, comfy.utils, comfy_api.latest, folder_paths, server
spec = importlib.util.spec_from_file_location("flashworld_pack", "__init__.py")
pack = sys.modules["flashworld_pack"] = importlib.util.module_from_spec(spec)
ready = time.perf_counter()
spec.loader.exec_module(pack)
loaded = time.perf_counter()
print(middle - start, package - middle, end - middle, loaded - ready)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--markdown", type=Path, help="also write the result here")
    options = parser.parse_args()
    runs = []
    for _ in range(options.rounds + 1):
        command = [sys.executable, "-c", PROGRAM]
        runs.append([float(v) for v in subprocess.check_output(command, cwd=ROOT, text=True).split()])
    torch_s, package_s, records_s, pack_s = (statistics.median(column) for column in zip(*runs[1:], strict=True))
    text = "\n".join(
        [
            "# Import time",
            "",
            f"Median of {options.rounds} fresh interpreters, files warm; {os.cpu_count()} CPU cores "
            f"({platform.machine()}), Python {platform.python_version()}. `python benchmarks/import_time.py`",
            "",
            "| | s | x `import torch` |",
            "|---|---|---|",
            f"| `import torch` | {torch_s:.3f} | 1 |",
            f"| then `import flashworld_core` | {package_s:.4f} | {package_s / torch_s:.4f} |",
            f"| with the records, the scene operations and the formats | {records_s:.4f} | {records_s / torch_s:.4f} |",
            f"| the whole pack, as ComfyUI loads it (stand-in host) | {pack_s:.4f} | {pack_s / torch_s:.4f} |",
            "",
            f"Target: less than {TARGET_SECONDS} s.",
        ]
    )
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
