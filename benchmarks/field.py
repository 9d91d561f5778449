"""Speed of a triplane field at VFusion3D's size: lattice, view and mesh against the field asked by its definition.

    python benchmarks/field.py [--threads 2]

Fast and slow are timed in turn, on the same points, in one run; seconds are processor seconds over the threads, so that
other programs on the machine do not count. Weights are random: density is everywhere, and nothing can be skipped.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashworld_core.generators.vfusion3d.cameras import orbit, to_world
from flashworld_core.models.triplane import FieldDecoder, TriplaneConfig
from flashworld_core.models.triplane_field import TriplaneField
from flashworld_core.rendering.field import COARSE, FINE, render_field

LATTICE, VIEW, SAMPLE = 192, 256, 1 << 18


def seconds(work, threads: int) -> tuple[float, float]:
    """Processor seconds over threads, and seconds on the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return (time.process_time() - processor) / threads, time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = TriplaneConfig()
    side = 2 * config.low_res
    decoder = FieldDecoder(config).requires_grad_(False)
    field = TriplaneField(torch.randn(3, config.channels, side, side), decoder, to_world())
    points = torch.rand(SAMPLE, 3) * 2 - 1
    field.query(points[:10])  # compiles
    field.lattice(LATTICE, 0, 1)
    camera = orbit(8, VIEW)[1]

    slices = SAMPLE // LATTICE**2
    fast, slow, rows = [], [], []
    for _ in range(3):
        slow.append(seconds(lambda: field.query_directly(points), threads)[0] / SAMPLE)
        fast.append(seconds(lambda: field.query(points), threads)[0] / SAMPLE)
        rows.append(seconds(lambda: field.lattice(LATTICE, 0, slices), threads)[0] / (slices * LATTICE**2))
    direct, query, lattice = min(slow), min(fast), min(rows)
    view, clock = min(seconds(lambda: render_field(field, camera), threads) for _ in range(2))
    samples = VIEW**2 * (COARSE + FINE)
    print(f"a point by the definition {direct * 1e9:.0f} ns, fast {query * 1e9:.0f} ns: {direct / query:.1f} times")
    print(
        f"lattice {LATTICE}^3: {lattice * LATTICE**3:.1f} s, {direct / lattice:.1f} times as fast as by the definition "
        f"({direct * LATTICE**3:.0f} s)"
    )
    print(
        f"view of {VIEW} px, {samples:,} samples: {view:.1f} s ({clock:.1f} on the clock), by the definition at least "
        f"{direct * samples:.0f} s"
    )


if __name__ == "__main__":
    main()
