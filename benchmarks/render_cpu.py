"""CPU rendering against gsplat's own torch implementation and, where it is at hand, ComfyUI core's Render Splat.

    python benchmarks/render_cpu.py [--rounds 5] [--threads N] [--clock wall|cpu] [--skip-full]
    COMFYUI_PATH=/path/to/ComfyUI python benchmarks/render_cpu.py

Needs gsplat and nerfacc (`pip install gsplat nerfacc`; no CUDA). All candidates run in one process, in turn, round
after round; figures are medians over the rounds, and only their ratios mean anything on another machine. "without
stand-ins" takes the forward time of the CPU stand-ins for gsplat's four CUDA seams (`gsplat_on_cpu.py`) off gsplat's
side: a lower bound. On a machine that is busy with something else, `--clock cpu --threads 1` counts processor time.
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

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import gsplat_on_cpu  # noqa: E402

from flashworld_core.rendering.backends import torch_reference  # noqa: E402
from flashworld_core.rendering.backends.cpu import rasterize as cpu  # noqa: E402

WIDTH, HEIGHT = 704, 480
clock = time.perf_counter
FULL = 24 * 2 * 240 * 352  # Gaussians of a full-size scene: 24 views of 240 x 352, two per pixel


def make_scene(count: int, seed: int = 0, degree: int = 2, turn: float = 0.02):
    """[means, quats, scales, opacities, sh, world_to_camera [1], intrinsics [1]]: splats of 0.5-1.5 px, any opacity."""
    g = torch.Generator().manual_seed(seed)
    focal = 0.5 * HEIGHT / math.tan(math.radians(30))
    z = 2 + 6 * torch.rand(count, generator=g)
    x, y = ((1.1 * torch.rand(count, generator=g) - 0.55) * size / focal * z for size in (WIDTH, HEIGHT))
    view = torch.eye(4)
    c, s = math.cos(turn), math.sin(turn)
    view[:3, :3] = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    view[2, 3] = 5 * turn
    return [
        torch.stack([x, y, z], -1),
        torch.randn(count, 4, generator=g),
        (0.5 + torch.rand(count, 3, generator=g)) * (z / focal)[:, None],
        0.05 + 0.94 * torch.rand(count, generator=g),
        0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g),
        view[None],
        torch.tensor([[[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]]),
    ]


def run(backend, scene, gradients: bool):
    """(seconds, seconds in stand-ins, images, gradients) of one render, and of its backward pass if asked."""
    leaves = [t.clone().requires_grad_(gradients) for t in scene[:5]]
    settings = {"background": torch.ones(1, 3), "near": 0.01, "far": 1000.0, "sh_degree": 2}
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(1, HEIGHT, WIDTH, *tail, generator=generator) for tail in ((3,), (), ())]
    gsplat_on_cpu.seam_seconds = 0.0
    begin = clock()
    with torch.set_grad_enabled(gradients):
        images = backend.rasterize(*leaves, *scene[5:], WIDTH, HEIGHT, **settings)
        if gradients:
            sum((image * weight).sum() for image, weight in zip(images, weights, strict=True)).backward()
    seconds = clock() - begin
    return seconds, gsplat_on_cpu.seam_seconds, [i.detach() for i in images], [leaf.grad for leaf in leaves]


def compare(rounds: int, report) -> None:
    scene = make_scene(200_000)
    backends = {"gsplat torch": gsplat_on_cpu, "torch fallback": torch_reference, "numba": cpu}
    for gradients in (False, True):
        seconds = {name: [] for name in backends}
        seams = []
        for round_ in range(rounds + 1):  # the first one warms up
            results = {name: run(backend, scene, gradients) for name, backend in backends.items()}
            if round_:
                for name, result in results.items():
                    seconds[name].append(result[0])
                seams.append(results["gsplat torch"][1])
        median = {name: statistics.median(values) for name, values in seconds.items()}
        peer, seam = median["gsplat torch"], statistics.median(seams)
        title = "Forward and backward" if gradients else "Forward"
        report(f"### {title}, 200 000 Gaussians of degree 2, 480x704, RGB + depth\n")
        report("| renderer | ms | times faster than gsplat's torch | without stand-ins |\n|---|---|---|---|")
        for name, value in median.items():
            report(f"| {name} | {value * 1e3:.1f} | {peer / value:.1f} | {(peer - seam) / value:.1f} |")
        report(f"\nOf gsplat's time, {seam * 1e3:.0f} ms are the stand-ins.\n")
        if not gradients:
            continue
        expected = results["gsplat torch"]
        report("| against gsplat's torch | median | pixels above 1e-4 | largest | worst gradient, relative |")
        report("|---|---|---|---|---|")
        for name in ("torch fallback", "numba"):
            difference = (results[name][2][0] - expected[2][0]).abs()
            worst = max(((a - b).norm() / b.norm()).item() for a, b in zip(results[name][3], expected[3], strict=True))
            above = (difference.amax(-1) > 1e-4).float().mean().item()
            report(f"| {name} | {difference.median():.1e} | {above:.4%} | {difference.max():.1e} | {worst:.1e} |")
        report("")


def full_view(rounds: int, report) -> None:
    scene = make_scene(FULL, turn=0.0)
    comfyui, reason = load_comfyui()
    ours, theirs = [], []
    for round_ in range(rounds + 1):
        seconds = run(cpu, scene, False)[0]
        peer = comfyui(scene) if comfyui else None
        if round_:
            ours.append(seconds)
            theirs.append(peer)
    report(f"### One full view, {FULL / 1e6:.2f} million Gaussians of degree 2, 480x704\n")
    report(f"numba: {statistics.median(ours):.2f} s")
    if comfyui:
        peer = statistics.median(theirs)
        report(f"ComfyUI core Render Splat: {peer:.1f} s, {peer / statistics.median(ours):.1f} times as long")
    else:
        report(f"ComfyUI core Render Splat: skipped, {reason}.")


def load_comfyui():
    """A function that renders a scene with ComfyUI core and returns its seconds, or None and why not."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        return None, "COMFYUI_PATH is not set"
    sys.path.insert(0, path)
    arguments, sys.argv = sys.argv, [sys.argv[0], "--cpu"]
    try:
        from comfy.cli_args import args

        args.cpu = True
        from comfy_extras.nodes_gaussian_splat import _render_gaussian
    except Exception as error:  # whatever a host's imports raise: the comparison is optional
        return None, f"ComfyUI did not import ({type(error).__name__}: {error})"
    finally:
        sys.argv = arguments
    # At the origin looking along the splats' +z; its field of view spans the smaller image side, as ours the height.
    origin = {"x": 0.0, "y": 0.0, "z": 0.0}
    camera = {"position": origin, "target": {**origin, "z": -1.0}, "quaternion": {**origin, "w": 1.0}, "fov": 60.0}

    def render(scene):
        means, quats, scales, opacities, sh = scene[:5]
        begin = clock()
        rgb = 0.5 + 0.28209479177387814 * sh[:, 0]
        unit = torch.nn.functional.normalize(quats, dim=-1)
        _render_gaussian(means, rgb, opacities, scales, unit, WIDTH, HEIGHT, 1.0, (1.0, 1.0, 1.0), camera)
        return clock() - begin

    return render, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--skip-full", action="store_true", help="leave out the 4-million-Gaussian view")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    global clock
    clock = gsplat_on_cpu.clock = time.perf_counter if options.clock == "wall" else time.process_time

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    machine = platform.processor() or platform.machine()
    report(f"{machine}, {options.threads} threads, {options.clock} clock, load {load}, torch {torch.__version__}\n")
    cpu.warm_up()
    compare(options.rounds, report)
    if not options.skip_full:
        full_view(min(options.rounds, 3), report)


if __name__ == "__main__":
    main()
