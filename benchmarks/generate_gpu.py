"""Seconds and peak memory of each stage of a generation at the published model's size, beside the hardware's floor.

    python benchmarks/generate_gpu.py                # CUDA: 24 views of 480x704, 4 steps, bfloat16, gsplat
    python benchmarks/generate_gpu.py --write        # the same, and a row into benchmarks/gpu.md
    python benchmarks/generate_gpu.py --tiny         # the same road in seconds, any machine

Weights are random: time and memory do not depend on their values. The text encoder is left out (it runs once, and its
output is cached). The renderer that was used is checked against the torch reference before anything is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from flashworld_core.cameras import Cameras
from flashworld_core.checkpoints.assign import assign, single_precision_names
from flashworld_core.gaussians import Gaussians
from flashworld_core.generators.base import Request, RunOptions, ViewImage  # noqa: E402
from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder, head_initial_bias, head_multipliers
from flashworld_core.generators.flashworld.memory import memory_plan
from flashworld_core.generators.flashworld.pipeline import FlashWorldModel
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.generators.flashworld.sampler import DEFAULT_CHUNK
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.models.wan_vae import FrameEncoder
from flashworld_core.rendering.render import render
from flashworld_core.runtime.stages import ResidentStages
from flashworld_core.trajectories.presets import make_trajectory

REPORT = Path(__file__).with_name("gpu.md")
ROWS = "<!-- rows: written by generate_gpu.py --write -->"
STAGES = ("transformer", "decoder", "renderer", "encoder")

# Per step of 24 views at 480x704: arithmetic in TFLOP and memory traffic in GB (convolutions and linears in and out
# once, norms fused), and how many of the four steps have the stage. Counted from the networks' shapes.
FLOOR_WORK = {
    "transformer": (94.4, 69.0, 4),
    "decoder": (78.2, 73.0, 4),
    "renderer": (0.0, 53.0, 3),
    "encoder": (13.3, 25.0, 3),
}
# bfloat16 TFLOP/s and TB/s that dense kernels reach: measured on an H200, elsewhere 0.80 and 0.90 of the data sheet.
FLOOR_RATES = {
    "H200": (790, 4.3),
    "H100": (791, 3.0),
    "A100": (250, 1.83),
    "A800": (250, 1.83),
    "RTX 4090": (132, 0.907),
    "H20": (118, 3.6),
}


class TimedStages(ResidentStages):
    """Seconds and peak memory of each stage; time inside a nested stage counts for the inner one."""

    def __init__(self, modules, device: torch.device):
        super().__init__(modules)
        self.device = device
        self.seconds = dict.fromkeys((*STAGES, "text"), 0.0)
        self.peak_bytes = dict.fromkeys((*STAGES, "text"), 0)
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def __call__(self, name):
        self._mark()
        self._open.append(name)
        try:
            with super().__call__(name) as device:
                yield device
        finally:
            self._mark()
            self._open.pop()

    def _mark(self) -> None:
        """Credit the time and memory since the last mark to the innermost open stage."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] += now - self._since
            if self.device.type == "cuda":
                self.peak_bytes[name] = max(self.peak_bytes[name], torch.cuda.max_memory_allocated(self.device))
                torch.cuda.reset_peak_memory_stats(self.device)
        self._since = now


def tiny_config() -> FlashWorldConfig:
    official = official_config()
    transformer = dataclasses.asdict(official.transformer) | {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 8,
        "out_channels": 8,
        "text_dim": 32,
        "ffn_dim": 96,
        "num_layers": 2,
        "rope_max_seq_len": 64,
    }
    vae = dataclasses.asdict(official.vae) | {
        "base_dim": 4,
        "decoder_base_dim": 8,
        "z_dim": 8,
        "latents_mean": (0.0,) * 8,
        "latents_std": (1.0,) * 8,
    }
    changes = {"feature_channels": 16, "text_length": 12, "views": 4, "height": 64, "width": 96, "model_id": "tiny"}
    return dataclasses.replace(official, transformer=transformer, vae=vae, **changes)


def random_model(config: FlashWorldConfig, device: torch.device, dtype: torch.dtype) -> FlashWorldModel:
    """A model with random weights, each drawn on the device in its final precision: never a second copy."""
    with torch.device("meta"):
        parts = FlashWorldTransformer(config), GaussianDecoder(config), FrameEncoder(config.vae)
    generator = torch.Generator(device).manual_seed(0)
    # An untrained head: gray splats a pixel wide at depth 1, spread a little by the weights.
    fixed = {"gs_head.lrs_mul": head_multipliers(config)}
    fixed["gs_head.gs_proj.bias"] = head_initial_bias(config) / fixed["gs_head.lrs_mul"]
    for part in parts:
        shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
        keep = single_precision_names(part)

        def draw(name, shapes=shapes, keep=keep):
            if name in fixed:
                return fixed[name]
            shape = shapes[name]
            exact = torch.float32 if set(keep) & set(name.split(".")) else dtype
            if name.endswith((".gamma", ".weight")) and len([n for n in shape if n > 1]) < 2:
                return torch.ones(shape, device=device, dtype=exact)
            if name.endswith(".bias"):
                return torch.zeros(shape, device=device, dtype=exact)
            std = 1 / math.sqrt(max(math.prod(shape[1:]), 1))
            return torch.empty(shape, device=device, dtype=exact).normal_(0, std, generator=generator)

        assign(part, draw, dtype=dtype, device=device, keep_float32=keep)
        part.to(device)  # the rotary tables
    return FlashWorldModel(config, *parts, license="random weights")


def check_renderer(scene: Gaussians, cameras: Cameras, limit: int) -> dict:
    """The fast renderer against the torch reference on every k-th Gaussian, first and last view.

    Pixels above 1e-4 come from hard decisions (alpha below 1/255, saturated pixels, depth order) that fall the other
    way; 0.05 % of them are allowed.
    """
    some = scene[:: max(len(scene) // limit, 1)]
    ends = cameras[[0, len(cameras) - 1]]
    fast, slow = (render(some, ends, backend=name).rgb for name in ("auto", "torch"))
    error = (fast - slow).abs()
    result = {
        "gaussians": len(some),
        "median": error.median().item(),
        "mean": error.mean().item(),
        "max": error.max().item(),
        "above_1e-4": (error.amax(-1) > 1e-4).float().mean().item(),
    }
    result["ok"] = result["median"] <= 5e-6 and result["above_1e-4"] <= 5e-4
    return result


def floor_seconds(device_name: str) -> tuple[str, dict[str, float]] | None:
    """The least each stage can take on this device, by arithmetic or memory traffic; None for an unknown one."""
    # H200 before H20, which its name begins with.
    known = next((name for name in sorted(FLOOR_RATES, key=len, reverse=True) if name in device_name), None)
    if known is None:
        return None
    tflops, tbytes = FLOOR_RATES[known]
    floors = {s: n * max(flop / tflops, gb / 1000 / tbytes) for s, (flop, gb, n) in FLOOR_WORK.items()}
    return known, floors


def measure(arguments: argparse.Namespace) -> dict:
    device = torch.device(arguments.device)
    dtype = getattr(torch, arguments.dtype)
    config = tiny_config() if arguments.tiny else official_config()
    cuda = device.type == "cuda"
    begin = time.perf_counter()
    model = random_model(config, device, dtype)
    build_seconds = time.perf_counter() - begin
    cameras = make_trajectory("orbit", views=config.views, width=config.width, height=config.height)
    image = torch.linspace(0, 1, config.height * config.width * 3).view(config.height, config.width, 3)
    text = torch.zeros(1, config.text_length, config.transformer.text_dim)
    runs, scene = [], None
    for _ in range(1 + arguments.repeats):  # the first one warms up
        scene = None
        stages = TimedStages(model.networks, device)
        begin = time.perf_counter()
        request = Request(cameras, (ViewImage(image),), steps=arguments.steps, options={"text_embeds": text})
        scene = model.generate(request, RunOptions(stages, arguments.views_per_chunk)).gaussians
        if cuda:
            torch.cuda.synchronize(device)
        runs.append({"total": time.perf_counter() - begin, **{s: stages.seconds[s] for s in STAGES}})
        peaks = stages.peak_bytes
    runs = runs[1:]
    name = torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    official_run = not arguments.tiny and arguments.steps == len(config.timestep_indices)
    floor = floor_seconds(name) if cuda and official_run and dtype == torch.bfloat16 else None
    plan = memory_plan(config, dtype=dtype, device_type=device.type, views_per_chunk=arguments.views_per_chunk)
    return {
        "device": name,
        "torch": torch.__version__,
        "model": config.model_id,
        "views": config.views,
        "height": config.height,
        "width": config.width,
        "steps": arguments.steps,
        "dtype": arguments.dtype,
        "views_per_chunk": arguments.views_per_chunk,
        "gaussians": len(scene),
        "build_seconds": build_seconds,
        "seconds": {key: statistics.median(run[key] for run in runs) for key in runs[0]},
        "peak_bytes": {s: peaks[s] for s in STAGES} if cuda else None,
        "planned_bytes": {s: plan[s].peak for s in STAGES} | {"all loaded": plan.peak()},
        "floor": None if floor is None else {"rates_of": floor[0], **floor[1]},
        "renderer_check": check_renderer(scene, cameras, limit=2_000 if arguments.tiny else 200_000),
    }


def table_row(result: dict) -> str:
    """One line of the report's table."""
    seconds, floor = result["seconds"], result["floor"]

    def cell(stage):
        return f"{seconds[stage]:.2f}" + (f" ({floor[stage]:.2f})" if floor else "")

    total = f"{seconds['total']:.2f}" + (f" ({sum(floor[s] for s in STAGES):.2f})" if floor else "")
    peak = "-" if result["peak_bytes"] is None else f"{max(result['peak_bytes'].values()) / 1e9:.1f}"
    size = f"{result['views']}x{result['height']}x{result['width']}, {result['steps']} steps"
    check = result["renderer_check"]
    cells = [result["device"], result["torch"], f"{size}, {result['dtype']}", str(result["views_per_chunk"])]
    cells += [*(cell(s) for s in STAGES), total, peak, f"{result['planned_bytes']['all loaded'] / 1e9:.1f}"]
    return "| " + " | ".join([*cells, f"{check['median']:.0e}, {check['above_1e-4']:.3%}"]) + " |"


def write_row(row: str, report: Path) -> None:
    """Add a row to the report's table, at its end."""
    text = report.read_text(encoding="utf-8")
    if ROWS not in text:
        raise SystemExit(f"{report} has no line {ROWS}")
    temporary = report.with_name(report.name + ".tmp")
    temporary.write_text(text.replace(ROWS, f"{row}\n{ROWS}"), encoding="utf-8")
    os.replace(temporary, report)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand weights, for trying the script")
    parser.add_argument("--device", default=None, help="default: cuda, with --tiny the CPU")
    parser.add_argument("--dtype", default=None, choices=("bfloat16", "float16", "float32"), help="of the networks")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps")
    parser.add_argument("--views-per-chunk", type=int, default=DEFAULT_CHUNK, help="views decoded together")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs after the warm-up; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--write", action="store_true", help="add a row to the report")
    parser.add_argument("--report", type=Path, default=REPORT, help="the report --write adds to")
    options = parser.parse_args(arguments)
    options.device = options.device or ("cpu" if options.tiny else "cuda")
    options.dtype = options.dtype or ("float32" if options.tiny else "bfloat16")
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device is available; --tiny runs on the CPU")

    result = measure(options)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    if not result["renderer_check"]["ok"]:
        print("The renderer differs from the torch reference; nothing is reported.", file=sys.stderr)
        return 1
    if options.write:
        write_row(table_row(result), options.report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
