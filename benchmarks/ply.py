"""PLY writing and reading against raw bytes and plyfile, in one interleaved run; peak memory in processes of their own.

    python benchmarks/ply.py                       4 million degree-2 Gaussians, prints the table
    python benchmarks/ply.py --markdown benchmarks/ply.md

"Raw" moves the same bytes between memory and the same folder with plain write and readinto calls. plyfile gets its
rows by whole columns, the fastest way it offers, and its reader's result is activated like ours.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashworld_core.formats.scenes.ply import read_ply, write_ply  # noqa: E402
from flashworld_core.formats.scenes.ply_header import written_names  # noqa: E402
from flashworld_core.gaussians import Gaussians  # noqa: E402

PIECE = 8 << 20
TARGETS = {"write / raw": "<= 1.6", "plyfile / write": ">= 4", "read / raw": "<= 3", "write extra MB": "<= 100"}


def make_scene(count: int, degree: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        normal(count, 3),
        torch.nn.functional.normalize(normal(count, 4), dim=1),
        normal(count, 3).exp_().mul_(0.01),
        torch.rand(count, generator=generator),
        normal(count, (degree + 1) ** 2, 3),
        {"generator": "benchmark", "seed": 0},
    )


def raw_write(path: Path, data: np.ndarray) -> None:
    with open(path, "wb") as stream:
        for start in range(0, len(data), PIECE):
            stream.write(data[start : start + PIECE])


def raw_read(path: Path) -> np.ndarray:
    data = np.empty(path.stat().st_size, np.uint8)
    view, done = memoryview(data), 0
    with open(path, "rb", buffering=0) as stream:
        while done < len(data):
            done += stream.readinto(view[done : done + PIECE])
    return data


def plyfile_write(path: Path, scene: Gaussians) -> None:
    from plyfile import PlyData, PlyElement

    k = scene.sh.shape[1]
    names = written_names(k)
    rows = np.empty(len(scene), [(name, "f4") for name in names])
    columns = [*scene.means.T, *scene.sh[:, 0].T, *scene.sh[:, 1:].transpose(1, 2).reshape(len(scene), -1).T]
    columns += [torch.logit(scene.opacities), *scene.scales.log().T, *scene.quats.T]
    for name, column in zip(names, columns, strict=True):
        rows[name] = column.numpy()
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))


def plyfile_read(path: Path) -> Gaussians:
    from plyfile import PlyData

    vertex = PlyData.read(str(path))["vertex"]
    names = [p.name for p in vertex.properties]
    rest = [n for n in names if n.startswith("f_rest_")]
    k = len(rest) // 3 + 1

    def stack(columns):
        return torch.from_numpy(np.stack([vertex[c] for c in columns], axis=1))

    dc = stack([f"f_dc_{i}" for i in range(3)])[:, None]
    higher = stack([f"f_rest_{i}" for i in range(len(rest))]).view(-1, 3, k - 1).transpose(1, 2)
    return Gaussians(
        stack("xyz"),
        torch.nn.functional.normalize(stack([f"rot_{i}" for i in range(4)]), dim=1),
        stack([f"scale_{i}" for i in range(3)]).exp(),
        torch.from_numpy(np.array(vertex["opacity"])).sigmoid(),
        torch.cat([dc, higher], dim=1),
    )


def measure(folder: Path, count: int, degree: int, rounds: int, with_plyfile: bool) -> dict[str, float]:
    """Median seconds of each candidate."""
    scene = make_scene(count, degree)
    source, target = folder / "source.ply", folder / "target.ply"
    write_ply(source, scene)
    data = raw_read(source)
    candidates = {
        "raw write": lambda: raw_write(target, data),
        "write_ply": lambda: write_ply(target, scene),
        "raw read": lambda: raw_read(source),
        "read_ply": lambda: read_ply(source),
    }
    if with_plyfile:
        candidates |= {
            "plyfile write": lambda: plyfile_write(target, scene),
            "plyfile read": lambda: plyfile_read(source),
        }
    seconds = {name: [] for name in candidates}
    for round_number in range(-1, rounds):  # one round to warm up
        for name, run in candidates.items():
            target.unlink(missing_ok=True)  # its pages go back to the cache's free list, for every candidate alike
            start = time.perf_counter()
            result = run()
            elapsed = time.perf_counter() - start
            del result
            if round_number >= 0:
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()} | {"bytes": float(len(data))}


def peak_extra_mb(folder: Path, action: str, count: int, degree: int) -> float | None:
    """Peak resident memory above what is held before the call, in a fresh process; None where Linux's counters lack."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--peak-of", action, "--gaussians", str(count), "--degree", str(degree)]
    done = subprocess.run([*command, "--folder", str(folder)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(folder: Path, action: str, count: int, degree: int) -> None:
    def status(key: str) -> float:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
        return int(line.split()[1]) / 1024

    small = make_scene(1000, degree)
    write_ply(folder / "small.ply", small)  # lazily loaded code is no memory of the action
    read_ply(folder / "small.ply")
    if action == "write":
        scene, path = make_scene(count, degree), folder / "peak.ply"

        def call():
            write_ply(path, scene)
    else:

        def call():
            return read_ply(folder / "peak.ply")

    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = status("VmRSS:")
    result = call()
    print(status("VmHWM:") - before)
    del result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussians", type=int, default=4_000_000)
    parser.add_argument("--degree", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--no-plyfile", action="store_true")
    parser.add_argument("--markdown", type=Path, help="also write the result here")
    parser.add_argument("--peak-of", choices=["write", "read"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print_peak(options.folder, options.peak_of, options.gaussians, options.degree)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        t = measure(folder, options.gaussians, options.degree, options.rounds, not options.no_plyfile)
        peaks = [
            (n, peak_extra_mb(folder, "write", n, options.degree), peak_extra_mb(folder, "read", n, options.degree))
            for n in (options.gaussians // 8, options.gaussians)
        ]
    text = report(options, t, peaks, load_before)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


def report(options, t: dict[str, float], peaks: list, load: float) -> str:
    lines = [
        "# PLY: writing and reading",
        "",
        f"{options.gaussians:,} Gaussians of degree {options.degree}, {t['bytes'] / 1e6:.0f} MB; "
        f"median of {options.rounds} interleaved rounds in one process, page cache warm, no fsync.",
        f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, "
        f"numpy {np.__version__}, torch {torch.__version__}; load average at the start {load:.1f}.",
        f"`python benchmarks/ply.py --gaussians {options.gaussians} --degree {options.degree} "
        f"--rounds {options.rounds}`",
        "",
        "| | s | x raw | MB/s |",
        "|---|---|---|---|",
    ]
    for direction, names in (
        ("write", ["raw write", "write_ply", "plyfile write"]),
        ("read", ["raw read", "read_ply", "plyfile read"]),
    ):
        for name in names:
            if name in t:
                ratio = t[name] / t[f"raw {direction}"]
                lines.append(f"| {name} | {t[name]:.3f} | {ratio:.2f} | {t['bytes'] / t[name] / 1e6:.0f} |")
    lines += ["", "| target | wanted | measured |", "|---|---|---|"]
    measured = {"write / raw": t["write_ply"] / t["raw write"], "read / raw": t["read_ply"] / t["raw read"]}
    if "plyfile write" in t:
        measured["plyfile / write"] = t["plyfile write"] / t["write_ply"]
        measured["plyfile / read"] = t["plyfile read"] / t["read_ply"]
    if peaks[-1][1] is not None:
        measured["write extra MB"] = peaks[-1][1]
    lines += [f"| {name} | {TARGETS.get(name, '')} | {value:.2f} |" for name, value in measured.items()]
    if peaks[-1][1] is not None:
        lines += [
            "",
            "| Gaussians | write: peak extra MB | read: peak extra MB | of it the scene itself |",
            "|---|---|---|---|",
        ]
        for count, write, read in peaks:
            scene_mb = count * 4 * (11 + 3 * (options.degree + 1) ** 2) / 2**20
            lines.append(f"| {count:,} | {write:.0f} | {read:.0f} | {scene_mb:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
