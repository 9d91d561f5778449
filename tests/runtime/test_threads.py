"""OpenMP's waits and the number of threads follow the machine's load, never against the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flashworld_core.runtime import threads

ROOT = Path(__file__).parents[2]


def environment(**more):
    left = {k: v for k, v in os.environ.items() if k not in threads._USERS_CHOICE}
    return {**left, **more}


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_the_command_line_sets_a_short_spin_before_torch(given, expected):
    program = (
        "import os, sys\nfrom flashworld_core.cli import main\nassert 'torch' not in sys.modules\n"
        "main(['info', 'missing'])\nprint(os.environ.get('GOMP_SPINCOUNT'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(**given), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == expected, done.stderr


def test_threads_are_those_of_idle_cores_and_come_back(monkeypatch):
    for name in threads._USERS_CHOICE:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    try:
        torch.set_num_threads(8)
        for busy, expected in ((0.2, 8), (3.0, 5), (20.0, 1), (None, 8)):
            monkeypatch.setattr(threads, "_busy_cores", lambda cores, busy=busy: busy)
            with threads.threads_by_load() as count:
                assert count == torch.get_num_threads() == expected
            assert torch.get_num_threads() == 8
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
        monkeypatch.setattr(threads, "_busy_cores", lambda cores: 7.0)
        with threads.threads_by_load():
            assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
