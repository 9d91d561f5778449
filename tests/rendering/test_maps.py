"""Filming a scene: color, mask, depth, normals and holes of every view."""

import dataclasses

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians

from flashworld_core.cameras import Cameras
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.gaussians import Gaussians
from flashworld_core.geometry import look_at
from flashworld_core.ops.measure import clip_planes, extent, framing_camera
from flashworld_core.rendering.maps import color_from_text, render_maps
from flashworld_core.rendering.render import render

W, H = 40, 32


def camera(c2w=None):
    k = torch.tensor([[[40.0, 0, W / 2], [0, 40, H / 2], [0, 0, 1]]])
    return Cameras(torch.eye(4)[None] if c2w is None else c2w[None].float(), k, W, H)


def wall(depth=2.0, xs=(-1.2, 0.0), color=(0.9, 0.2, 0.1), step=0.05, normal_axis=2):
    """Flat Gaussians side by side at z = depth, for x in ``xs``."""
    x = torch.arange(xs[0], xs[1], step)
    y = torch.arange(-1.2, 1.2, step)
    grid = torch.stack(torch.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    n = len(grid)
    means = torch.cat([grid, torch.full((n, 1), depth)], 1)
    scales = torch.full((n, 3), step)
    scales[:, normal_axis] = 1e-3
    sh = ((torch.tensor(color) - 0.5) / 0.28209479).expand(n, 1, 3).contiguous()
    return Gaussians(means, torch.tensor([1.0, 0, 0, 0]).expand(n, 4).contiguous(), scales, torch.full((n,), 0.99), sh)


def both(*scenes):
    return Gaussians(
        *(torch.cat([getattr(s, f) for s in scenes]) for f in ("means", "quats", "scales", "opacities", "sh"))
    )


def test_images_and_alpha_are_the_renderers():
    scene, cameras = make_gaussians(300), make_cameras(3, W, H)
    scene = scene[scene.means[:, 2].abs() < 100]
    seen = []
    pictures = render_maps(
        scene, cameras, background=(0.2, 0.4, 0.6), backend="torch",
        progress=lambda done, total, preview: seen.append((done, total, preview.clone())),
    )  # fmt: skip
    near, far = clip_planes(scene, cameras)
    out = render(
        scene, cameras, modes=("rgb", "alpha"), background=(0.2, 0.4, 0.6), backend="torch", near=near, far=far
    )
    torch.testing.assert_close(pictures.images, out.rgb.clamp(0, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures.alpha, out.alpha, rtol=0, atol=1e-6)
    assert [(d, t) for d, t, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(torch.equal(p, pictures.images[d - 1]) for d, _, p in seen)


def test_holes_are_where_too_little_is():
    scene = wall()  # the left half of the picture
    pictures = render_maps(scene, camera(), backend="torch")
    assert set(pictures.holes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(pictures.holes, (pictures.alpha < 0.5).float())
    assert float(pictures.holes[0, :, :18].max()) == 0 and float(pictures.holes[0, :, 24:].min()) == 1
    faint = dataclasses.replace(scene, opacities=torch.full((len(scene),), 0.02))
    thick = render_maps(faint, camera(), backend="torch", hole_threshold=0.01)
    assert float(thick.holes[0, 16, 10]) == 0 and float(render_maps(faint, camera(), backend="torch").holes.min()) == 1


def test_depth_is_white_near_black_far_one_range_for_all_views():
    near, far = wall(depth=1.0, xs=(-0.6, -0.05)), wall(depth=4.0, xs=(0.2, 2.2), step=0.1)
    middle = wall(depth=1.6, xs=(-0.02, 0.3))  # 1/1.6 is half way between 1/1 and 1/4
    scene = both(near, far, middle)
    back = camera()
    two = dataclasses.replace(
        back,
        camera_to_world=torch.cat([back.camera_to_world, back.camera_to_world]),
        intrinsics=torch.cat([back.intrinsics, back.intrinsics * torch.tensor([4.0, 4.0, 1.0])[:, None]]),
    )
    two.intrinsics[1, :2, 2] = torch.tensor([-40.0, 16])  # the second camera sees the far wall only
    pictures = render_maps(scene, two, backend="torch")
    assert pictures.nearest == pytest.approx(1.0, rel=0.02) and pictures.farthest == pytest.approx(4.0, rel=0.02)
    gray = pictures.depth
    assert torch.equal(gray[..., 0], gray[..., 1]) and torch.equal(gray[..., 0], gray[..., 2])
    assert float(gray[0, 16, 5, 0]) == pytest.approx(1.0, abs=0.02)
    assert float(gray[0, 16, 24, 0]) == pytest.approx(0.5, abs=0.03)
    assert float(gray[0, 16, 38, 0]) == pytest.approx(0.0, abs=0.02)
    assert float(gray[1].max()) < 0.05


def test_depth_of_one_flat_wall_and_of_nothing():
    flat = render_maps(wall(xs=(-2, 2)), camera(), backend="torch")
    assert float(flat.depth[0, 16, 20, 0]) > 0.3 and flat.nearest == pytest.approx(2, rel=1e-3)
    away = render_maps(wall(depth=-3.0), camera(), backend="torch", background=(1.0, 0, 0))
    assert (away.nearest, away.farthest) == (0.0, 0.0)
    assert float(away.depth.max()) == 0 == float(away.normals.max()) and float(away.holes.min()) == 1
    assert torch.equal(away.images[0, 0, 0], torch.tensor([1.0, 0, 0]))


def test_normals_are_an_opengl_map():
    scene = wall(xs=(-1.2, 0.0))
    straight = render_maps(scene, camera(), backend="torch").normals[0]
    torch.testing.assert_close(straight[16, 8], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=0.02)
    assert float(straight[:, 30:].max()) == 0  # nothing there
    # Seen from the left and from above the wall faces away to the side: by the formula of line 15.
    left = render_maps(wall(xs=(-1.2, 1.2)), camera(look_at((-2.0, 0, 0), (0.0, 0, 2))), backend="torch").normals[
        0, 16, 20
    ]
    expected = look_at((-2.0, 0, 0), (0.0, 0, 2))[:3, :3].T.float() @ torch.tensor([0.0, 0, -1])
    assert float(left[0]) == pytest.approx(0.5 + 0.5 * float(expected[0]), abs=0.05)
    above = render_maps(wall(xs=(-1.2, 1.2)), camera(look_at((0.0, -2, 0), (0.0, 0, 2))), backend="torch").normals[
        0, 16, 20
    ]
    expected = look_at((0.0, -2, 0), (0.0, 0, 2))[:3, :3].T.float() @ torch.tensor([0.0, 0, -1])
    assert float(above[1]) == pytest.approx(0.5 - 0.5 * float(expected[1]), abs=0.05)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_planes_suit_scenes_of_any_size(scale):
    scene = wall(xs=(-1, 1))
    large = dataclasses.replace(scene, means=scene.means * scale, scales=scene.scales * scale)
    pictures = render_maps(large, camera(), backend="torch")
    torch.testing.assert_close(pictures.alpha, render_maps(scene, camera(), backend="torch").alpha, rtol=0, atol=1e-3)
    assert extent(large) == pytest.approx(scale * extent(scene), rel=1e-4)
    near, far = clip_planes(dataclasses.replace(large, metadata={"scene_scale": 2 * scale}), camera())
    assert near == pytest.approx(0.02 * scale) and far > 2 * scale
    assert clip_planes(dataclasses.replace(large, metadata={"scene_scale": "x"}), camera())[0] < near


def test_half_precision_and_degrees():
    scene, cameras = make_gaussians(200, degree=2), make_cameras(2, W, H)
    scene = scene[scene.means[:, 2].abs() < 100]
    half = render_maps(scene, cameras, backend="torch", dtype=torch.float16)
    assert all(getattr(half, n).dtype == torch.float16 for n in ("images", "alpha", "depth", "normals", "holes"))
    full = render_maps(scene, cameras, backend="torch")
    torch.testing.assert_close(half.depth.float(), full.depth, rtol=0, atol=2e-3)
    assert torch.equal(render_maps(scene, cameras, backend="torch", sh_degree=3).images, full.images)
    assert not torch.allclose(render_maps(scene, cameras, backend="torch", sh_degree=0).images, full.images, atol=0.01)


def test_it_stops_within_one_view_and_refuses_nothing_to_do():
    scene, cameras = make_gaussians(50), make_cameras(4, W, H)
    done = []
    with pytest.raises(Cancelled):
        render_maps(
            scene, cameras, backend="torch", progress=lambda *a: done.append(a), should_stop=lambda: len(done) >= 2
        )
    assert len(done) == 2
    with pytest.raises(FlashWorldError, match="path is empty"):
        render_maps(scene, cameras[[]], backend="torch")
    scene.means[3] = float("nan")
    with pytest.raises(FlashWorldError, match="NaN"):
        render_maps(scene, cameras, backend="torch")


@pytest.mark.parametrize(("width", "height"), [(W, H), (16, 48)])
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_framing_camera_takes_the_scene_in(width, height, scale):
    scene = wall(depth=5.0, xs=(2, 4))
    scene = dataclasses.replace(scene, means=scene.means * scale, scales=scene.scales * scale)
    cameras = framing_camera(scene, width, height)
    alpha = render_maps(scene, cameras, backend="torch").alpha[0]
    assert float(alpha[height // 2, width // 2]) > 0.9  # in the middle
    assert 0.1 < float((alpha > 0.5).float().mean()) < 0.9  # neither tiny nor cut off on all sides
    edge = torch.cat([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert float((edge > 0.5).float().mean()) < 0.2
    assert float(cameras.camera_to_world[0, 2, 2]) > 0.9  # looks ahead, level but for a little tilt
    assert float(cameras.positions[0, 1]) < 0 and abs(float(cameras.camera_to_world[0, 1, 0])) < 1e-6


def test_colors_by_name_and_number():
    assert color_from_text(" White ") == (1, 1, 1) and color_from_text("#000000") == (0, 0, 0)
    assert color_from_text("#ff8000") == pytest.approx((1, 128 / 255, 0)) == color_from_text("FF8000")
    assert color_from_text("#f80") == pytest.approx((1, 136 / 255, 0))
    for wrong in ("", "#ff80", "#gggggg", "rgb(1,2,3)", "transparent", None, "x" * 1000):
        with pytest.raises(FlashWorldError, match="^background must be a color like #4080ff") as error:
            color_from_text(wrong)
        assert len(str(error.value)) < 200
