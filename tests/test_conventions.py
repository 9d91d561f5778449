"""One test per numbered line of CONVENTIONS.md, of the same number. Values by hand wherever a line states them."""

import dataclasses
import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.formats.cameras import read_cameras, write_cameras
from flashworld_core.formats.cameras.flashworld_json import FlashWorldRequest
from flashworld_core.formats.scenes import read_scene, write_scene
from flashworld_core.formats.scenes.ply import read_ply, write_ply
from flashworld_core.formats.scenes.quaternions import XYZW, smallest_three
from flashworld_core.formats.scenes.rows import turned
from flashworld_core.formats.scenes.spz_layout import encode_rotations
from flashworld_core.gaussians import Gaussians
from flashworld_core.generators.flashworld import cameras as vectors
from flashworld_core.generators.flashworld.cameras import normalize_path
from flashworld_core.generators.flashworld.conditioning import prepare_image
from flashworld_core.generators.vfusion3d import cameras as vfusion3d
from flashworld_core.geometry import (
    flip_y_and_z,
    intrinsics_from_vertical_fov,
    look_at,
    matrices_to_quats,
    quats_to_matrices,
    vertical_fov_degrees,
)
from flashworld_core.meshes import Mesh
from flashworld_core.ops.transform import transform, transform_cameras, upright_rotation
from flashworld_core.rendering.maps import disparity_map, normal_map, render_maps
from flashworld_core.rendering.render import render
from flashworld_core.sh import dc_to_rgb, evaluate_sh, rgb_to_dc, sh_basis
from flashworld_core.trajectories.comfyui import from_load3d, to_load3d, wan_camera_embedding
from flashworld_core.trajectories.document import document_from_cameras, parse_document, sample_document, write_document
from flashworld_core.trajectories.presets import make_trajectory

H = math.sqrt(0.5)
F = torch.diag(torch.tensor([1.0, -1, -1, 1]))
RED, GREEN, BLUE = (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)


def camera(c2w=None, width=41, height=31, focal=40.0):
    """One camera at the origin, looking along +z, with a pixel center in the middle of the image."""
    k = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    return Cameras(torch.eye(4)[None] if c2w is None else torch.as_tensor(c2w).float()[None], k, width, height)


def right_of_origin():
    """[4, 4] c2w: 1 unit to the right of the origin, level, looking at it."""
    return torch.tensor([[0.0, 0, -1, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def some_cameras(views=4, width=64, height=48):
    generator = torch.Generator().manual_seed(3)
    position, target = torch.randn(2, views, 3, generator=generator)
    c2w = look_at(2 * position, target).float()
    k = torch.tensor([[50.0, 0, 30], [0, 55, 25], [0, 0, 1]]).repeat(views, 1, 1)
    return Cameras(c2w, k, width, height)


def splats(positions, colors, size=0.02, opacity=1.0, quats=None):
    n = len(positions)
    return Gaussians(
        torch.tensor(positions).float(),
        torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1) if quats is None else torch.tensor(quats).float(),
        torch.tensor(size).float().expand(n, 3),
        torch.full((n,), opacity),
        rgb_to_dc(torch.tensor(colors).float())[:, None],
    )


def random_scene(n=60, degree=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(n, 3, generator=generator) * 0.7 + torch.tensor([0.0, 0, 3]),
        torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1),
        0.05 + 0.2 * torch.rand(n, 3, generator=generator),
        0.2 + 0.7 * torch.rand(n, generator=generator),
        0.3 * torch.randn(n, (degree + 1) ** 2, 3, generator=generator),
    )


def draw(scene, cameras, **options):
    return render(scene, cameras, backend="torch", **options)


def brightest(image):
    """(row, column) of the largest value of an [H, W] image."""
    return divmod(int(image.argmax()), image.shape[1])


def project(cameras, points):
    """[V, N, 2] pixel coordinates, by the formula of line 3."""
    local = torch.einsum("vij,nj->vni", cameras.world_to_camera, torch.nn.functional.pad(points, (0, 1), value=1.0))
    uv = torch.einsum("vij,vnj->vni", cameras.intrinsics, local[..., :3])
    return uv[..., :2] / uv[..., 2:]


def covariance(gaussians):
    axes = quats_to_matrices(gaussians.quats) * gaussians.scales[:, None]
    return axes @ axes.transpose(1, 2)


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(torch.as_tensor(a).float(), torch.as_tensor(b).float(), rtol=0, atol=tolerance)


# --- world and cameras ----------------------------------------------------------------------------------------------


def test_line_1_world():
    scene = splats([(0.5, 0, 2), (0, 0.5, 2), (0, 0, -2)], [RED, GREEN, BLUE])
    rgb = draw(scene, camera(), background="black").rgb[0]
    row, column = brightest(rgb[..., 0])
    assert row == 15 and column == 30  # x is right
    row, column = brightest(rgb[..., 1])
    assert row == 25 and column == 20  # y is down
    assert float(rgb[..., 2].max()) == 0  # z is forward: what is behind is not seen
    assert torch.equal(torch.linalg.cross(torch.eye(3)[0], torch.eye(3)[1]), torch.eye(3)[2])


def test_line_2_poses():
    c2w = right_of_origin()
    cameras = camera(c2w)
    right, down, forward, position = c2w[:3].T
    close(position, (1, 0, 0))
    for axis, pixel in (
        (forward, (20.5, 15.5)),
        (forward + 0.1 * right, (24.5, 15.5)),
        (forward + 0.1 * down, (20.5, 19.5)),
    ):
        close(project(cameras, (position + axis)[None])[0, 0], pixel, 1e-4)
    cameras = some_cameras()
    close(cameras.world_to_camera @ cameras.camera_to_world, torch.eye(4).expand(4, 4, 4))


def test_line_3_intrinsics():
    cameras = dataclasses.replace(camera(), intrinsics=torch.tensor([[[40.0, 0, 3], [0, 50, 5], [0, 0, 1]]]))
    pixel = torch.tensor([30.5, 20.5])  # the center of column 30, row 20
    point = torch.stack([(pixel[0] - 3) / 40 * 2, (pixel[1] - 5) / 50 * 2, torch.tensor(2.0)])
    close(project(cameras, point[None])[0, 0], pixel)
    alpha = draw(splats([point.tolist()], [RED]), cameras, modes=("alpha",)).alpha[0]
    assert brightest(alpha) == (20, 30)
    for a, b in (((20, 29), (20, 31)), ((19, 30), (21, 30))):  # exactly in its middle: the neighbors are alike
        assert float(alpha[a]) == pytest.approx(float(alpha[b]), abs=1e-4) and float(alpha[a]) > 0.01


def test_line_4_another_image_size():
    cameras = some_cameras()
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    larger = cameras.resized(192, 96)
    close(project(larger, points), project(cameras, points) * torch.tensor([3.0, 2.0]), 1e-2)
    assert torch.equal(larger.camera_to_world, cameras.camera_to_world)
    close(larger.resized(64, 48).intrinsics, cameras.intrinsics)


def test_line_5_field_of_view():
    cameras = make_trajectory("static", views=1, width=200, height=100, vertical_fov_degrees=90)
    top = torch.tensor([[0.0, -1, 1]])  # 45 degrees up
    close(project(cameras, top)[0, 0], (100, 0))
    assert cameras.intrinsics[0, 0, 0] == cameras.intrinsics[0, 1, 1] == 50
    for degrees in (20.0, 60.0, 120.0):
        assert float(vertical_fov_degrees(intrinsics_from_vertical_fov(degrees, 30, 70), 70)) == pytest.approx(degrees)


def test_line_6_quaternions():
    quarter_about_x = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    for q in ((H, H, 0, 0), (-H, -H, 0, 0), (5, 5, 0, 0)):
        close(quats_to_matrices(torch.tensor(q).float()), quarter_about_x)
    close(matrices_to_quats(quarter_about_x), (H, H, 0, 0))
    q = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    back = matrices_to_quats(quats_to_matrices(q))
    close(back.norm(dim=1), torch.ones(50))
    close(back, q / q.norm(dim=1, keepdim=True) * torch.where(q[:, :1] < 0, -1, 1))


def test_line_7_moves():
    def last(name):
        return make_trajectory(name, views=2, width=64, height=48).camera_to_world[1]

    for name in ("orbit", "truck"):
        assert last(name)[0, 3] > 0.1
    for name in ("pedestal", "crane"):
        assert last(name)[1, 3] < -0.1
    assert last("dolly_in")[2, 3] > 0.1
    assert last("pan")[0, 2] > 0.1 and last("tilt")[1, 2] < -0.1  # the line of sight goes right, goes up
    assert last("roll")[1, 0] > 0.1  # the camera's right side goes down
    close(last("pan:90") @ last("pan:-90"), torch.eye(4))
    close(last("truck:2")[:3, 3], (2, 0, 0))


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_line_8_quats():
    """Long along its own x, turned a quarter about z: long along the world's y. Seen as a vertical stroke."""
    scene = splats([(0, 0, 2)], [RED], size=[[0.3, 0.01, 0.01]], quats=[(H, 0, 0, H)])
    close(covariance(scene)[0], torch.diag(torch.tensor([0.01, 0.3, 0.01]) ** 2))
    alpha = draw(scene, camera(), modes=("alpha",)).alpha[0] > 0.3
    assert int(alpha.any(dim=1).sum()) > 3 * int(alpha.any(dim=0).sum())


def test_line_9_activated_values():
    scene = splats([(0, 0, 2)], [RED], size=0.1, opacity=0.6)
    alpha = draw(scene, camera(), modes=("alpha",)).alpha[0]
    close(alpha[15, 20], 0.6)
    variance = (40 * 0.1 / 2) ** 2 + 0.3  # pixels^2, with the renderer's low-pass
    close(alpha[15, 23], 0.6 * math.exp(-(3**2) / (2 * variance)))


def test_line_10_spherical_harmonics():
    basis = sh_basis(torch.eye(3), 1)
    close(basis, [[0.28209, 0, 0, -0.48860], [0.28209, -0.48860, 0, 0], [0.28209, 0, 0.48860, 0]])
    sh = torch.zeros(9, 3)
    sh[0], sh[3, 1] = rgb_to_dc(torch.tensor([0.7, 0.5, 0.1])), -1.0
    close(evaluate_sh(sh, torch.tensor([1.0, 0, 0])), (0.7, 0.5 + 0.48860, 0.1))
    close(evaluate_sh(sh, torch.tensor([-1.0, 0, 0])), (0.7, 0.5 - 0.48860, 0.1))
    # Orthonormal in this order: coefficients survive sampling and projecting back.
    n = 20_000
    z = 1 - (2 * torch.arange(n, dtype=torch.float64) + 1) / n
    turn = math.pi * (3 - math.sqrt(5)) * torch.arange(n, dtype=torch.float64)
    ring = (1 - z * z).sqrt()
    basis = sh_basis(torch.stack([ring * turn.cos(), ring * turn.sin(), z], dim=1), 3)
    close(4 * math.pi * basis.T @ basis / n, torch.eye(16), 1e-3)


def test_line_11_direction():
    """A Gaussian to the right of the camera is seen along +x, whatever way the camera is turned."""
    scene = splats([(3, 0, 0)], [(0.5, 0.5, 0.5)])
    sh = torch.cat([scene.sh, torch.zeros(1, 3, 3)], dim=1)
    sh[0, 3] = torch.tensor([-0.5, 0, 0])  # coefficient of -x
    scene = dataclasses.replace(scene, sh=sh)
    c2w = look_at((1.0, 0, 0), (3.0, 0, 0))
    close(
        draw(scene, camera(c2w), background="black").rgb[0, 15, 20],
        0.999 * torch.tensor([0.5 + 0.2443, 0.5, 0.5]),
        1e-3,
    )
    scene, cameras = random_scene(), some_cameras()
    rotation = quats_to_matrices(torch.tensor([0.3, -0.5, 0.2, 0.7], dtype=torch.float64))
    moved = {"rotation": rotation, "scale": 1.7, "translation": (1.0, 2, -3)}
    before = draw(scene, cameras, background="black").rgb
    after = draw(transform(scene, **moved), transform_cameras(cameras, **moved), background="black", near=0.017).rgb
    assert float(before.max()) > 0.1 and float((before - after).abs().mean()) < 1e-4


# --- images ---------------------------------------------------------------------------------------------------------


def test_line_12_images():
    color = (0.9, 0.6, 0.2)
    rgb = draw(splats([(-0.5, -0.3, 2)], [color], size=0.05), camera(), background="black").rgb
    assert rgb.shape == (1, 31, 41, 3) and rgb.dtype == torch.float32
    assert brightest(rgb[0].sum(-1)) == (9, 10)  # up and to the left: small row, small column
    close(rgb[0, 9, 10], 0.999 * torch.tensor(color), 0.02)  # the color itself: no gamma
    close(dc_to_rgb(rgb_to_dc(torch.tensor(color))), color)
    close(draw(splats([(0, 0, 2)], [(3.0, 0, 0)], size=9.0), camera()).rgb[0, 15, 20, 0], 3 * 0.999 + 0.001, 1e-3)


def test_line_13_alpha():
    scene = splats([(0, 0, 2), (0, 0, 3)], [RED, BLUE], size=0.2, opacity=0.5)
    out = draw(scene, camera(), modes=("rgb", "alpha"), background=GREEN)
    close(out.alpha[0, 15, 20], 0.75)
    close(out.rgb[0, 15, 20], (0.5, 0.25, 0.25))
    assert float(out.alpha[0, 0, 0]) == 0 and out.rgb[0, 0, 0].tolist() == [0, 1, 0]


def test_line_14_depth():
    scene = splats([(0, 0, 2), (0.75, 0, 2)], [RED, RED], size=0.1, opacity=0.5)
    out = draw(scene, camera(), modes=("depth", "expected_depth", "alpha"), background="white")
    close(out.depth[0, 15, 20], 0.5 * 2)
    close(out.expected_depth[0, 15, 20], 2)
    close(out.expected_depth[0, 15, 35], 2)  # off the axis the ray is longer than 2
    assert float(out.depth[0, 0, 0]) == float(out.expected_depth[0, 0, 0]) == float(out.alpha[0, 0, 0]) == 0


def test_line_15_normals():
    wall = splats([(x / 10, y / 10, 2) for x in range(-9, 10) for y in range(-7, 8)], [RED] * 285, size=0.05)
    normals = draw(wall, camera(), modes=("normal",)).normals[0]
    close(normals[15, 20], (0, 0, -1), 1e-3)
    # A camera turned to the right sees the wall recede to its left: the normal leans to its right, +x.
    turned = make_trajectory("pan:30", views=2, width=41, height=31)[1]
    turned = dataclasses.replace(turned, intrinsics=camera().intrinsics)
    seen = draw(wall, turned, modes=("normal",)).normals[0]
    expected = turned.world_to_camera[0, :3, :3] @ torch.tensor([0.0, 0, -1])
    assert float(expected[0]) == pytest.approx(0.5)
    close(seen[15, 10], expected, 0.05)
    assert torch.equal(draw(wall[:1], camera(), modes=("normal",)).normals[0, -1, -1], torch.zeros(3))


def test_line_16_network_pictures():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 1], picture[1, 0] = (255, 0, 0), 255
    pixels, _ = prepare_image(picture, 2, 2)
    assert pixels.shape == (3, 2, 2)
    close(pixels[:, 0, 0], (-1, -1, -1))
    close(pixels[:, 0, 1], (1, -1, -1))  # row 0 is the top row, channel 0 is red
    close(pixels[:, 1, 0], (1, 1, 1))
    rgb = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0))
    pixels, _ = prepare_image(rgb, 7, 5)
    close((pixels.permute(1, 2, 0) + 1) / 2, rgb, 0.5 / 255 + 1e-6)


# --- FlashWorld -----------------------------------------------------------------------------------------------------


def test_line_17_opengl_axes():
    """The camera to the right of the origin, in both dialects by hand."""
    opengl = torch.tensor([[0.0, 0, 1, 1], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])  # right -z, up y, back x
    close(flip_y_and_z(opengl), right_of_origin())
    close(F @ opengl @ F, right_of_origin())
    c2w = some_cameras().camera_to_world
    assert torch.equal(flip_y_and_z(flip_y_and_z(c2w)), c2w)
    # One unit up is +y there and -y here; what lies ahead is -z there and +z here.
    raised = torch.eye(4)
    raised[1, 3] = 1
    close(flip_y_and_z(raised)[:3, 3], (0, -1, 0))


def test_line_18_request(tmp_path):
    path = tmp_path / "request.json"
    entry = {"quaternion": [H, 0, H, 0], "position": [1, 0, 0], "fx": 60, "fy": 50, "cx": 33, "cy": 21}
    path.write_text(json.dumps({"cameras": [entry], "resolution": [24, 48, 64], "image_index": 0}))
    request = FlashWorldRequest.read(path)
    close(request.cameras.camera_to_world[0], right_of_origin())
    close(request.cameras.intrinsics[0], [[60, 0, 33], [0, 50, 21], [0, 0, 1]])
    assert (request.views, request.height, request.width, request.image_index) == (24, 48, 64, 0)
    again = request.to_dict()
    assert again["cameras"][0]["quaternion"] == pytest.approx(entry["quaternion"])
    assert again["resolution"] == [24, 48, 64]
    cameras = some_cameras()
    write_cameras(path, cameras)
    close(read_cameras(path).camera_to_world, cameras.camera_to_world)


def test_line_19_request_intrinsics(tmp_path):
    from PIL import Image

    Image.new("RGB", (150, 90)).save(tmp_path / "photo.png")
    entry = {"quaternion": [1, 0, 0, 0], "position": [0, 0, 0], "fx": 90, "fy": 90, "cx": 75, "cy": 45}
    data = {"cameras": [entry], "resolution": [24, 48, 64], "image_prompt": "photo.png"}
    request = FlashWorldRequest.from_dict(data, folder=tmp_path)
    assert (request.cameras.width, request.cameras.height) == (150, 90)
    assert request.cameras.intrinsics[0, 0, 0] == 90
    _, crop = prepare_image(request.image_prompt, request.width, request.height)
    fitted = crop.adjust_intrinsics(request.cameras)
    # 150x90 is wider than 64x48: full height is kept, the scale is 48/90, the center stays the center.
    close(fitted.intrinsics[0], [[48, 0, 32], [0, 48, 24], [0, 0, 1]])
    del data["image_prompt"]
    assert FlashWorldRequest.from_dict(data).cameras.width == 64


def test_line_20_camera_vector():
    cameras = dataclasses.replace(
        camera(right_of_origin(), width=64, height=48), intrinsics=some_cameras().intrinsics[:1]
    )
    vector = vectors.cameras_to_vectors(cameras)
    close(vector[0], (H, 0, H, 0, 1, 0, 0, 50 / 64, 55 / 48, 30 / 64, 25 / 48))
    back = vectors.vectors_to_cameras(vectors.cameras_to_vectors(some_cameras()), 64, 48)
    close(back.camera_to_world, some_cameras().camera_to_world)
    close(back.intrinsics, some_cameras().intrinsics)


def test_line_21_normalized_frame():
    cameras = some_cameras(5)
    normalized, _, frame = normalize_path(cameras)
    close(normalized[0, :7], (1, 0, 0, 0, 0, 0, 0))  # view 0 is the origin
    largest = (cameras.positions - cameras.positions[0]).norm(dim=1).max()
    close(normalized[:, 4:7].norm(dim=1).max(), largest / (largest + 0.01))
    assert frame.scale == pytest.approx(float(largest) + 0.01)
    # The way back: cameras and Gaussians of the normalized frame end where they were seen from.
    raw, normalization = vectors.normalize_cameras(vectors.cameras_to_vectors(cameras.to(dtype=torch.float64)))
    back = vectors.vectors_to_cameras(normalization.invert(raw), 64, 48)
    close(back.camera_to_world, cameras.camera_to_world)
    centers = frame.apply(splats(normalized[:, 4:7].tolist(), [RED] * 5)).means
    close(centers, cameras.positions)


def test_line_22_generated_gaussians():
    """View 0 at the identity, the other one 0.99 away: the factor is 1 and only the axes change."""
    path = make_trajectory("dolly_in:0.99", views=2, width=64, height=48)
    _, _, frame = normalize_path(path)
    scene = random_scene()
    ours = frame.apply(scene)
    close(ours.means, scene.means * torch.tensor([1.0, -1, -1]))
    w, x, y, z = scene.quats.unbind(1)
    expected = torch.stack([-x, w, -z, y], dim=1)
    close(ours.quats * (ours.quats * expected).sum(1, keepdim=True).sign(), expected)
    signs = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])
    close(ours.sh, scene.sh * signs[:, None])
    close(ours.scales, scene.scales)
    close(ours.opacities, scene.opacities)
    flip = torch.diag(torch.tensor([1.0, -1, -1]))
    close(covariance(ours), flip @ covariance(scene) @ flip)
    again = frame.apply(ours)  # half a turn twice
    close(again.means, scene.means)
    close(again.sh, scene.sh)


# --- camera files ---------------------------------------------------------------------------------------------------


def test_line_23_nerfstudio_poses(tmp_path):
    path = tmp_path / "transforms.json"
    # To the right of the origin at height 2, in a world whose z is up: right is +y, up is +z, back is +x.
    matrix = [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 1]]
    lens = {"w": 64, "h": 48, "fl_x": 60}
    path.write_text(json.dumps({**lens, "applied_transform": [[9]], "frames": [{"transform_matrix": matrix}]}))
    expected = right_of_origin()
    expected[1, 3] = -2
    close(read_cameras(path).camera_to_world[0], expected)
    write_cameras(path, some_cameras())
    close(read_cameras(path).camera_to_world, some_cameras().camera_to_world)
    data = json.loads(path.read_text())
    there = torch.tensor([frame["transform_matrix"] for frame in data["frames"]])
    close(
        there[:, :3, 3],
        torch.nn.functional.pad(some_cameras().positions, (0, 1), value=1.0)
        @ torch.tensor(data["applied_transform"]).T,
    )


def test_line_24_nerfstudio_intrinsics(tmp_path):
    path = tmp_path / "transforms.json"
    pose = torch.eye(4).tolist()
    lens = {"w": 64, "h": 48, "fl_x": 60, "fl_y": 50, "cx": 33, "cy": 21}
    frames = [{"file_path": "1", "transform_matrix": pose}, {"file_path": "2", "transform_matrix": pose, "fl_x": 70}]
    path.write_text(json.dumps({**lens, "frames": frames}))
    cameras = read_cameras(path)
    close(cameras.intrinsics[0], [[60, 0, 33], [0, 50, 21], [0, 0, 1]])
    assert cameras.intrinsics[1, 0, 0] == 70
    path.write_text(json.dumps({"w": 64, "h": 48, "camera_angle_x": math.pi / 2, "frames": frames[:1]}))
    close(read_cameras(path).intrinsics[0], [[32, 0, 32], [0, 32, 24], [0, 0, 1]])
    write_cameras(path, cameras)
    close(read_cameras(path).intrinsics, cameras.intrinsics)


def test_line_25_realestate10k(tmp_path):
    path = tmp_path / "clip.txt"
    path.write_text("https://example.org\n33333 0.5 0.75 0.25 0.5 0 0 0 0 1 0 0 1 0 0 -1 0 0 1\n")
    cameras = read_cameras(path, 64, 48)
    close(cameras.camera_to_world[0], right_of_origin())
    close(cameras.intrinsics[0], [[32, 0, 16], [0, 36, 24], [0, 0, 1]])
    write_cameras(path, some_cameras())
    close(read_cameras(path).camera_to_world, some_cameras().camera_to_world)
    row = [float(word) for word in path.read_text().splitlines()[2].split()]
    assert row[0] == 33333 and row[1:7] == pytest.approx([50 / 64, 55 / 48, 30 / 64, 25 / 48, 0, 0])
    close(torch.tensor(row[7:]).view(3, 4), some_cameras().world_to_camera[1, :3])


def test_line_26_colmap(tmp_path):
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 64 48 60 50 33 21\n")
    (tmp_path / "images.txt").write_text(f"1 {H} 0 {H} 0 0 0 1 1 a.png\n\n")
    cameras = read_cameras(tmp_path)
    close(cameras.camera_to_world[0], right_of_origin())
    close(cameras.intrinsics[0], [[60, 0, 33], [0, 50, 21], [0, 0, 1]])
    write_cameras(tmp_path, some_cameras())
    close(read_cameras(tmp_path).camera_to_world, some_cameras().camera_to_world)
    close(read_cameras(tmp_path).intrinsics, some_cameras().intrinsics)


def test_line_27_order_of_views(tmp_path):
    (tmp_path / "cameras.txt").write_text("1 SIMPLE_PINHOLE 64 48 60 32 24\n")
    names = ["v10", "v9", "v2"]
    (tmp_path / "images.txt").write_text("".join(f"{i} 1 0 0 0 0 0 {i} 1 {name}\n\n" for i, name in enumerate(names)))
    close(read_cameras(tmp_path).positions[:, 2], (-2, -1, 0))
    path = tmp_path / "transforms.json"
    poses = [torch.eye(4) + torch.eye(4)[:, :1] @ torch.eye(4)[3:] * i for i in range(3)]
    frames = [{"file_path": n, "transform_matrix": p.tolist()} for n, p in zip(names, poses, strict=True)]
    path.write_text(json.dumps({"w": 64, "h": 48, "fl_x": 60, "frames": frames}))
    close(read_cameras(path).positions[:, 0], (2, 1, 0))
    del frames[0]["file_path"]
    path.write_text(json.dumps({"w": 64, "h": 48, "fl_x": 60, "frames": frames}))
    close(read_cameras(path).positions[:, 0], (0, 1, 2))


# --- scene files ----------------------------------------------------------------------------------------------------


def ply_rows(path):
    """Column name -> values of a binary PLY, by plyfile, which shares no code with ours."""
    plyfile = pytest.importorskip("plyfile")
    vertex = plyfile.PlyData.read(path)["vertex"]
    return {p.name: torch.tensor(np.array(vertex[p.name], dtype=np.float64)).float() for p in vertex.properties}


def test_line_28_ply(tmp_path):
    scene, path = random_scene(degree=0), tmp_path / "scene.ply"
    write_ply(path, scene)
    rows = ply_rows(path)
    close(torch.stack([rows[n] for n in "xyz"], dim=1), scene.means)
    close(torch.stack([rows[f"scale_{i}"] for i in range(3)], dim=1).exp(), scene.scales)
    close(rows["opacity"].sigmoid(), scene.opacities)
    close(torch.stack([rows[f"rot_{i}"] for i in range(4)], dim=1), scene.quats)
    again = read_ply(path)
    for name in ("means", "scales", "opacities", "sh"):
        close(getattr(again, name), getattr(scene, name))
    close(covariance(again), covariance(scene))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_line_29_ply_color(tmp_path, degree):
    scene, path = random_scene(degree=degree), tmp_path / "scene.ply"
    write_ply(path, scene)
    rows = ply_rows(path)
    rest = (degree + 1) ** 2 - 1
    assert sum(name.startswith("f_rest_") for name in rows) == 3 * rest
    for c in range(3):
        close(rows[f"f_dc_{c}"], scene.sh[:, 0, c])
        for k in range(1, rest + 1):
            close(rows[f"f_rest_{c * rest + k - 1}"], scene.sh[:, k, c])
    close(read_ply(path).sh, scene.sh)


def test_line_30_official_flashworld_ply(tmp_path):
    """Written here the way the official exporter does; the camera that saw it there sees the same here."""
    scene, path = random_scene(degree=2), tmp_path / "official.ply"
    columns = [scene.means, scene.sh.flatten(1), scene.opacities.logit()[:, None], scene.scales.log(), scene.quats]
    names = ["x", "y", "z", *(f"f_dc_{i}" for i in range(27)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(scene)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    path.write_bytes("\n".join(header).encode() + torch.cat(columns, dim=1).numpy().astype("<f4").tobytes())
    read = read_ply(path)
    close(read.means, scene.means * torch.tensor([1.0, -1, -1]))
    signs = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1, 1])
    close(read.sh, scene.sh * signs[:, None])
    # OpenGL camera one unit behind (z = +1 is behind there), and its conversion.
    opengl = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 9], [0, 0, 0, 1]])
    there = draw(scene, camera(opengl @ F), background="black").rgb  # camera axes alone: the world is still theirs
    here = draw(read, camera(flip_y_and_z(opengl)), background="black").rgb
    assert float(there.max()) > 0.1
    assert float((there - here).abs().mean()) < 1e-5


# --- other programs -------------------------------------------------------------------------------------------------


def test_line_31_gsplat():
    """gsplat's own plain-torch projection, fed with our record, agrees with line 3 and with line 8."""
    pytest.importorskip("gsplat")
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    scene, cameras = random_scene(), camera(look_at((0.3, -0.2, -1.0), (0.0, 0, 3)))
    covars, _ = _quat_scale_to_covar_preci(scene.quats, scene.scales)
    close(covars, covariance(scene))
    _, means2d, depths, _, _ = _fully_fused_projection(
        scene.means, covars, cameras.world_to_camera, cameras.intrinsics, cameras.width, cameras.height
    )
    seen = depths[0] > 0.5
    assert int(seen.sum()) > 20
    close(means2d[0][seen], project(cameras, scene.means)[0][seen], 1e-2)


def test_line_32_load3d_camera():
    info = {
        "position": {"x": 1, "y": 0, "z": 0},
        "target": {"x": 0, "y": 0, "z": 0},
        "quaternion": {"x": 0, "y": H, "z": 0, "w": H},
        "fov": 90,
        "zoom": 1,
        "cameraType": "perspective",
    }
    cameras = from_load3d(info, 64, 48)
    close(cameras.camera_to_world[0], right_of_origin())
    assert float(cameras.intrinsics[0, 1, 1]) == pytest.approx(24)
    without = {key: value for key, value in info.items() if key != "quaternion"}
    close(from_load3d(without, 64, 48).camera_to_world[0], right_of_origin())
    assert float(from_load3d({**info, "zoom": 2}, 64, 48).intrinsics[0, 1, 1]) == pytest.approx(48)
    path = make_trajectory("orbit:40+crane:0.4", views=5, width=64, height=48)
    for i in range(5):
        told = to_load3d(path, i, focus_distance=2.0)
        json.dumps(told)
        for form in (told, {key: value for key, value in told.items() if key != "quaternion"}):
            back = from_load3d(form, 64, 48)
            close(back.camera_to_world[0], path.camera_to_world[i])
            close(back.intrinsics[0], path.intrinsics[i], 1e-3)


def test_line_33_splat():
    """The pack's own socket conversion, loaded with the stand-in for ComfyUI."""
    spec = importlib.util.spec_from_file_location("nodes_tests", Path(__file__).parent / "nodes" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sockets = importlib.import_module(f"{module.load_pack().__name__}.nodes.sockets")
    scene = random_scene()
    splat = sockets.splat_from_gaussians(scene)
    close(splat.positions, scene.means[None])
    close(splat.rotations, scene.quats[None])
    close(splat.scales, scene.scales[None])  # not logarithms
    close(splat.opacities, scene.opacities[None, :, None])  # not logits
    close(splat.sh, scene.sh[None])
    assert splat.sh.shape == (1, 60, 16, 3) and splat.opacities.shape == (1, 60, 1)
    splat.counts = torch.tensor([41])
    back = sockets.gaussians_from_splat(splat)
    close(covariance(back), covariance(scene)[:41])
    rows = (Gaussians(*(getattr(s, f.name) for f in dataclasses.fields(Gaussians))) for s in (back, scene[:41]))
    first, second = (draw(s, camera(), background="black").rgb for s in rows)
    assert torch.equal(first, second) and float(first.max()) > 0.1


def test_line_34_camera_path_document():
    key = {"position": [1, 0, 0], "quaternion": [H, 0, -H, 0], "vertical_fov_degrees": 90, "time": 1.5}
    ahead = {**key, "position": [0, 0, 0], "quaternion": [1, 0, 0, 0], "time": 4.5}
    text = json.dumps({"version": 1, "timing": "times", "loop": True, "keyframes": [key, ahead]})
    cameras = sample_document(parse_document(text), frames=3, width=64, height=48)
    close(cameras.camera_to_world[0], right_of_origin())
    close(cameras.intrinsics[0], [[24, 0, 32], [0, 24, 24], [0, 0, 1]])
    close(cameras.camera_to_world[1], torch.eye(4))
    close(cameras.camera_to_world[2], right_of_origin())
    path = make_trajectory("orbit:40+crane:0.4", views=5, width=64, height=48)
    back = parse_document(write_document(document_from_cameras(path, timing="even")))
    close(sample_document(back, frames=5, width=64, height=48).camera_to_world, path.camera_to_world)


def test_line_35_wan_camera_embedding():
    k = torch.tensor([[10.0, 0, 2.5], [0, 20, 0.5], [0, 0, 1]]).expand(5, 3, 3)
    c2w = right_of_origin().expand(5, 4, 4).clone()
    c2w[4, 0, 3] -= 2  # two units forward
    rays = wan_camera_embedding(Cameras(c2w, k, 8, 3))
    assert rays.shape == (1, 24, 2, 3, 8)
    rays = rays.view(6, 4, 2, 3, 8)
    close(rays[:, 0, 0, 0, 2], (0, 0, 0, 0, 0, 1))  # pixel (2.5, 0.5) of camera 0, its own axes
    d = torch.nn.functional.normalize(torch.tensor([0.5, 0.1, 1.0]), dim=0)  # pixel (7.5, 2.5)
    for j in range(4):
        close(rays[:, j, 0, 2, 7], (0, 0, 0, *d))
    close(rays[:, 3, 1, 2, 7], (-2 * d[1], 2 * d[0], 0, *d))  # (0, 0, 2) x d


def test_line_36_depth_pictures():
    gray = disparity_map(torch.tensor([1.0, 1.6, 4.0, 0.5, 9.0, 0.0]), 1.0, 4.0)
    close(gray, (1, 0.5, 0, 1, 0, 0))
    scene = splats([(-0.5, 0, 2), (1.0, 0, 4), (0, 0.6, 2.5)], [RED, RED, RED], size=0.2)
    path = make_trajectory("pan:4", views=2, width=41, height=31)
    picture = render_maps(scene, path, backend="torch").depth
    assert picture.shape == (2, 31, 41, 3) and torch.equal(picture[..., 0], picture[..., 2])
    near, far = (int(row) for row in (picture[0, 15, :20, 0].argmax(), 20 + picture[0, 15, 20:, 0].argmin()))
    assert float(picture[0, 15, near, 0]) > 0.9 and float(picture[0, 15, far, 0]) < 0.1


def test_line_37_normal_maps():
    normals = torch.tensor([[0.0, 0, -1], [1, 0, 0], [0, -1, 0], [0, 0, 0]])  # to the viewer, right, up, nothing
    colors = [(0.5, 0.5, 1), (1, 0.5, 0.5), (0.5, 1, 0.5), (0, 0, 0)]
    close(normal_map(normals), colors)
    wall = splats([(x / 10, y / 10, 2) for x in range(-9, 10) for y in range(-7, 8)], [RED] * 285, size=0.05)
    picture = render_maps(wall, camera(), backend="torch").normals[0]
    close(picture[15, 20], (0.5, 0.5, 1), 0.01)
    close(render_maps(wall[:1], camera(), backend="torch").normals[0, -1, -1], (0, 0, 0))


def test_line_38_axes_of_other_scene_files(tmp_path):
    scene = random_scene(20, 2)
    for name in ("a.spz", "a.sog", "a.splat", "a.ksplat", "a.compressed.ply"):
        write_scene(tmp_path / name, scene)
        plain = read_scene(tmp_path / name)
        assert (plain.means.mean(0) - scene.means.mean(0)).abs().max() < 0.01, name
        write_scene(tmp_path / name, scene, axes="y-up")
        raw = read_scene(tmp_path / name, frame="opencv")
        assert (raw.means.mean(0) - scene.means.mean(0) * torch.tensor([1.0, -1, -1])).abs().max() < 0.01, name
        if name in ("a.spz", "a.sog", "a.compressed.ply"):  # they say so themselves
            again = read_scene(tmp_path / name)
            assert (again.means.mean(0) - scene.means.mean(0)).abs().max() < 0.01, name


def test_line_39_signs_of_axes():
    scene, signs = random_scene(20, 3), (1.0, -1.0, -1.0)
    by_hand = turned(scene, signs)
    by_rotation = transform(scene, rotation=torch.diag(torch.tensor(signs)))
    torch.testing.assert_close(by_hand.means, by_rotation.means)
    torch.testing.assert_close(by_hand.sh, by_rotation.sh, rtol=1e-5, atol=1e-6)
    roots = [quats_to_matrices(s.quats) * s.scales[:, None] for s in (by_hand, by_rotation)]  # own axes may be flipped
    torch.testing.assert_close(*(root @ root.mT for root in roots), rtol=1e-4, atol=1e-6)
    mirror = turned(scene, (-1.0, 1.0, 1.0))  # what no rotation can do: colors are those of the mirrored directions
    d = torch.nn.functional.normalize(torch.randn(20, 3), dim=1)
    seen = evaluate_sh(mirror.sh, d * torch.tensor([-1.0, 1, 1]), clamp=False)
    torch.testing.assert_close(seen, evaluate_sh(scene.sh, d, clamp=False), rtol=1e-4, atol=1e-5)


def test_line_40_gltf(tmp_path):
    scene = random_scene(5, 1)
    write_scene(tmp_path / "a.glb", scene)
    data = (tmp_path / "a.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document, body = json.loads(data[20 : 20 + length]), data[28 + length :]

    def stored(name, width):
        view = document["bufferViews"][document["meshes"][0]["primitives"][0]["attributes"][name]]
        return torch.from_numpy(np.frombuffer(body, "<f4", 5 * width, view["byteOffset"]).reshape(5, width).copy())

    p = "KHR_gaussian_splatting:"
    signs = torch.tensor([1.0, -1, -1])
    assert torch.equal(stored("POSITION", 3), scene.means * signs)
    w, x, y, z = torch.nn.functional.normalize(scene.quats, dim=1).unbind(1)
    torch.testing.assert_close(stored(p + "ROTATION", 4), torch.stack([x, -y, -z, w], 1))
    assert torch.equal(stored(p + "SCALE", 3), scene.scales)
    assert torch.equal(stored(p + "OPACITY", 1)[:, 0], scene.opacities)
    for n, sign in enumerate((-1, -1, 1)):  # k = 1 is y, 2 is z, 3 is x
        assert torch.equal(stored(f"{p}SH_DEGREE_1_COEF_{n}", 3), sign * scene.sh[:, 1 + n])
    torch.testing.assert_close(read_scene(tmp_path / "a.glb").sh, scene.sh)


def test_line_41_quantized_quaternions():
    quat = np.float32([[0.1, -0.2, 0.3, -0.927362]])
    largest, others = smallest_three(quat)
    assert largest[0] == 3 and np.allclose(others, [[-0.1, 0.2, -0.3]])
    largest, others = smallest_three(quat, XYZW)
    assert largest[0] == 2 and np.allclose(others, [[0.2, -0.3, -0.1]])
    (word,) = np.frombuffer(encode_rotations(quat, 3), "<u4")
    assert word >> 30 == 2
    assert [int(word >> shift & 512 > 0) for shift in (20, 10, 0)] == [0, 1, 1]  # signs
    assert [int(word >> shift & 511) for shift in (20, 10, 0)] == [round(511 * 2**0.5 * v) for v in (0.2, 0.3, 0.1)]


def test_line_42_antialiased_filter():
    """A round Gaussian of 1 pixel's standard deviation: 1 / (1 + low pass) of its opacity is left."""
    means, scales = torch.tensor([[0.0, 0, 2]]), torch.full((1, 3), 2 / 40.0)
    one = Gaussians(means, torch.eye(4)[:1], scales, torch.ones(1) / 2, torch.zeros(1, 1, 3))
    plain, thinned = (
        render(dataclasses.replace(one, metadata=m), camera(), modes=("alpha",), low_pass=0.3).alpha[0].max()
        for m in ({}, {"filter": "antialiased"})
    )
    assert float(thinned / plain) == pytest.approx(1 / 1.3, rel=0.02)


def test_line_43_trainers_cameras(tmp_path):
    entry = {
        "id": 0, "img_name": "a", "width": 64, "height": 48, "position": [1, 0, 0],
        "rotation": [[0, 0, -1], [0, 1, 0], [1, 0, 0]], "fx": 60, "fy": 50,
    }  # fmt: skip
    (tmp_path / "cameras.json").write_text(json.dumps([entry]))
    cameras = read_cameras(tmp_path / "cameras.json")
    close(cameras.camera_to_world[0], right_of_origin())
    close(cameras.intrinsics[0], [[60, 0, 32], [0, 50, 24], [0, 0, 1]])


def test_line_44_another_axis_up(tmp_path):
    point = torch.tensor([1.0, 2, 3], dtype=torch.float64)
    close(upright_rotation("z") @ point, (1, -3, 2))
    close(upright_rotation("y") @ point, (1, -2, -3))
    scene = random_scene(20, 1)
    write_ply(tmp_path / "a.ply", scene)
    data = (tmp_path / "a.ply").read_bytes().replace(b"element vertex", b"comment Vertical Axis: z\nelement vertex", 1)
    (tmp_path / "a.ply").write_bytes(data)
    turned = read_ply(tmp_path / "a.ply")
    close(turned.means, scene.means[:, [0, 2, 1]] * torch.tensor([1.0, -1, 1]))
    assert turned.metadata["source_up"] == "z"


def test_line_45_dataparser_transforms(tmp_path):
    """A camera at (1, 2, 3) of a transforms.json whose writer doubled lengths after turning (x, y, z) to (x, z, -y)."""
    turn = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    shift = torch.eye(4)
    shift[:3, 3] = torch.tensor([10.0, 20, 30])
    stored = {"transform": (shift @ turn)[:3].tolist(), "scale": 0.5 * 2}
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps(stored))
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([1.0, 2, 3])
    data = {"w": 64, "h": 48, "fl_x": 60, "applied_transform": turn[:3].tolist(), "applied_scale": 2}
    data["frames"] = [{"transform_matrix": pose.tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    moved = read_cameras(tmp_path / "transforms.json", dataparser=tmp_path / "dataparser_transforms.json")
    close(moved.positions[0], upright_rotation("z") @ torch.tensor([5.5, 11, 16.5], dtype=torch.float64))


def test_line_46_objects():
    point = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    close(vfusion3d.to_world() @ point, (-0.2, -0.5, -0.3))
    front = vfusion3d.our_cameras(vfusion3d.look_at_origin(torch.tensor([[2.0, 0, 0]])), 64)
    close(front.camera_to_world[0], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1]])
    close(vfusion3d.look_at_origin(torch.tensor([[2.0, 0, 0]]))[0, :, :3].T, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_line_47_meshes():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mesh = Mesh(corners, torch.tensor([[0, 1, 2]]), torch.tensor([[0.5, 0.5, 0.5], [0, 0, 0], [1, 1, 1]]))
    close(mesh.y_up().vertices, [[0, 0, 0], [1, 0, 0], [0, -1, 0]])
    close(mesh.linear_colors()[:, 0], [0.21404, 0, 1], 1e-4)


def test_every_line_has_its_test():
    text = (Path(__file__).parents[1] / "CONVENTIONS.md").read_text(encoding="utf-8")
    lines = [int(number) for number in re.findall(r"^(\d+)\. ", text, flags=re.MULTILINE)]
    tests = [int(m[1]) for name in globals() if (m := re.match(r"test_line_(\d+)_", name))]
    assert lines == list(range(1, len(lines) + 1)), "the lines of CONVENTIONS.md are not numbered 1, 2, 3, ..."
    assert sorted(tests) == lines
