"""The Triton rasterizer on a machine without a GPU: its kernels interpreted, compiled ahead, and never imported."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
needs_triton = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton is not installed here")


@needs_triton
def test_interpreted_kernels_match_the_reference():
    """`tests/support/triton_cases.py` in its own process: the interpreter is chosen before triton is imported."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/support/triton_cases.py"],
        cwd=REPOSITORY,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 20
