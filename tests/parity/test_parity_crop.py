"""The condition image and its intrinsics against the reference vectors (`crop/*` units and the full request)."""

import json

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.generators.flashworld.conditioning import prepare_image


def cameras_from_json(entries, width, height):
    """Only the intrinsics matter here; poses are left at the identity."""
    k = torch.tensor([[[c["fx"], 0, c["cx"]], [0, c["fy"], c["cy"]], [0, 0, 1]] for c in entries], dtype=torch.float64)
    return Cameras(torch.eye(4, dtype=torch.float64).expand(len(k), 4, 4), k, width, height)


def normalized_intrinsics(cameras):
    k, width, height = cameras.intrinsics, cameras.width, cameras.height
    columns = (k[:, 0, 0] / width, k[:, 1, 1] / height, k[:, 0, 2] / width, k[:, 1, 2] / height)
    return torch.stack(columns, dim=1).float()


def test_crop_units(parity_tensors, units_json):
    tensors = parity_tensors("units")
    names = sorted({name.rsplit("/", 1)[0] for name in tensors if name.startswith("crop/")})
    if not names:
        pytest.skip("no crop units in this set")
    for name in names:
        source = tensors[f"{name}/image_u8_hwc"]
        height, width = units_json[name]["target_hw"]
        pixels, crop = prepare_image(source, width, height)
        expected = tensors[f"{name}/image_out"].reshape(pixels.shape)
        torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        cameras = crop.adjust_intrinsics(
            cameras_from_json([units_json[name]["camera_in"]], source.shape[1], source.shape[0])
        )
        expected = tensors[f"{name}/camera_out"].reshape(1, -1)[:, 7:]
        torch.testing.assert_close(normalized_intrinsics(cameras), expected, rtol=0, atol=1e-5)


def test_request_image_and_intrinsics(parity_dir, parity_tensors):
    request = json.loads((parity_dir / "request.json").read_text())
    inputs = parity_tensors("inputs")
    _, height, width = request["resolution"]
    pixels, crop = prepare_image(request["image_prompt"], width, height)
    torch.testing.assert_close(pixels, inputs["image"], rtol=0, atol=1e-5)
    cameras = cameras_from_json(request["cameras"], crop.source_width, crop.source_height)
    torch.testing.assert_close(
        normalized_intrinsics(crop.adjust_intrinsics(cameras)), inputs["cameras_dense"][:, 7:], rtol=0, atol=1e-5
    )
