"""Commands under bad input: said first, in one sentence, with nothing written and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from commands import wait_until_ready

from flashworld_core.cli import main
from flashworld_core.formats.scenes import read_scene, write_scene
from flashworld_core.gaussians import Gaussians

KINDS = (("f_dc", 3), ("scale", 3), ("rot", 4))


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.ply"
    one = torch.ones(1, 3)
    write_scene(path, Gaussians(2 * one, torch.eye(4)[:1], 0.1 * one, torch.ones(1), torch.ones(1, 1, 3)))
    return path


def refused(capsys, *arguments, code=1):
    """The one line that ``main(arguments)`` ends with."""
    if code == 2:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        assert stop.value.code == 2
    else:
        assert main([str(a) for a in arguments]) == code
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("device", ["foo", "", "CPU", "mps", "meta", "cuda:x"])
def test_devices_that_are_none(capsys, scene, device):
    assert "none of auto, cpu" in refused(capsys, "render", scene, "--device", device, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "--views", "9" * 30),
        ("convert", "a.ply", "b.ply", "--min-opacity", "nan"),
        ("generate", "--prompt", "x", "--focus-distance", "0"),
    ],
)
def test_numbers_out_of_range_are_wrong_usage(capsys, arguments):
    assert "is not a" in refused(capsys, *arguments, code=2)


def test_an_output_that_cannot_be_is_said_before_the_model_loads(capsys, tmp_path, monkeypatch):
    from flashworld_core import generators

    monkeypatch.setattr(generators, "load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot be a folder" in refused(capsys, "generate", "--prompt", "x", "--out", out)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_no_scene(capsys, tmp_path):
    os.mkfifo(tmp_path / "scene.ply")
    assert "device or pipe" in refused(capsys, "info", tmp_path / "scene.ply")


def with_metadata(path, text):
    data = path.read_bytes().replace(b"end_header", f"comment flashworld {text}\nend_header".encode(), 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("value", ["1e-300", '"abc"', "null", "[1]", "1" * 400, "NaN"])
def test_metadata_that_is_no_number_is_as_if_not_there(capsys, scene, tmp_path, value):
    with_metadata(scene, f'{{"focal_px":{value},"scene_scale":{value}}}')
    out = tmp_path / "out"
    assert main(["render", str(scene), "--views", "1", "--size", "32x32", "--out", str(out)]) == 0
    assert main(["convert", str(scene), str(tmp_path / "again.ply")]) == 0
    assert len(read_scene(tmp_path / "again.ply")) == 1


def test_long_words_of_a_file_are_not_repeated(capsys, tmp_path):
    names = ["x", "y", "z", "opacity", *(f"{kind}_{i}" for kind, n in KINDS for i in range(n))]
    head = "ply\nformat ascii 1.0\nelement vertex 1\n" + "".join(f"property float {n}\n" for n in names)
    (tmp_path / "a.ply").write_text(head + "end_header\n" + "x" * 10_000 + " 0" * 13 + "\n")
    assert len(refused(capsys, "convert", tmp_path / "a.ply", tmp_path / "b.ply")) < 500


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM to a process's own handler")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_being_ended_leaves_nothing_half_written(tmp_path, name):
    command = [sys.executable, "-m", "flashworld_core", "generate", "--prompt", "a box", "--out", tmp_path / "out"]
    process = subprocess.Popen([*map(str, command), "--no-video"], stderr=subprocess.PIPE, text=True)
    wait_until_ready(process)
    time.sleep(2.0)  # loading, or at its first step
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=60)
    assert process.returncode in (0, 130, -signal.SIGINT), error
    assert "Traceback" not in error
    assert not [file for file in (tmp_path / "out").glob("*") if file.name.startswith(".")]
