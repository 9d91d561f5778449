"""How the program ends: errors exit 1 whatever is compiling, Ctrl-C is answered within a network pass."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "flashworld_core" / "assets" / "demo" / "picture.png"
# An error while the CPU renderer compiles in the background, without its cache on disk.
ERROR_WHILE_COMPILING = """
import sys
from flashworld_core.cli import info, program
from flashworld_core.errors import FlashWorldError
from flashworld_core.rendering.render import warm_up
def run(options):
    warm_up()
    raise FlashWorldError("wrong input")
info.run = run
sys.argv = ["flashworld", "info", "x"]
program()
"""


def run_program(tmp_path, *arguments):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def errors_in_a_row(tmp_path, count):
    for number in range(count):
        if number % 2:
            done = run_program(tmp_path, "-m", "flashworld_core", "generate", "--image", PICTURE, "--size", "100x100")
            assert "multiple of 8" in done.stderr
        else:
            done = run_program(tmp_path, "-c", ERROR_WHILE_COMPILING)
            assert "wrong input" in done.stderr
        assert done.returncode == 1 and "terminate" not in done.stderr, (number, done.stderr)


def test_an_error_while_something_compiles_exits_with_1(tmp_path):
    errors_in_a_row(tmp_path, 2)


@pytest.mark.slow
def test_twenty_early_errors_exit_with_1(tmp_path):
    errors_in_a_row(tmp_path, 20)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process")
def test_ctrl_c_is_answered_within_a_network_pass(tmp_path):
    """24 views of 704x480: the first pass alone takes half an hour."""
    command = [sys.executable, "-m", "flashworld_core", "generate", "--image", PICTURE, "--views", "24"]
    process = subprocess.Popen(
        [*map(str, command), "--size", "704x480", "--out", str(tmp_path / "out")],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines, begun = [], threading.Event()

    def read():
        for line in process.stderr:
            lines.append(line)
            if line.startswith("generate 0 %"):
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(120), lines
    time.sleep(3.0)  # into the first pass
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    assert process.wait(60) == 130
    reader.join()
    text = "".join(lines)
    assert "Loading" in text and "will take about" in text and "take about" in text.split("will take about")[1]
    assert "Stopping..." in text and "no file is half written" in text
    assert time.monotonic() - sent < 30  # two seconds where nothing else runs; it took minutes
    assert not (tmp_path / "out").exists()
