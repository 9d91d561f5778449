"""Fields to meshes and to Gaussians: where the surface is, which way it faces, its colors, and what is refused."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from ball_field import BALLS, BallField
from torch.testing import assert_close

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.formats.meshes import FORMATS, write_mesh
from flashworld_core.generators.vfusion3d.cameras import orbit
from flashworld_core.meshes import Mesh
from flashworld_core.ops.field_lattice import density_lattice
from flashworld_core.ops.field_to_gaussians import buried, field_to_gaussians
from flashworld_core.ops.field_to_mesh import field_to_mesh
from flashworld_core.progress import Progress
from flashworld_core.rendering.field import RayDraws, render_field
from flashworld_core.rendering.render import render

STOPPED = Progress(should_stop=lambda: True)


@pytest.fixture(scope="module")
def mesh():
    pytest.importorskip("skimage")
    return field_to_mesh(BallField(), 64)


def test_the_mesh_lies_on_the_surface_and_faces_outwards(mesh):
    field = BallField()
    own = mesh.vertices.double() @ field.to_world  # back to the field's axes
    gap = torch.stack([(own - torch.tensor(c, dtype=own.dtype)).norm(dim=1) - r for c, r in BALLS]).amin(0).abs()
    assert gap.max() < 2 / 63, "within a cell: density is linear between samples there, here it jumps"
    corners = mesh.vertices[mesh.faces].double()
    volume = float((corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6)
    assert volume == pytest.approx(sum(4 / 3 * math.pi * r**3 for _, r in BALLS), rel=0.06)
    assert_close(mesh.colors, 0.1 + 0.8 * (own > 0).float(), rtol=0, atol=1e-5)
    assert mesh.metadata == {"generator": "balls"}


def test_a_surface_that_reaches_the_cube_is_closed():
    pytest.importorskip("skimage")
    field = BallField()
    field.raw = lambda points: torch.full(points.shape[:-1], 60.0)
    box = field_to_mesh(field, 16)
    assert box.vertices.abs().max() <= 1
    corners = box.vertices[box.faces].double()
    assert float((corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6) > 7.5


@pytest.mark.parametrize("kind", FORMATS)
def test_mesh_files(mesh, tmp_path, kind):
    trimesh = pytest.importorskip("trimesh")
    file = write_mesh(tmp_path / f"balls.{kind}", mesh)
    again = trimesh.load(file, force="mesh", process=False)
    assert len(again.vertices) == len(mesh.vertices) and len(again.faces) == len(mesh.faces)
    # The ball in front of the viewer and above: y up, z towards the viewer.
    assert_close(torch.tensor(again.vertices).float(), mesh.vertices * torch.tensor([1.0, -1, -1]), rtol=0, atol=1e-4)
    expected = mesh.linear_colors() if kind == "glb" else mesh.colors
    stored = torch.tensor(again.visual.vertex_colors[:, :3]).float() / 255
    assert_close(stored, expected.clamp(0, 1), rtol=0, atol=0.01)


def test_mesh_files_that_cannot_be_written_leave_what_was_there(mesh, tmp_path, monkeypatch):
    with pytest.raises(FlashWorldError, match=r"\.glb, \.obj, \.ply"):
        write_mesh(tmp_path / "a.stl", mesh)
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3))
    with pytest.raises(FlashWorldError, match="no triangles"):
        write_mesh(tmp_path / "a.glb", empty)
    (tmp_path / "a.glb").write_bytes(b"before")
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(FlashWorldError, match="pip install trimesh"):
        write_mesh(tmp_path / "a.glb", mesh)
    assert (tmp_path / "a.glb").read_bytes() == b"before"


def test_without_scikit_image_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(FlashWorldError, match="pip install scikit-image"):
        field_to_mesh(BallField(), 16)


def test_what_meshes_and_scenes_refuse():
    pytest.importorskip("skimage")
    for make in (field_to_mesh, field_to_gaussians):
        for resolution in (2, 4096):
            with pytest.raises(FlashWorldError, match="resolution must lie between"):
                make(BallField(), resolution)
        with pytest.raises(Cancelled):
            make(BallField(), 16, progress=STOPPED)
    with pytest.raises(FlashWorldError, match="highest density is 59"):
        field_to_mesh(BallField(), 16, threshold=1000)
    with pytest.raises(FlashWorldError, match="above 0"):
        field_to_mesh(BallField(), 16, threshold=float("nan"))
    with pytest.raises(FlashWorldError, match="empty"):
        field_to_gaussians(BallField(density=0.0), 16)
    with pytest.raises(FlashWorldError, match="min_opacity"):
        field_to_gaussians(BallField(), 16, min_opacity=1.5)
    broken = BallField()
    broken.raw = lambda points: torch.full(points.shape[:-1], float("nan"))
    with pytest.raises(FlashWorldError, match="not finite"):
        density_lattice(broken, 16)


def test_the_scene_looks_like_the_field():
    field, cameras = BallField(), orbit(3, 128, 20.0)[:2]
    exact = render_field(field, cameras).rgb
    errors = []
    for resolution in (32, 64, 96):
        scene = field_to_gaussians(field, resolution)
        errors.append(float(((render(scene, cameras, background="white").rgb - exact) ** 2).mean()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1.3e-3
    assert len(scene) < 0.75 * int((density_lattice(field, 96) > 1).sum()), "the inside is left out"


def test_what_is_buried():
    depth = torch.zeros(21, 21, 21)
    depth[3:18, 3:18, 3:18] = 1.0
    inside = buried(depth)
    assert inside[10, 10, 10] and not inside[3, 3, 3] and not inside[0, 0, 0]
    assert int(inside.sum()) == (15 - 2 * 4) ** 3, "five layers of depth 1 hide what is behind"
    depth[10, 10, :10] = 0  # a hole, through which the middle is seen
    assert not buried(depth)[10, 10, 10]


def test_a_view_depends_on_the_draws_alone():
    field, camera = BallField(), orbit(5, 24)[1]
    first = render_field(field, camera, seed=3)
    chunked = render_field(field, camera, seed=3, rays_per_chunk=50)
    for name in ("rgb", "depth", "alpha"):
        assert_close(getattr(first, name), getattr(chunked, name), rtol=0, atol=1e-5)
    other = render_field(field, camera, draws=lambda view: RayDraws.seeded(24 * 24, 4))
    assert 0 < float((first.rgb - other.rgb).abs().mean()) < 0.02
    calls = []
    with pytest.raises(Cancelled):
        render_field(field, camera, rays_per_chunk=50, should_stop=lambda: calls.append(1) or len(calls) > 3)


def test_a_camera_inside_the_cube_sees_only_what_is_ahead():
    import dataclasses

    field = BallField(to_world=torch.eye(3, dtype=torch.float64))
    camera = orbit(4, 24)[0]
    pose = torch.eye(4)[None].clone()
    pose[0, :3, 3] = torch.tensor([0.1, 0.0, 0.8])  # both balls are behind
    behind = dataclasses.replace(camera, camera_to_world=pose)
    assert float(render_field(field, behind).alpha.max()) < 0.01
