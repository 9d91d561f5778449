"""What Triton's compiler makes of the rasterizer's kernels, on any machine: no GPU is needed.

    python benchmarks/triton_compiled.py            print the tables
    python benchmarks/triton_compiled.py --write    and write benchmarks/triton_compiled.md

Registers, shared memory and spills are the compiler's own figures (cuobjdump for NVIDIA, the code object's metadata for
AMD). Occupancy is computed from them and the limits of a multiprocessor. Bytes and times of a full scene are computed,
not measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from flashworld_core.rendering.backends.triton_gpu import (
    composite,
    composite_gradients,
    gaussian_gradients,
    launch,
    tiles,
)
from flashworld_core.rendering.backends.triton_gpu import project as projection

DEGREE = 2  # of a generated scene; the bands of degree 3 cost a few registers more, see the table


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel as it is launched: argument types in order, compile-time constants, warps (None: those of a tile)."""

    function: object
    types: tuple[str, ...]
    constants: dict
    warps: int | None = launch.BLOCK_WARPS
    tight: bool = False


def _types(text: str) -> tuple[str, ...]:
    """Types from "fp32* 3, i32 2": a type, a star for a pointer, how many in a row."""
    types = []
    for part in text.split(","):
        name, count = part.split()
        types += [f"*{name[:-1]}" if name.endswith("*") else name] * int(count)
    return tuple(types)


_TILE = {"TILE": launch.TILE, "CHUNK": launch.CHUNK}
KERNELS = {
    "project": Kernel(
        projection.project,
        _types("fp32* 8, i32* 1, i32 5, fp32 3"),
        {"DEGREE": DEGREE, "TILE": launch.TILE, "BLOCK": launch.BLOCK},
    ),
    "list_tiles": Kernel(
        tiles.list_tiles,
        _types("i32* 1, i64* 2, fp32* 1, i16* 1, i32* 1, i32 7"),
        {"TILE": launch.TILE, "BLOCK": launch.ENTRY_BLOCK},
    ),
    "composite": Kernel(composite.composite, _types("i32* 2, fp32* 5, i32 4"), _TILE, warps=None, tight=True),
    "composite_gradients": Kernel(
        composite_gradients.composite_gradients, _types("i32* 3, fp32* 8, i32 4"), _TILE, warps=None, tight=True
    ),
    "sum_few_rows": Kernel(
        gaussian_gradients.sum_few_rows, _types("i64* 1, i32* 1, fp32* 1, i32 1"), {"BLOCK": launch.BLOCK}
    ),
    "sum_many_rows": Kernel(
        gaussian_gradients.sum_many_rows, _types("i64* 2, i32* 1, fp32* 1"), {"BLOCK": launch.ROW_BLOCK}, warps=None
    ),
    "color_gradients": Kernel(
        gaussian_gradients.color_gradients,
        _types("fp32* 4, i64* 1, i32* 1, fp32* 3, i32 3"),
        {"DEGREE": DEGREE, "BLOCK": launch.BLOCK},
    ),
    "shape_gradients": Kernel(
        gaussian_gradients.shape_gradients,
        _types("fp32* 6, i64* 1, i32* 1, fp32* 6, i32 4"),
        {"BLOCK": launch.BLOCK},
        tight=True,
    ),
}

TARGETS = {
    "sm_75": GPUTarget("cuda", 75, 32),
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_86": GPUTarget("cuda", 86, 32),
    "sm_89": GPUTarget("cuda", 89, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx1100": GPUTarget("hip", "gfx1100", 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
# Of a multiprocessor: places for warps, for programs, bytes of shared memory; 65,536 registers each.
_SM = {
    75: (32, 16, 65_536),
    80: (64, 32, 167_936),
    86: (48, 16, 102_400),
    89: (48, 24, 102_400),
    90: (64, 32, 233_472),
    100: (64, 32, 233_472),
    120: (48, 24, 102_400),
}
_WAVES = {"gfx1100": 16, "gfx942": 8}  # places for waves of a SIMD


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one kernel on one target: registers of a thread, bytes spilled, bytes of shared memory, occupancy 0..1."""

    registers: int
    spilled: int
    shared: int
    warps: int
    occupancy: float


def compile_kernel(kernel: Kernel, target: GPUTarget, **constants):
    """Compile ahead of time, with the options of a launch on that target."""
    capability = divmod(target.arch, 10) if target.backend == "cuda" else None
    constants = kernel.constants | constants
    names = kernel.function.arg_names
    types = dict(zip((n for n in names if n not in constants), kernel.types, strict=True))
    signature = {n: types.get(n, "constexpr") for n in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
    options = launch.compiler_options(warps_of(kernel, target), capability, kernel.tight)
    return triton.compile(ASTSource(kernel.function, signature, constants, aligned), target=target, options=options)


def warps_of(kernel: Kernel, target: GPUTarget) -> int:
    capability = divmod(target.arch, 10) if target.backend == "cuda" else None
    return kernel.warps or launch.tile_warps(capability)


def figures(kernel: Kernel, target: GPUTarget, **constants) -> Figures:
    """Compile a kernel and read what it takes."""
    compiled, warps = compile_kernel(kernel, target, **constants), warps_of(kernel, target)
    if target.backend == "hip":
        text = compiled.asm["amdgcn"]
        registers, *spilled = (_number(text, rf"\.{n}:\s*(\d+)") for n in ("vgpr_count", "vgpr_spill_count"))
        spilled.append(_number(text, r"\.private_segment_fixed_size:\s*(\d+)"))
        waves = _number(text, r"; Occupancy: (\d+)")
        return Figures(registers, sum(spilled), compiled.metadata.shared, warps, waves / _WAVES[target.arch])
    usage = _tool("cuobjdump", compiled.asm["cubin"], "-res-usage")
    registers, stack, local = (_number(usage, rf"{n}:(\d+)") for n in ("REG", "STACK", "LOCAL"))
    shared = compiled.metadata.shared
    return Figures(registers, stack + local, shared, warps, occupancy(target.arch, registers, shared, warps))


def occupancy(arch: int, registers: int, shared: int, warps: int) -> float:
    """Share of a multiprocessor's places for warps that programs, registers and shared memory let be filled."""
    places, programs, memory = _SM[arch]
    a_warp = -(-registers // 8) * 8 * 32  # registers are given out by 256 a warp
    by_registers = 65_536 // a_warp // 4 * 4 // warps
    by_memory = memory // (shared + 1024)  # the system keeps 1 KiB for each program
    return min(places // warps, programs, by_registers, by_memory) * warps / places


def loop_instructions(kernel: Kernel, target: GPUTarget) -> int:
    """SASS instructions of the kernel's first loop, which here is the one over the list."""
    labels, instructions = {}, []
    for line in _tool("nvdisasm", compile_kernel(kernel, target).asm["cubin"], "-c").splitlines():
        if label := re.match(r"\.(L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif text := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*)", line):
            instructions.append(text[1])
    for i, text in enumerate(instructions):
        jump = re.search(r"BRA.*`\(\.(L_x_\d+)\)", text)
        if jump and labels.get(jump[1], i) < i:
            return i - labels[jump[1]] + 1
    raise ValueError("no loop was found in the disassembly")


def _tool(name: str, cubin: bytes, *arguments: str) -> str:
    program = Path(triton.__file__).parent / "backends/nvidia/bin" / name
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([program, *arguments, file.name], capture_output=True, text=True, check=True).stdout


def _number(text: str, pattern: str) -> int:
    return int(re.search(pattern, text)[1])


def compiled_table() -> list[str]:
    """Markdown: one row a kernel, one column a target."""
    rows = [(name, kernel, {}) for name, kernel in KERNELS.items()]
    rows += [(f"{name}, degree 3", KERNELS[name], {"DEGREE": 3}) for name in ("project", "color_gradients")]
    lines = ["| kernel | " + " | ".join(TARGETS) + " |", "|---" * (len(TARGETS) + 1) + "|"]
    for name, kernel, constants in rows:
        cells = []
        for target in TARGETS.values():
            f = figures(kernel, target, **constants)
            cells.append(f"{f.registers} · {f.shared} · {f.spilled} · {f.occupancy:.0%}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    from triton_scene import scene_tables  # beside this file

    loops = {
        arch: {name: loop_instructions(KERNELS[name], TARGETS[arch]) for name in ("composite", "composite_gradients")}
        for arch in ("sm_90", "sm_89")
    }
    table = "\n".join(compiled_table())
    bytes_table, time_table, assumptions = scene_tables(loops)
    text = f"""# The Triton rasterizer, compiled

`python benchmarks/triton_compiled.py --write`, Triton {triton.__version__}. **No GPU was at hand: nothing was timed.**

## What the compiler made

Registers of a thread · bytes of shared memory of a program · bytes spilled · occupancy (share of the places for warps
that a multiprocessor, or for waves that a SIMD, can fill). Compiled for degree {DEGREE} unless a row says otherwise.
Targets: no spills at sm_80 and newer, occupancy at least 50 %.

{table}

## 24 views of a full scene, beside gsplat's algorithm (computed)

{assumptions}

{bytes_table}

{time_table}
"""
    print(text)
    if write:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
