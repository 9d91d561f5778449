"""nerfstudio's ``camera_path.json``: poses and lens by hand, the world of the trained scene, and what is refused."""

import json
import math

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.cameras import detect_format, read_cameras


def path_file(**changes):
    """Two cameras of a z-up world, at (0, -4, 1) and one step to the right, both looking along +y."""
    rows = [[1, 0, 0, x, 0, 0, -1, -4, 0, 1, 0, 1, 0, 0, 0, 1] for x in (0.0, 1.0)]
    entries = [{"camera_to_world": row, "fov": 50, "aspect": 16 / 9} for row in rows]
    base = {
        "camera_type": "perspective", "render_width": 1920, "render_height": 1080, "fps": 24, "seconds": 4,
        "is_cycle": False, "smoothness_value": 0.5, "camera_path": entries, "keyframes": [], "crop": None,
    }  # fmt: skip
    return {**base, **changes}


def write(folder, **changes):
    file = folder / "camera_path.json"
    file.write_text(json.dumps(path_file(**changes)))
    return file


def test_poses_and_lens(tmp_path):
    file, told = write(tmp_path), []
    cameras = read_cameras(file, notify=told.append)
    assert detect_format(file) == "nerfstudio_path" and not told
    assert len(cameras) == 2 and (cameras.width, cameras.height) == (1920, 1080)
    focal = 540 / math.tan(math.radians(25))
    torch.testing.assert_close(
        cameras.intrinsics[0], torch.tensor([[focal, 0, 960], [0, focal, 540], [0, 0, 1]]), rtol=1e-6, atol=1e-4
    )
    # z up became y down: (x, y, z) -> (x, -z, y).
    torch.testing.assert_close(cameras.positions, torch.tensor([[0.0, -1, -4], [1, -1, -4]]))
    torch.testing.assert_close(cameras.camera_to_world[0, :3, :3], torch.eye(3))


def test_it_is_in_the_trained_world_already(tmp_path):
    parser = tmp_path / "dataparser_transforms.json"
    parser.write_text(json.dumps({"transform": [[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 0.1}))
    file, told = write(tmp_path), []
    moved = read_cameras(file, dataparser=parser, notify=told.append)
    assert torch.equal(moved.camera_to_world, read_cameras(file).camera_to_world)
    assert len(told) == 1 and "trained scene already" in told[0]


def test_what_is_ignored_is_said(tmp_path):
    told = []
    read_cameras(write(tmp_path, render_width=1080, crop={"crop_center": [0, 0, 0]}), notify=told.append)
    assert len(told) == 2 and "aspect of 2 views" in told[0] and "crop is ignored" in told[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_type": "fisheye"}, "'fisheye' is no pinhole camera; set it to perspective"),
        ({"camera_type": "equirectangular"}, "'equirectangular' is no pinhole"),
        ({"render_width": None}, "does not say how large"),
        ({"camera_path": []}, "holds no cameras"),
        ({"camera_path": {}}, "must be a list of objects"),
        ({"camera_path": [{"fov": 50}]}, r"camera_path\[0\]\.camera_to_world"),
        ({"camera_path": [{"camera_to_world": [1] * 16, "fov": 50}]}, "last row must be 0 0 0 1"),
        ({"camera_path": [{"camera_to_world": [2, 0, 0, 0] * 3 + [0, 0, 0, 1], "fov": 50}]}, "3x3 part"),
        ({"camera_path": [{"camera_to_world": torch.eye(4).flatten().tolist(), "fov": 180}]}, "fov must be degrees"),
    ],
)
def test_refused(tmp_path, changes, message):
    with pytest.raises(FlashWorldError, match=message):
        read_cameras(write(tmp_path, **changes))
