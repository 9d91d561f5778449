"""The record `Cameras`: what it accepts, and what it derives."""

import dataclasses
import math

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError


def some_cameras(views=3, width=64, height=48):
    angle = torch.linspace(0.1, 0.9, views, dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    c2w[:, 0, 0], c2w[:, 0, 2] = angle.cos(), angle.sin()
    c2w[:, 2, 0], c2w[:, 2, 2] = -angle.sin(), angle.cos()
    c2w[:, :3, 3] = torch.stack([angle, 2 * angle, -angle], dim=1)
    k = torch.tensor([[50.0, 0, 30], [0, 55, 25], [0, 0, 1]], dtype=torch.float64).repeat(views, 1, 1)
    return Cameras(c2w, k, width, height)


def test_length_positions_and_indexing():
    cameras = some_cameras()
    assert len(cameras) == 3
    assert torch.equal(cameras.positions, cameras.camera_to_world[:, :3, 3])
    for index, kept in ((1, [1]), (-1, [2]), (slice(0, 3, 2), [0, 2]), ([2, 0], [2, 0])):
        part = cameras[index]
        assert isinstance(part, Cameras) and (part.width, part.height) == (64, 48)
        assert torch.equal(part.camera_to_world, cameras.camera_to_world[kept])
        assert torch.equal(part.intrinsics, cameras.intrinsics[kept])
    assert len(cameras[3:]) == 0


def test_an_index_past_the_end_ends_a_loop():
    with pytest.raises(IndexError):
        some_cameras()[3]
    assert [len(view) for view in some_cameras()] == [1, 1, 1]


def test_world_to_camera_is_the_inverse():
    cameras = some_cameras()
    torch.testing.assert_close(cameras.world_to_camera, torch.linalg.inv(cameras.camera_to_world))


def test_resized_keeps_the_view():
    cameras = some_cameras()
    larger = cameras.resized(128, 144)
    assert (larger.width, larger.height) == (128, 144)
    assert torch.equal(larger.camera_to_world, cameras.camera_to_world)
    expected = torch.tensor([[100.0, 0, 60], [0, 165, 75], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(larger.intrinsics[0], expected)
    torch.testing.assert_close(larger.resized(64, 48).intrinsics, cameras.intrinsics)


def test_fitted_crops_the_middle():
    cameras = some_cameras()
    wide = cameras.fitted(128, 48)  # twice as large, 24 rows cut off above and below
    assert (wide.width, wide.height) == (128, 48)
    torch.testing.assert_close(wide.intrinsics[0, :2], torch.tensor([[100.0, 0, 60], [0, 110, 26]]).double())
    tall = cameras.fitted(32, 48)  # 16 columns cut off on either side
    torch.testing.assert_close(tall.intrinsics[0, :2], torch.tensor([[50.0, 0, 14], [0, 55, 25]]).double())
    assert torch.equal(tall.camera_to_world, cameras.camera_to_world)
    torch.testing.assert_close(cameras.fitted(640, 480).intrinsics, cameras.resized(640, 480).intrinsics)
    assert cameras.to(dtype=torch.float32).fitted(7, 5).intrinsics.dtype == torch.float32


def test_to_changes_both_tensors():
    cameras = some_cameras().to(dtype=torch.float32)
    assert cameras.camera_to_world.dtype == cameras.intrinsics.dtype == torch.float32
    assert some_cameras().to("meta").device.type == "meta"


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        some_cameras().width = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_to_world": torch.eye(4)}, "camera_to_world must be"),
        ({"camera_to_world": torch.eye(3).repeat(3, 1, 1)}, "camera_to_world must be"),
        ({"intrinsics": torch.eye(3).repeat(2, 1, 1)}, "one per pose"),
        ({"intrinsics": torch.zeros(3, 3, 3)}, "focal lengths"),
        ({"intrinsics": torch.full((3, 3, 3), math.nan)}, "finite"),
        ({"camera_to_world": torch.full((3, 4, 4), math.inf)}, "finite"),
        ({"width": 0}, "image size"),
        ({"height": -1}, "image size"),
    ],
)
def test_wrong_values_are_refused(changes, message):
    with pytest.raises(FlashWorldError, match=message):
        dataclasses.replace(some_cameras(), **changes)
