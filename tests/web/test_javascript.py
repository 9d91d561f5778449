"""The JavaScript unit tests, run by node's own test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_javascript(file):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(file)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith("not ok") or "error:" in line]
    assert done.returncode == 0, "\n".join(failures) or done.stdout + done.stderr
