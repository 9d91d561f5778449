"""``generate`` with a model of objects: files written, and what it says or refuses."""

from __future__ import annotations

import json

import pytest
import torch
from small_vfusion3d import save_small_model

from flashworld_core.cli import main
from flashworld_core.generators.vfusion3d import pipeline
from flashworld_core.media.export import save_png


@pytest.fixture
def files(tmp_path, monkeypatch):
    """(model, picture, folder to write to); scenes come out coarse."""
    monkeypatch.setattr(pipeline, "RESOLUTION", 20)
    image = torch.ones(40, 40, 3)
    image[8:30, 12:30] = torch.tensor([0.1, 0.5, 0.9])
    save_png(tmp_path / "picture.png", image)
    return str(save_small_model(tmp_path)), str(tmp_path / "picture.png"), tmp_path / "out"


def generate(files, *more):
    model, picture, out = files
    return main(["generate", "--model", model, "--image", picture, "--out", str(out), *more])


def test_an_object_is_written_as_scene_mesh_and_video(files, capsys):
    pytest.importorskip("skimage")
    pytest.importorskip("trimesh")
    out = files[2]
    arguments = ("--mesh", "glb,obj,ply", "--mesh-resolution", "24", "--video-size", "32x32")
    assert generate(files, *arguments, "--views", "3") == 0
    said = capsys.readouterr()
    assert "CC-BY-NC" in said.out and "--views is not used" in said.err and "plain background" in said.err
    written = {"scene.ply", "mesh.glb", "mesh.obj", "mesh.ply", "contact_sheet.png", "orbit.mp4", "report.json"}
    assert {file.name for file in out.iterdir()} == written
    report = json.loads((out / "report.json").read_text())
    assert report["mesh_triangles"] > 10 and report["gaussians"] > 10 and "CC-BY-NC" in report["license"]
    assert main(["info", files[0]]) == 0 and "VFusion3D" in capsys.readouterr().out
    assert main(["plan", "--model", files[0], "--device", "cpu"]) == 0


def test_without_mesh_libraries_the_scene_is_written_all_the_same(files, capsys, monkeypatch):
    monkeypatch.setattr("flashworld_core.formats.meshes.find_spec", lambda name: None)
    assert generate(files, "--no-video", "--mesh", "obj") == 1
    assert "pip install scikit-image trimesh" in capsys.readouterr().err and not files[2].exists()
    assert generate(files, "--no-video") == 0
    assert "No mesh is written" in capsys.readouterr().err
    assert (files[2] / "scene.ply").is_file() and not (files[2] / "mesh.glb").exists()


def test_a_mask_file_and_what_is_refused(files, tmp_path, capsys):
    mask = torch.zeros(40, 40, 3)
    save_png(tmp_path / "empty.png", mask)
    for arguments, message in (
        (("--mask", str(tmp_path / "empty.png")), "shows no object"),
        (("--mask", str(tmp_path / "none.png")), "no such image"),
        (("--mesh", "stl"), "glb, obj, ply"),
        (("--mesh-resolution", "4"), "resolution"),
        (("--guidance", "3"), "no option guidance"),
    ):
        if arguments[0] == "--mesh-resolution":
            pytest.importorskip("skimage")
            pytest.importorskip("trimesh")
        assert generate(files, *arguments) == 1
        assert message in capsys.readouterr().err
    assert main(["generate", "--model", files[0], "--prompt", "a boat", "--out", str(files[2])]) == 1
    assert "give --image" in capsys.readouterr().err
    assert main(["generate", "--prompt", "x", "--mask", "a.png", "--out", str(files[2])]) == 1
    assert "models of objects" in capsys.readouterr().err
    assert not (files[2] / "scene.ply").exists()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_embedded_model_is_planned_in_every_precision(dtype, capsys):
    assert main(["plan", "--model", "trellis-tiny", "--dtype", dtype, "--backend", "torch"]) == 0
    assert "peak" in capsys.readouterr().out


def test_a_model_without_8_bit_form_says_so(capsys):
    assert main(["plan", "--model", "trellis-tiny", "--dtype", "int8"]) == 1
    assert "no 8-bit form" in capsys.readouterr().err
