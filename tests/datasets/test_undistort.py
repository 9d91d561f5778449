"""Distortion taken out on loading: the image is the one a pinhole would have taken."""

from __future__ import annotations

import data_folders as folders
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flashworld_core.datasets.index import ClipIndex, write_index
from flashworld_core.datasets.pixels import load_views
from flashworld_core.datasets.toyworld import render_scene
from flashworld_core.datasets.undistort import undistorted
from flashworld_core.evaluation.metrics import psnr_db
from flashworld_core.formats.cameras.lens import distorted
from flashworld_core.media.export import save_png


def distort(image, lens, model, coefficients):
    """What the lens makes of a pinhole's image: each of its pixels from where the distortion's inverse says."""
    height, width = image.shape[:2]
    fx, fy, cx, cy = lens
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    want = (u - cx) / fx, (v - cy) / fy
    x, y = want
    for _ in range(30):
        a, b = distorted(model, coefficients, x, y)
        x, y = x + want[0] - a, y + want[1] - b
    grid = np.stack([2 * (x * fx + cx) / width - 1, 2 * (y * fy + cy) / height - 1], -1)
    made = F.grid_sample(
        image.permute(2, 0, 1)[None].double(), torch.from_numpy(grid)[None], align_corners=False, padding_mode="border"
    )
    return made[0].permute(1, 2, 0).float()


@pytest.mark.parametrize("coefficients", [{"k1": -0.12, "k2": 0.02, "p1": 0.003, "p2": -0.004}, {"k1": 0.1}])
def test_a_distorted_clip_gives_pinhole_images(coefficients):
    scene, cameras, _ = folders.scene_and_views(3, 144, 96)
    camera = cameras[5]
    k = camera.intrinsics[0]
    lens = [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])]
    large = type(camera)(camera.camera_to_world, camera.intrinsics, 144, 96)
    truth, _ = render_scene(scene, large, 2)
    image = distort(truth[0].permute(1, 2, 0), lens, "OPENCV", coefficients)
    made, pinhole = undistorted(image, k.double(), "OPENCV", coefficients)
    assert 1 <= float(pinhole[0, 0]) / lens[0] < 1.15
    seen, _ = render_scene(scene, type(camera)(camera.camera_to_world, pinhole[None].float(), 144, 96), 2)
    seen = seen[0].permute(1, 2, 0)[3:-3, 3:-3]
    with_lens, without = psnr_db(made[None, 3:-3, 3:-3], seen[None]), psnr_db(image[None, 3:-3, 3:-3], seen[None])
    assert with_lens > 25 and with_lens > without + 4, (with_lens, without)


def test_what_moves_less_than_half_a_pixel_is_left_alone():
    image, k = torch.rand(24, 36, 3), torch.tensor([[30.0, 0, 18], [0, 30, 12], [0, 0, 1]])
    made, pinhole = undistorted(image, k, "RADIAL", {"k1": 0.01})
    assert made is image and pinhole is k
    assert not torch.equal(undistorted(image, k, "RADIAL", {"k1": 0.1})[0], image)


def test_coefficients_come_from_the_model_of_the_clip(tmp_path):
    """From cameras.bin to the image that is loaded."""
    clip = tmp_path / "set" / "7" / "one"
    cameras = folders.scene_and_views(3, 144, 96)[1][list(range(4))]
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        (clip / "images").mkdir(parents=True, exist_ok=True)
        save_png(clip / "images" / name, folders.scene_and_views(3, 144, 96)[2][0])
    folders.write_colmap_binary(clip / "sparse" / "0", cameras, names, distortion=(-0.1, 0.02))
    write_index("mvimgnet", tmp_path / "set", tmp_path / "index", notify=lambda text: None)
    read = ClipIndex(tmp_path / "index").clip(0)
    assert read.distortion == (("RADIAL", {"k1": -0.1, "k2": 0.02}),)
    images, found = load_views(tmp_path / "set", read, [0, 3], 144, 96)
    expected, k = undistorted(
        folders.scene_and_views(3, 144, 96)[2][0], cameras.intrinsics[0].double(), "RADIAL", {"k1": -0.1, "k2": 0.02}
    )
    assert (images[0] - expected).abs().max() < 0.02 and torch.allclose(found.intrinsics[1], k)
