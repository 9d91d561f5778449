"""Compiled kernels on disk serve every program that loads the package, under whatever name."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

PACKAGE = Path(__file__).resolve().parents[3] / "flashworld_core"
PROGRAM = """
import importlib.util, sys
import numpy as np
name, init = sys.argv[1:]
spec = importlib.util.spec_from_file_location(name, init)
package = importlib.util.module_from_spec(spec)
sys.modules[name] = package
spec.loader.exec_module(package)
kernel = importlib.import_module(name + ".rendering.backends.cpu.composite")._exp
assert abs(kernel(np.float32(-1)) - np.exp(-4)) < 1e-6
print(sum(kernel.stats.cache_hits.values()))
"""


def test_two_names_of_the_package_do_not_read_each_others_cache(tmp_path):
    def hits(name):
        command = [sys.executable, "-c", PROGRAM, name, str(PACKAGE / "__init__.py")]
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert [hits("one_name"), hits("other_name"), hits("one_name")] == [0, 0, 1]
