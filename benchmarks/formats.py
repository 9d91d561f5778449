"""Scene formats beside their official libraries, in one interleaved run; peak memory in processes of their own.

    python benchmarks/formats.py --gaussians 4000000 --markdown benchmarks/formats.md \
        --spz-peer PATH --splat-transform PATH --comfyui PATH

Peers are installed for the run only and left out where they are not given: ``gsply``; splat-transform's ``cli.mjs``;
ComfyUI's folder; a program around the official spz library that prints the seconds of its own call alone:
``spz_peer write IN.ply OUT.spz VERSION`` and ``spz_peer read IN.spz -``. splat-transform is a program: its times
hold its start and the reading or writing of a PLY, as its users have them.

"Raw" writes the same number of bytes with plain calls. The scene is clustered, with higher bands that fall off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashworld_core.formats.scenes import FORMATS, read_scene, write_scene  # noqa: E402
from flashworld_core.gaussians import Gaussians  # noqa: E402

PIECE = 8 << 20
OURS = ("ply", "spz", "compressed_ply", "splat", "ksplat", "gltf")  # timed every round
MEMORY = (*OURS, "sog")


def make_scene(count: int, degree: int) -> Gaussians:
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    centers = normal(400, 3) * 2
    bands = (
        normal(count, 1, 3) * 0.9,
        normal(count, 3, 3) * 0.22,
        normal(count, 5, 3) * 0.14,
        normal(count, 7, 3) * 0.09,
    )
    return Gaussians(
        centers[torch.randint(0, 400, (count,), generator=g)] + normal(count, 3) * 0.3,
        torch.nn.functional.normalize(normal(count, 4), dim=1),
        (normal(count, 3) * 1.2 - 4).exp(),
        torch.sigmoid(normal(count) * 3),
        torch.cat(bands[: degree + 1], 1),
        {"generator": "benchmark", "seed": 0},
    )


def raw_write(path: Path, size: int) -> None:
    piece = memoryview(bytearray(os.urandom(1 << 16) * (PIECE >> 16)))
    with open(path, "wb") as stream:
        for start in range(0, size, PIECE):
            stream.write(piece[: min(PIECE, size - start)])


def raw_read(path: Path) -> np.ndarray:
    data = np.empty(path.stat().st_size, np.uint8)
    view, done = memoryview(data), 0
    with open(path, "rb", buffering=0) as stream:
        while done < len(data):
            done += stream.readinto(view[done : done + PIECE])
    return data


def run(*command) -> float:
    """Seconds of a program; its own last number if it prints one."""
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stdout + done.stderr)[-300:]}")
    try:
        return float(done.stdout.split()[-1])
    except (IndexError, ValueError):
        return seconds


def timed(work: Callable) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def file_of(folder: Path, name: str) -> Path:
    return folder / ("scene" + FORMATS[name].extensions[0])


def own_candidates(folder: Path, scene: Gaussians) -> dict[str, Callable[[], float]]:
    """One function for each measurement, which gives its seconds."""
    found: dict[str, Callable[[], float]] = {}
    for name in OURS:
        path = file_of(folder, name)
        write_scene(path, scene, format=name)
        size = path.stat().st_size
        found[f"{name} write"] = lambda path=path, name=name: timed(lambda: write_scene(path, scene, format=name))
        found[f"{name} read"] = lambda path=path: timed(lambda: read_scene(path))
        if name in ("splat", "ksplat"):
            found[f"{name} raw write"] = lambda size=size: timed(lambda: raw_write(folder / "raw", size))
    return found


def peer_candidates(folder: Path, scene: Gaussians, options) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {}
    ply, other = file_of(folder, "ply"), folder / "peer"
    other.mkdir(exist_ok=True)
    if options.spz_peer:
        peer, spz = options.spz_peer, other / "official.spz"
        run(peer, "write", ply, spz, 3)
        found["spz write, official library"] = lambda: run(peer, "write", ply, spz, 3)
        found["spz read, official library"] = lambda: run(peer, "read", spz, "-")
    if options.splat_transform:
        tool = ("node", options.splat_transform, "-w")
        packed = other / "st.compressed.ply"
        run(*tool, ply, packed)
        found["compressed_ply write, splat-transform"] = lambda: run(*tool, ply, packed)
        found["compressed_ply read, splat-transform"] = lambda: run(*tool, packed, other / "st.ply")
    if options.gsply:
        import gsply

        data = gsply.plyread(str(ply))
        packed = other / "gsply.compressed.ply"
        gsply.plywrite(str(packed), data, compressed=True)
        found["compressed_ply write, gsply"] = lambda: timed(lambda: gsply.plywrite(str(packed), data, compressed=True))
        found["compressed_ply read, gsply"] = lambda: timed(lambda: gsply.plyread(str(packed)))
    if options.comfyui:
        sys.path.insert(0, str(options.comfyui))
        try:
            from comfy.cli_args import args

            args.cpu = True  # or it looks for a graphics card when it is imported
            from comfy_extras.nodes_gaussian_splat import _gaussian_spz_bytes
        finally:
            sys.path.remove(str(options.comfyui))
        parts = (scene.means, scene.scales, scene.quats, scene.opacities[:, None], scene.sh)
        found["spz write without SH, ComfyUI core"] = lambda: timed(
            lambda: (other / "core.spz").write_bytes(_gaussian_spz_bytes(*parts))
        )
    return found


def peak_extra(folder: Path, name: str, count: int, degree: int, what: str) -> float:
    """MB beyond the scene itself that writing or reading takes at most, in a process of its own."""
    script = f"""
import resource, sys, torch
sys.path[:0] = [{str(Path(__file__).resolve().parent)!r}, {str(Path(__file__).resolve().parents[1])!r}]
from formats import make_scene, read_scene, write_scene
from pathlib import Path
path = Path({str(file_of(folder, name))!r})
scene = make_scene({count}, {degree}) if {what!r} == "write" else None
write_scene(path.with_name("warm.spz"), make_scene(100, 1), format="spz"); read_scene(path.with_name("warm.spz"))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
now = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
open("/proc/self/clear_refs", "w").write("5")
before = now()
if {what!r} == "write":
    write_scene(path, scene, format={name!r}); size = 0
else:
    scene = read_scene(path)
    size = sum(t.numel() * 4 for t in (scene.means, scene.quats, scene.scales, scene.opacities, scene.sh)) / 1e6
high = next(int(l.split()[1]) / 1e3 for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1.024
print(high - before - size)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=4_000_000)
    parser.add_argument("--degree", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spz-peer", type=Path)
    parser.add_argument("--splat-transform", type=Path)
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--gsply", action="store_true")
    parser.add_argument("--sog", action="store_true", help="also write one SOG with SH, which takes minutes")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = make_scene(options.gaussians, options.degree)
        candidates = own_candidates(folder, scene)
        candidates |= peer_candidates(folder, scene, options)
        seconds: dict[str, list[float]] = {key: [] for key in candidates}
        for number in range(options.rounds):
            for key, work in candidates.items():
                seconds[key].append(work())
                print(f"round {number}: {key}: {seconds[key][-1]:.2f} s", flush=True)
        rows = {key: statistics.median(values) for key, values in seconds.items()}
        if options.sog:
            rows["sog write"] = timed(lambda: write_scene(file_of(folder, "sog"), scene, format="sog"))
            rows["sog read"] = timed(lambda: read_scene(file_of(folder, "sog")))
        sizes = {path.name: path.stat().st_size for path in sorted(folder.rglob("*")) if path.suffix in
                 (".spz", ".ply", ".sog", ".splat", ".ksplat", ".glb")}  # fmt: skip
        memory = {}
        if options.memory:
            for kind in MEMORY:
                for what in ("write", "read"):
                    if file_of(folder, kind).exists():
                        memory[f"{kind} {what}"] = peak_extra(folder, kind, options.gaussians, options.degree, what)
        text = report(options, rows, sizes, memory, load)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


def report(options, rows: dict[str, float], sizes: dict[str, int], memory: dict[str, float], load: float) -> str:
    lines = [
        "# Scene formats: writing and reading",
        "",
        f"{options.gaussians:,} Gaussians of degree {options.degree}; median of {options.rounds} interleaved rounds,",
        "page cache warm, no fsync; SOG once.",
        f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()},",
        f"numpy {np.__version__};",
        f"load average at the start {load:.1f}.",
        "",
        "| | s |",
        "|---|---|",
        *(f"| {key} | {value:.2f} |" for key, value in sorted(rows.items())),
        "",
        "| file | MB | bytes a Gaussian |",
        "|---|---|---|",
        *(f"| {name} | {size / 1e6:.1f} | {size / options.gaussians:.1f} |" for name, size in sizes.items()),
    ]
    ratios = {
        "spz write: official / ours": ("spz write, official library", "spz write", ">= 8"),
        "spz read: official / ours": ("spz read, official library", "spz read", ">= 2"),
        "compressed PLY write: splat-transform / ours": (
            "compressed_ply write, splat-transform", "compressed_ply write", ">= 10"),
        "compressed PLY read: splat-transform / ours": (
            "compressed_ply read, splat-transform", "compressed_ply read", ">= 10"),
        "compressed PLY write: gsply / ours": ("compressed_ply write, gsply", "compressed_ply write", ">= 1"),
        "compressed PLY read: gsply / ours": ("compressed_ply read, gsply", "compressed_ply read", ">= 1"),
        ".splat write / raw": ("splat write", "splat raw write", "<= 2"),
        ".ksplat write / raw": ("ksplat write", "ksplat raw write", "<= 2"),
    }  # fmt: skip
    known = {key: (rows[a] / rows[b], goal) for key, (a, b, goal) in ratios.items() if a in rows and b in rows}
    if "official.spz" in sizes:
        known["SPZ size: ours / official"] = (sizes["scene.spz"] / sizes["official.spz"], "<= 1.1")
    if "sog write" in rows:
        known["SOG with SH, seconds"] = (rows["sog write"], "<= 90")
    lines += ["", "| target | wanted | measured |", "|---|---|---|"]
    lines += [f"| {key} | {goal} | {value:.2f} |" for key, (value, goal) in known.items()]
    if memory:
        lines += ["", "| | peak extra MB, beyond the scene |", "|---|---|"]
        lines += [f"| {key} | {value:.0f} |" for key, value in memory.items()]
    lines += ["", f"Measured by `benchmarks/formats.py`: {json.dumps(command_of(options))}."]
    return "\n".join(lines)


def command_of(options) -> str:
    """The options that matter, without anyone's folders."""
    peers = [name for name in ("spz_peer", "splat_transform", "comfyui", "gsply") if getattr(options, name)]
    return f"--gaussians {options.gaussians} --degree {options.degree} --rounds {options.rounds}, peers {peers}"


if __name__ == "__main__":
    main()
