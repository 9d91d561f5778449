"""The examples run as they stand, one after the other."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "example_scripts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("image_to_scene", None, "24,576 Gaussians"),
        ("render_path", "output/examples/scene.ply", "4 views"),
        ("convert_and_clean", "output/examples/scene.ply", "clean.compressed.ply"),
        ("train_one_step", None, "step 1"),
    ],
)
def test_example(name, argument, expected, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *([argument] if argument else [])])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert expected in capsys.readouterr().out


def test_every_example_is_run():
    assert {file.stem for file in FOLDER.glob("*.py")} == {
        "image_to_scene", "render_path", "convert_and_clean", "train_one_step",
    }  # fmt: skip
