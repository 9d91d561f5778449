"""Bytes and times of rendering a full scene, computed for the Triton kernels and for gsplat's algorithm.

Not measured, and no run of either: list lengths are counted on a sample of ellipses as a full scene has them, bytes
follow from what each step reads and writes, times from bytes and from instructions. `triton_compiled.py` prints them.
"""

from __future__ import annotations

import math

import torch

from flashworld_core.rendering.backends.triton_gpu.launch import CHUNK, TILE
from flashworld_core.rendering.backends.triton_gpu.layout import RECORD, ROW
from flashworld_core.rendering.constants import ALPHA_MIN, LOW_PASS

GAUSSIANS = 24 * 2 * 240 * 352  # of a full scene: 24 views of 240 x 352, two a pixel
VIEWS, WIDTH, HEIGHT, COEFFICIENTS = 24, 704, 480, 9
USED = 0.4  # of the list entries, before their tiles' pixels have stopped (measured on the CPU renderer's full view)
GSPLAT_TILE = 16
GSPLAT_WARPS = 8  # of a tile
SORT_DIGIT = 8  # bits a pass of a radix sort takes
# Datasheet: bytes a second, multiprocessors, clock in Hz. Four schedulers each issue one instruction a cycle.
CARDS = {"sm_90": ("H100 SXM", 3.35e12, 132, 1.7e9), "sm_89": ("RTX 4090", 1.008e12, 128, 2.5e9)}
REACHED = 0.9  # of the datasheet's bandwidth


def entries_per_gaussian(samples: int = 100_000) -> tuple[float, float, float]:
    """Count list entries of a Gaussian: ours, gsplat's, and the rows of 16 x 2 pixels (a warp) it reaches of those.

    Sample: deviations of 0.5 to 1.5 pixels at any angle, any opacity, any place; the low-pass added.
    """
    g = torch.Generator().manual_seed(0)
    s0, s1, opacity, mx, my = torch.rand(5, samples, generator=g, dtype=torch.float64)
    angle = torch.rand(samples, generator=g, dtype=torch.float64) * math.pi
    opacity, v0, v1 = opacity.clamp_min(ALPHA_MIN), (0.5 + s0) ** 2, (0.5 + s1) ** 2
    c, s = angle.cos(), angle.sin()
    xx, yy = c * c * v0 + s * s * v1 + LOW_PASS, s * s * v0 + c * c * v1 + LOW_PASS
    xy = c * s * (v0 - v1)
    limit = 2 * (opacity / ALPHA_MIN).log()
    reach = 3.33 * torch.ones_like(limit)
    reach = torch.minimum(reach, limit.sqrt())  # gsplat's box: 3.33 deviations, less for faint Gaussians
    mx, my = mx * GSPLAT_TILE, my * GSPLAT_TILE  # within one period of both tilings
    columns = ((mx + reach * xx.sqrt()) / GSPLAT_TILE).ceil() - ((mx - reach * xx.sqrt()) / GSPLAT_TILE).floor()
    rows = ((my + reach * yy.sqrt()) / GSPLAT_TILE).ceil() - ((my - reach * yy.sqrt()) / GSPLAT_TILE).floor()
    strips = ((my + reach * yy.sqrt()) / 2).ceil() - ((my - reach * yy.sqrt()) / 2).floor()
    # Ours: per row of tiles, from its pixels' centers, the columns the ellipse reaches.
    ours = torch.zeros(samples, dtype=torch.float64)
    ex, ey, slope = (limit * xx).sqrt(), (limit * yy).sqrt(), xy / yy
    half = (limit * (xx - xy * xy / yy)).sqrt()
    for row in range(-3, 6):
        top, bottom = row * TILE + 0.5 - my, row * TILE + TILE - 0.5 - my
        touched = (top <= ey) & (bottom >= -ey)
        top, bottom = top.clamp_min(-ey), torch.minimum(bottom, ey)
        peak = ey * ey * slope / ex
        right_at, left_at = (torch.minimum(torch.maximum(p, top), bottom) for p in (peak, -peak))
        right = mx + slope * right_at + half * (1 - (right_at / ey) ** 2).clamp_min(0).sqrt()
        left = mx + slope * left_at - half * (1 - (left_at / ey) ** 2).clamp_min(0).sqrt()
        first, last = (left - 0.5).ceil(), (right - 0.5).floor()
        ours += torch.where(touched & (last >= first), (last / TILE).floor() - (first / TILE).floor() + 1, 0)
    return float(ours.mean()), float((columns * rows).mean()), float((columns * strips).mean())


def radix_bytes(bits: int, key: int, value: int) -> int:
    """Bytes of sorting one pair: each pass reads and writes it once, and keys are read once to count."""
    return -(-bits // SORT_DIGIT) * 2 * (key + value) + key


def step_bytes(ours: float, theirs: float) -> dict[str, tuple[float, float]]:
    """Bytes of all views: ours and gsplat's, per step. ``ours``, ``theirs``: list entries per Gaussian and view."""
    n, nv = GAUSSIANS, GAUSSIANS * VIEWS
    coefficients, shape = 12 * COEFFICIENTS, 4 * 11
    mine, other = nv * ours, nv * theirs
    pixels = VIEWS * WIDTH * HEIGHT
    record, row = 4 * RECORD, 4 * ROW
    tile_bits = math.ceil(math.log2(VIEWS * WIDTH * HEIGHT / GSPLAT_TILE**2))
    splat = 8 + 12 + 4 + 16  # gsplat's mean, conic, opacity, color with depth
    return {
        # Ours reads each Gaussian once for all views. gsplat reads it for each, computes directions, then colors.
        "projection and color": (n * (coefficients + shape) + nv * (record + 8), nv * (shape + 32 + coefficients + 60)),
        # Ours: Gaussians by depth, then entries by tile, with keys of 16 bits. gsplat: both in one key of 64.
        "tile lists": (
            nv * (radix_bytes(32, 4, 8) + 8 + 4 + 4 + 12 + 16)
            + mine * (4 + 4 + 4 + 6 + radix_bytes(16, 2, 8) + 8 + 16)
            + nv * record,
            nv * (20 + 4 + 12 + 20) + other * (12 + radix_bytes(32 + tile_bits, 8, 4) + 8),
        ),
        "composite": (USED * mine * (4 + record) + 20 * pixels, USED * other * (4 + splat) + 24 * pixels),
        # Ours: rows zeroed and written once. gsplat: atomic sums, each a read and a write.
        "composite, backward": (
            USED * mine * (8 + record) + mine * row + USED * mine * row + 40 * pixels,
            nv * 40 + USED * other * (4 + splat + 2 * 40) + 44 * pixels,
        ),
        "projection and color, backward": (
            mine * row + nv * (3 * 16 + 20 + row + record) + 2 * n * (coefficients + shape) + 24 * n,
            nv * (shape + 40 + 24 + 2 * shape) + nv * (coefficients + 24 + 2 * (coefficients + 12)),
        ),
    }


def scene_tables(loops: dict[str, dict[str, int]]) -> tuple[str, str, str]:
    """Markdown: bytes, times, assumptions. ``loops``: SASS instructions of the loops over two entries, per target."""
    ours, theirs, strips = entries_per_gaussian()
    steps = step_bytes(ours, theirs)
    lines = ["| step | GB, ours | GB, gsplat's |", "|---|---|---|"]
    lines += [f"| {name} | {a / 1e9:.1f} | {b / 1e9:.1f} |" for name, (a, b) in steps.items()]
    for name, names in (("forward", list(steps)[:3]), ("forward and backward", list(steps))):
        a, b = (sum(steps[step][side] for step in names) for side in (0, 1))
        lines.append(f"| **{name}** | {a / 1e9:.0f} | {b / 1e9:.0f} |")

    entries = GAUSSIANS * VIEWS * USED
    parts = (": bytes", ": instructions", "")
    columns = ("ms, computed", *(who + part for who in ("ours", "gsplat's") for part in parts))
    times = ["| " + " | ".join(columns) + " |"]
    times.append("|---" * 7 + "|")
    for arch, counted in loops.items():
        card, bandwidth, processors, clock = CARDS[arch]
        issue = processors * 4 * clock
        for name, names, kernels in (
            ("forward", list(steps)[:3], ["composite"]),
            ("backward", list(steps)[3:], ["composite_gradients"]),
        ):
            a, b = (1e3 * sum(steps[step][side] for step in names) / (REACHED * bandwidth) for side in (0, 1))
            per_entry = sum(counted[kernel] for kernel in kernels) / CHUNK
            # The same work per pixel and Gaussian as ours, two pixels a thread; a warp that the Gaussian does not
            # reach finds that out in a third of the forward loop's.
            a_warp, a_miss = per_entry / 2, counted["composite"] / CHUNK / 6
            mine = 1e3 * entries * ours * per_entry / issue
            other = 1e3 * entries * (strips * a_warp + (GSPLAT_WARPS * theirs - strips) * a_miss) / issue
            cells = (*(f"{t:.0f}" for t in (a, mine)), f"**{a + mine:.0f}**")
            cells += (*(f"{t:.0f}" for t in (b, other)), f"**{b + other:.0f}**")
            times.append(f"| {card}, {name} | " + " | ".join(cells) + " |")
    our_pairs, their_pairs = (entries * e * size**2 / 1e9 for e, size in ((ours, TILE), (theirs, GSPLAT_TILE)))
    assumptions = f"""{GAUSSIANS:,} Gaussians of degree 2, {VIEWS} views of {WIDTH} x {HEIGHT}, all in sight; deviations
of 0.5 to 1.5 pixels, any opacity. A Gaussian is listed in {ours:.2f} of our tiles ({TILE} x {TILE}, the ellipse itself)
and in {theirs:.2f} of gsplat's ({GSPLAT_TILE} x {GSPLAT_TILE}, its box); {USED:.0%} of the entries are used before all
pixels of a tile have stopped. That makes {our_pairs:.0f} G pairs of pixel and Gaussian to evaluate against
{their_pairs:.0f} G. Bytes: what each step has to move once, no cache misses. Times: bytes at {REACHED:.0%} of the
datasheet's bandwidth, plus instructions of compositing at one per scheduler and cycle (counted in our SASS; for
gsplat's the same per pixel and Gaussian, and a third of it for a warp that finds no pixel). A lower bound for both, and
no replacement for a run."""
    return "\n".join(lines), "\n".join(times), assumptions
