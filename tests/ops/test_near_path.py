"""What a camera path sees, by hand and against the renderer."""

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.gaussians import Gaussians
from flashworld_core.ops.select import near_path_mask
from flashworld_core.rendering.render import render
from flashworld_core.trajectories.presets import make_trajectory


def points(positions, size=1e-4):
    n = len(positions)
    return Gaussians(
        torch.tensor(positions).float(),
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.full((n, 3), size),
        torch.ones(n),
        torch.zeros(n, 1, 3),
    )


def looking_ahead(cx=30.0, cy=20.0):
    """60x40 pixels, focal length 50."""
    k = torch.tensor([[[50.0, 0, cx], [0, 50, cy], [0, 0, 1]]])
    return Cameras(torch.eye(4)[None], k, 60, 40)


def test_the_pyramid_of_the_picture():
    # At z = 5 the picture reaches from x = -3 to 3 and from y = -2 to 2.
    inside = [(2.9, 0, 5), (-2.9, 1.9, 5), (0, -1.9, 5), (0, 0, 0.01), (0, 0, 1e6)]
    outside = [(3.1, 0, 5), (-3.1, 0, 5), (0, 2.1, 5), (0, -2.1, 5), (0, 0, -0.01), (2.9, 0, -5)]
    mask = near_path_mask(points(inside + outside), looking_ahead())
    assert mask.tolist() == [True] * len(inside) + [False] * len(outside)
    # With the principal point at 15 it reaches from -1.5 to 4.5.
    off = near_path_mask(points([(4.4, 0, 5), (4.6, 0, 5), (-1.4, 0, 5), (-1.6, 0, 5)]), looking_ahead(cx=15.0))
    assert off.tolist() == [True, False, True, False]


def test_large_gaussians_reach_in():
    beside = [(4.0, 0, 5), (0, 0, -1.0)]  # 0.86 outside of the right edge's plane; one behind
    assert near_path_mask(points(beside, size=0.2), looking_ahead()).tolist() == [False, False]
    assert near_path_mask(points(beside, size=0.4), looking_ahead()).tolist() == [True, True]


def test_surroundings_are_a_ball_about_every_camera():
    cameras = make_trajectory("truck:4", views=3, width=60, height=40)  # at x = 0, 2, 4
    behind = [(0, 0, -0.9), (2, 0.5, -0.8), (4, 0, -1.1), (-0.9, 0, 0)]
    assert not near_path_mask(points(behind), cameras).any()
    assert near_path_mask(points(behind), cameras, 1.0).tolist() == [True, True, False, True]


def test_all_that_the_renderer_shows_is_kept():
    generator = torch.Generator().manual_seed(0)
    n = 400
    scene = Gaussians(
        torch.randn(n, 3, generator=generator) * 3,
        torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1),
        torch.rand(n, 3, generator=generator) * 0.2 + 0.01,
        torch.rand(n, generator=generator),
        torch.randn(n, 1, 3, generator=generator),
    )
    cameras = make_trajectory("orbit:30", views=4, width=40, height=30, focus_distance=3)
    mask = near_path_mask(scene, cameras)
    assert 20 < int(mask.sum()) < n - 100
    seen, kept = (render(s, cameras, backend="torch", background="black").rgb for s in (scene, scene[mask]))
    assert float(seen.max()) > 0.5
    torch.testing.assert_close(kept, seen, rtol=0, atol=0.02)


def test_progress_stop_and_errors():
    cameras = make_trajectory("orbit", views=5, width=60, height=40)
    told = []
    near_path_mask(points([(0, 0, 1)]), cameras, progress=lambda *a: told.append(a))
    assert told == [(i, 5) for i in range(1, 6)]
    with pytest.raises(Cancelled):
        near_path_mask(points([(0, 0, 1)]), cameras, should_stop=lambda: True)
    with pytest.raises(FlashWorldError, match="path is empty"):
        near_path_mask(points([(0, 0, 1)]), cameras[[]])
    for wrong in (-1.0, float("nan")):
        with pytest.raises(FlashWorldError, match="surroundings"):
            near_path_mask(points([(0, 0, 1)]), cameras, wrong)
    assert near_path_mask(points([(0, 0, 1)])[:0], cameras).shape == (0,)
