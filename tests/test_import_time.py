"""What importing the package may not pull in. How long it takes is measured in benchmarks/import_time.py."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    *("numba", "diffusers", "transformers", "gsplat", "triton", "PIL"),
    *("scipy", "av", "safetensors", "huggingface_hub"),
)
STANDIN = str(Path(__file__).parent / "nodes" / "standin")
PROGRAM = """
import sys, torch
sys.path.append(sys.argv[2])
before = set(sys.modules)
for name in sys.argv[1].split():
    __import__(name)
print(*sorted({m.split(".")[0] for m in set(sys.modules) - before}))
"""


def newly_loaded(modules):
    """Top-level names that importing ``modules`` adds to those of torch, in a fresh interpreter."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, modules, STANDIN],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
        timeout=300,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "modules",
    [
        "flashworld_core",
        "flashworld_core.formats.scenes flashworld_core.formats.scenes.ply flashworld_core.ops.select "
        "flashworld_core.sh",
    ],
)
def test_import_loads_no_heavy_library(modules):
    loaded = newly_loaded(modules)
    assert "flashworld_core" in loaded
    assert not loaded & set(HEAVY)


def test_the_nodes_load_no_heavy_library():
    """The pack as ComfyUI loads it, against the stand-in host."""
    loaded = newly_loaded("tests.nodes.conftest")
    assert {"flashworld_pack", "comfy_api"} <= loaded
    assert not loaded & set(HEAVY)


def test_the_list_would_be_noticed():
    """The same measurement does see a heavy library that is imported."""
    assert "PIL" in newly_loaded("PIL.Image")


@pytest.mark.parametrize("command", ["", "generate", "render", "convert", "info", "plan", "demo", "checkpoint"])
def test_help_loads_neither_torch_nor_numpy(command):
    program = (
        "import sys\nfrom flashworld_core.cli import main\n"
        "try:\n    main([*sys.argv[1:], '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", program, *([command] if command else [])]
    root = Path(__file__).parents[1]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=root, check=True, timeout=60)
    assert "usage: flashworld" in done.stdout
    assert not set(done.stderr.split()) & {"torch", "numpy", *HEAVY}
