"""Commands ended at any moment: no half file, nothing lost that was there, no temporary file that stays, a sentence."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from commands import wait_until_ready

from flashworld_core.formats.scenes import read_scene, write_scene
from flashworld_core.gaussians import Gaussians

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals to a process's own handler")
COMMANDS = {
    "generate": ("generate", "--prompt", "x", "--views", "2", "--steps", "1", "--size", "64x64", "--out", "out"),
    "render": ("render", "scene.ply", "--views", "12", "--size", "96x96", "--out", "out"),
    "convert": ("convert", "scene.ply", "out", "--to", "spz,sog,ply,ksplat"),
    "demo": ("demo", "--out", "out"),
}
OLD = {"generate": "report.json", "render": "rgb/0003.png", "convert": "scene.spz", "demo": "report.json"}
LASTS = {"generate": 12.0, "render": 6.0, "convert": 6.0, "demo": 30.0}  # seconds at most, from the handler on


def interrupt(folder, command: str, name: str, rng: random.Random, longest: float) -> None:
    """Run a command in ``folder`` and end it somewhere in ``longest`` seconds."""
    count = 20_000
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(count, 3, generator=generator) + torch.tensor([0, 0, 4.0])
    ones = torch.ones(count, 3)
    quats = torch.eye(4)[:1].expand(count, 4)
    write_scene(folder / "scene.ply", Gaussians(means, quats, 0.01 * ones, ones[:, 0], ones[:, None]))
    old = folder / "out" / OLD[command]
    old.parent.mkdir(parents=True)
    old.write_text("old")
    source = (folder / "scene.ply").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "flashworld_core", *COMMANDS[command]],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until_ready(process)
    time.sleep(rng.uniform(0, longest))
    process.send_signal(getattr(signal, name))
    error = process.communicate(timeout=120)[1]
    if name == "SIGKILL":
        assert process.returncode in (0, -signal.SIGKILL), error
    else:
        assert process.returncode in (0, 130), error
        assert "Traceback" not in error
    if process.returncode == 130:
        assert "Stopped; no file is half written." in error
        if old.read_bytes() != b"old":
            assert "Written by this run" in error
    assert (folder / "scene.ply").read_bytes() == source and old.stat().st_size
    files = [file for file in (folder / "out").rglob("*") if file.is_file()]
    hidden = [file for file in files if file.name.startswith(".")]
    assert not hidden or name == "SIGKILL", hidden
    for file in files:
        if file.suffix in (".ply", ".spz", ".sog", ".ksplat") and file not in hidden and file.read_bytes() != b"old":
            assert len(read_scene(file))
    # What a killed process left is removed by a later run, once it is a minute old.
    for file in hidden:
        os.utime(file, (time.time() - 3600,) * 2)
        write_scene(file.parent / "again.splat", read_scene(folder / "scene.ply"))
        assert not file.exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_command_that_is_ended(tmp_path, name):
    interrupt(tmp_path, "convert", name, random.Random(name), 3.0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_are_ended(tmp_path, command, name, number):
    interrupt(tmp_path, command, name, random.Random(f"{command} {name} {number}"), LASTS[command])
