"""Scenes turned upright, cameras that do not see their scene, strays far away."""

import torch

from flashworld_core.formats.scenes.ply import read_ply, write_ply
from flashworld_core.gaussians import SOURCE_UP, Gaussians
from flashworld_core.ops.select import drop_far, few_seen, seen_in_views
from flashworld_core.ops.transform import transform_cameras, upright, upright_rotation
from flashworld_core.rendering.maps import OPAQUE_ALPHA, render_maps
from flashworld_core.rendering.render import render
from flashworld_core.trajectories.presets import make_trajectory


def ball(count=400, center=(0.0, 0.0, 4.0), opacity=0.8):
    generator = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1) + torch.tensor(center)
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    return Gaussians(
        means,
        quats,
        torch.full((count, 3), 0.05),
        torch.full((count,), opacity),
        torch.rand(count, 4, 3, generator=generator),
    )


def test_scene_and_cameras_turned_alike_show_the_same():
    scene, cameras = ball(), make_trajectory("orbit:40", views=2, width=48, height=32, focus_distance=4)
    for up in ("y", "z"):
        turned = upright(scene, up)
        assert turned.metadata[SOURCE_UP] == up
        moved = transform_cameras(cameras, rotation=upright_rotation(up))
        a, b = (render(s, c, backend="torch").rgb for s, c in ((scene, cameras), (turned, moved)))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
        axis = torch.tensor([0.0, 0, 1] if up == "z" else [0.0, 1, 0], dtype=torch.float64)
        assert torch.equal(upright_rotation(up) @ axis, torch.tensor([0.0, -1, 0], dtype=torch.float64))
    assert upright(scene, None) is scene


def test_a_comment_says_that_z_is_up(tmp_path):
    scene = ball(50)
    write_ply(tmp_path / "a.ply", scene)
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(data.replace(b"element vertex", b"comment Vertical Axis: z\nelement vertex", 1))
    turned = read_ply(tmp_path / "b.ply")
    torch.testing.assert_close(turned.means, scene.means @ upright_rotation("z").float().T)
    assert torch.equal(read_ply(tmp_path / "b.ply", frame="opencv").means, scene.means)
    write_ply(tmp_path / "c.ply", turned)  # turned once, not again
    again = read_ply(tmp_path / "c.ply")
    assert torch.equal(again.means, turned.means) and again.metadata[SOURCE_UP] == "z"


def test_cameras_that_miss_the_scene_are_told():
    cameras = make_trajectory("static", views=3, width=64, height=48)
    assert few_seen(ball(), cameras, "Do this.") is None and float(seen_in_views(ball(), cameras).min()) > 0.3
    text = few_seen(ball(center=(0, 0, -4.0)), cameras, "Do this.")
    assert "see nothing of the scene" in text and text.endswith("Do this.")
    assert "at most" in few_seen(ball(center=(0, 0, 400.0)), cameras, "")  # a dot in the distance
    assert few_seen(ball()[:0], cameras, "") is not None


def test_strays_are_dropped():
    scene = ball()
    scene.means[5] = 1e6
    assert len(drop_far(scene, 100.0)) == 399 and len(drop_far(scene, 1e9)) == 400
    assert drop_far(scene[:1], 100.0) is not None


def test_a_translucent_scene_has_a_depth():
    scene = ball(1, opacity=0.3)
    scene.scales[:] = 0.5
    made = render_maps(scene, make_trajectory("static", views=1, width=33, height=33), backend="torch")
    assert float(made.alpha.max()) < OPAQUE_ALPHA and 3 < made.nearest < 5
    depth, normal = made.depth[0], made.normals[0]
    row, column = divmod(int(made.alpha[0].argmax()), 33)
    assert float(depth[row, column, 0]) > 0.9 and float(normal[row, column].max()) > 0.4
    assert float(depth[0, 0, 0]) == 0 or float(made.alpha[0, 0, 0]) > 0
    empty = render_maps(
        ball(center=(0, 0, -9.0)), make_trajectory("static", views=1, width=9, height=9), backend="torch"
    )
    assert empty.nearest == 0 and float(empty.depth.max()) == 0
