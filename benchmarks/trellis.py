"""TRELLIS counted and timed: sparse convolution beside a naive loop, work and memory at full size, one CPU forward.

    python benchmarks/trellis.py --markdown benchmarks/trellis.md [--forward]

The naive loop looks every neighbor up in a dictionary, offset by offset, and multiplies what it found. It and ours take
turns in one process. FLOPs are counted by torch
on the meta device; bytes are those of weights read and of the largest set of activations, from the memory plan.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashworld_core.generators.trellis.memory import (  # noqa: E402
    memory_plan,
    meta_network,
    meta_pass,
    part_bytes,
    planned_layout,
)  # fmt: skip
from flashworld_core.generators.trellis.networks import CLASSES  # noqa: E402
from flashworld_core.generators.trellis.presets import official_config  # noqa: E402
from flashworld_core.models.sparse import SparseLayout, submanifold_conv  # noqa: E402

VOXELS, ROUNDS = 20_000, 5
WIDTHS = (8, 32, 128)  # channels; the SLAT flow's outer blocks have 128


def shell(count: int, resolution: int = 64) -> torch.Tensor:
    """``count`` voxels of a sphere's surface and what is nearest to it, as [n, 4]."""
    axis = torch.arange(resolution)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance = ((grid - (resolution - 1) / 2).double().norm(dim=1) - 0.42 * resolution).abs()
    chosen = distance.argsort()[:count].sort().values
    return torch.cat([torch.zeros(count, 1, dtype=torch.long), grid[chosen]], 1)


def per_offset(features, weight, bias, coords):
    """The naive loop over 27 offsets: a dictionary finds the neighbors, then one product for all of them."""
    rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
    result = bias.expand(len(coords), -1).clone()
    for a in range(3):
        for b in range(3):
            for c in range(3):
                here, there = [], []
                for i, (n, x, y, z) in enumerate(coords.tolist()):
                    j = rows.get((n, x + a - 1, y + b - 1, z + c - 1))
                    if j is not None:
                        here.append(i)
                        there.append(j)
                result[here] += features[there] @ weight[:, a, b, c].T
    return result


def median_seconds(functions: dict, rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each function, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def convolution() -> list[str]:
    coords = shell(VOXELS)
    pairs = sum(len(p) for p, _ in SparseLayout(coords).neighbors()) * 2 + VOXELS
    lines = [
        f"## Sparse convolution, {VOXELS:,} voxels, {pairs / VOXELS:.1f} of 27 neighbors occupied",
        "",
        "| channels | naive per-offset loop, s | ours, new tables, s | ours, kept tables, s | ratio | ratio, kept |",
        "|---|---|---|---|---|---|",
    ]
    for width in WIDTHS:
        g = torch.Generator().manual_seed(width)
        features = torch.randn(VOXELS, width, generator=g)
        weight, bias = torch.randn(width, 3, 3, 3, width, generator=g) / width, torch.zeros(width)
        kept = SparseLayout(coords)
        error = (
            (submanifold_conv(features, weight, bias, kept) - per_offset(features, weight, bias, coords)).abs().max()
        )
        assert error < 1e-3, error
        seconds = median_seconds(
            {
                "naive": lambda f=features, w=weight, b=bias: per_offset(f, w, b, coords),
                "new": lambda f=features, w=weight, b=bias: submanifold_conv(f, w, b, SparseLayout(coords)),
                "kept": lambda f=features, w=weight, b=bias, k=kept: submanifold_conv(f, w, b, k),
            }
        )
        lines.append(
            f"| {width} | {seconds['naive']:.3f} | {seconds['new']:.3f} | {seconds['kept']:.3f} | "
            f"{seconds['naive'] / seconds['new']:.1f} | {seconds['naive'] / seconds['kept']:.1f} |"
        )
    return lines


def counted() -> list[str]:
    from torch.utils.flop_counter import FlopCounterMode

    config = official_config()
    lines = [
        f"## Work of one pass at full size (image-large, {len(planned_layout(config)):,} voxels), float16",
        "",
        "| network | GFLOP | weights, GB | activations, GB |",
        "|---|---|---|---|",
    ]
    for part in CLASSES:
        network = meta_network(config, part)
        run = meta_pass(config, part, network)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        weights, activations = part_bytes(config, part, torch.float16)
        lines.append(
            f"| {part.replace('_', ' ')} | {counter.get_total_flops() / 1e9:,.0f} | {weights / 1e9:.2f} | "
            f"{activations / 1e9:.2f} |"
        )
    plan = memory_plan(config, dtype=torch.float16)
    flows = ("structure_flow", "slat_flow")
    lines += [
        "",
        f"Memory plan, one network at a time: {plan.peak(()) / 1e9:.2f} GB (wanted: at most 4); all loaded: "
        f"{plan.peak() / 1e9:.2f} GB. Steps of a generation: "
        + "; ".join(
            f"{title} {' + '.join(str(s) for s in steps)}, {passes(steps, guided)} flow passes"
            for title, steps, guided in (
                ("TRELLIS", (25, 25), True), ("distilled", (2, 2), True), ("distilled without guidance", (2, 2), False),
            )
        )
        + f" (guidance doubles those of steps at noise levels from 0.5 up; flows: {', '.join(flows)}).",
    ]  # fmt: skip
    return lines


def passes(steps: tuple[int, int], guided: bool) -> int:
    from flashworld_core.flow.schedule import ode_levels

    return sum(1 + (guided and level >= 0.5) for s in steps for level in ode_levels(s)[:-1])


def forward() -> list[str]:
    """Seconds of one full-size structure pass in float32 on this machine."""
    config = official_config()
    network = CLASSES["structure_flow"](config.structure_flow).eval()
    x, condition = torch.randn(1, 8, 16, 16, 16), torch.randn(1, config.image_encoder.tokens, 1024)
    with torch.no_grad():
        started = time.perf_counter()
        network(x, torch.tensor([1000.0]), condition)
    seconds = time.perf_counter() - started
    return ["", f"One structure pass on this CPU in float32, {torch.get_num_threads()} thread(s): {seconds:.0f} s."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--forward", action="store_true", help="also one full-size pass on the CPU (minutes, 3 GB)")
    options = parser.parse_args()
    torch.manual_seed(0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    head = [
        "# TRELLIS: work, memory, and the sparse convolution",
        "",
        f"{os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} thread(s), Python "
        f"{platform.python_version()}, torch {torch.__version__}; load average at the start {load:.1f}; median of "
        f"{ROUNDS} interleaved rounds.",
        "`python benchmarks/trellis.py --forward`",
        "",
    ]
    with torch.no_grad():
        lines = [*head, *convolution(), "", *counted(), *(forward() if options.forward else [])]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
