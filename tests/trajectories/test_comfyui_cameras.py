"""Wan's camera embedding: numbers of ComfyUI 0.28's own node, and rays by hand."""

import json
from pathlib import Path

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.geometry import intrinsics_from_vertical_fov, look_at
from flashworld_core.trajectories.comfyui import wan_camera_embedding, wan_length, wan_shape
from flashworld_core.trajectories.keyframes import Keyframe, interpolate
from flashworld_core.trajectories.presets import make_trajectory

# WanCameraEmbedding run with --cpu on moves of its own; camera_to_world are the poses it made, focal the focal lengths
# in pixels after its rescaling from 1280x720.
CASES = json.loads((Path(__file__).parents[1] / "data" / "wan_camera_embedding.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["camera_pose"] for case in CASES])
def test_the_numbers_of_comfyui(case):
    top = torch.tensor(case["camera_to_world"])
    c2w = torch.cat([top, torch.tensor([0.0, 0, 0, 1]).expand(len(top), 1, 4)], dim=1)
    (fx, fy), width, height = case["focal"], case["width"], case["height"]
    k = torch.tensor([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]]).expand(len(top), 3, 3)
    embedding = wan_camera_embedding(Cameras(c2w, k, width, height))
    assert list(embedding.shape) == case["shape"]
    expected = torch.tensor(case["values"]).view(case["shape"])
    torch.testing.assert_close(embedding, expected, rtol=0, atol=2e-6)


def rays(embedding, frame):
    """[6, H, W] of one frame."""
    place = frame + 3 if frame else 0
    return embedding[0].unflatten(0, (6, 4))[:, place % 4, place // 4]


def test_rays_go_through_pixel_centers_of_any_lens():
    """The world turned and moved as a whole changes nothing; a principal point off center is used as it is."""
    start = look_at((3.0, 1, -2), (0.5, 0, 4)).float()
    forward = torch.eye(4)
    forward[2, 3] = 2
    k = torch.tensor([[10.0, 0, 2.5], [0, 20, 0.5], [0, 0, 1]]).expand(5, 3, 3)
    c2w = torch.stack([start, start, start, start, start @ forward])
    embedding = wan_camera_embedding(Cameras(c2w, k, 8, 3))
    assert embedding.shape == (1, 24, 2, 3, 8)
    for frame, center in ((0, (0.0, 0, 0)), (4, (0.0, 0, 2))):
        for column, row, direction in ((2, 0, (0.0, 0, 1)), (7, 2, (0.5, 0.1, 1))):
            d = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
            expected = torch.cat([torch.linalg.cross(torch.tensor(center), d), d])
            got = rays(embedding, frame)[:, row, column]
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    first = embedding[0, :, 0].unflatten(0, (6, 4))
    assert torch.equal(first, first[:, :1].expand_as(first))  # the first frame stands alone, four times


def test_lengths():
    assert [wan_length(n) for n in (1, 2, 5, 6, 24, 25, 81)] == [1, 5, 5, 9, 25, 25, 81]
    path = make_trajectory("orbit:90", views=24, width=8, height=6)
    assert wan_camera_embedding(path).shape == wan_shape(path) == (1, 24, 7, 6, 8)


def test_resampling_keeps_the_pacing():
    """A path that hurries at its end still does: frame 2 of 5 is at half time, not at half way."""
    lens = intrinsics_from_vertical_fov(60, 8, 6)
    at = lambda x: torch.eye(4).index_put((torch.tensor(0), torch.tensor(3)), torch.tensor(float(x)))  # noqa: E731
    keys = [Keyframe(at(x), lens) for x in (0, 1, 10)]
    path = interpolate(keys, views=3, width=8, height=6, timing="even", spline="linear")
    o_cross_d = rays(wan_camera_embedding(path), 2)[:3]
    d = rays(wan_camera_embedding(path), 2)[3:]
    torch.testing.assert_close(o_cross_d[1], -1.0 * d[2], rtol=0, atol=1e-5)  # x = 1 crossed with d: (0, -dz, dy)


def test_too_large_is_refused_before_memory_is_taken():
    path = make_trajectory("orbit", views=1001, width=4096, height=4096)
    with pytest.raises(FlashWorldError, match="fewer frames"):
        wan_camera_embedding(path)
