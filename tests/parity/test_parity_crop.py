"""The condition image and its intrinsics against the reference vectors (`crop/*` units and the full request)."""

import json
import os
from pathlib import Path

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.generators.flashworld.condition import prepare_image

DIRECTORY = (
    Path(os.environ.get("FLASHWORLD_PARITY_DIR", Path(__file__).parents[3] / "shared" / "parity")) / "flashworld"
)
pytestmark = pytest.mark.skipif(not DIRECTORY.is_dir(), reason=f"no parity vectors at {DIRECTORY}")


def cameras_from_json(entries, width, height):
    """Only the intrinsics matter here; poses are left at the identity."""
    k = torch.tensor([[[c["fx"], 0, c["cx"]], [0, c["fy"], c["cy"]], [0, 0, 1]] for c in entries], dtype=torch.float64)
    return Cameras(torch.eye(4, dtype=torch.float64).expand(len(k), 4, 4), k, width, height)


def normalised_intrinsics(cameras):
    k = cameras.intrinsics
    columns = (
        k[:, 0, 0] / cameras.width,
        k[:, 1, 1] / cameras.height,
        k[:, 0, 2] / cameras.width,
        k[:, 1, 2] / cameras.height,
    )
    return torch.stack(columns, dim=1).float()


def test_crop_units():
    from safetensors.torch import load_file

    tensors = load_file(DIRECTORY / "units.safetensors")
    names = sorted({name.rsplit("/", 1)[0] for name in tensors if name.startswith("crop/")})
    if not names:
        pytest.skip("no crop units in this set")
    notes = json.loads((DIRECTORY / "units.json").read_text())
    for name in names:
        source = tensors[f"{name}/image_u8_hwc"]
        height, width = notes[name]["target_hw"]
        pixels, crop = prepare_image(source, width, height)
        torch.testing.assert_close(
            pixels, tensors[f"{name}/image_out"], rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
        cameras = crop.adjust_intrinsics(
            cameras_from_json([notes[name]["camera_in"]], source.shape[1], source.shape[0])
        )
        expected = tensors[f"{name}/camera_out"][7:].reshape(1, 4)
        torch.testing.assert_close(normalised_intrinsics(cameras), expected, rtol=0, atol=1e-5)


def test_request_image_and_intrinsics():
    from safetensors.torch import load_file

    request = json.loads((DIRECTORY / "request.json").read_text())
    inputs = load_file(DIRECTORY / "inputs.safetensors")
    _, height, width = request["resolution"]
    pixels, crop = prepare_image(request["image_prompt"], width, height)
    torch.testing.assert_close(pixels, inputs["image"], rtol=0, atol=1e-5)
    cameras = cameras_from_json(request["cameras"], crop.source_width, crop.source_height)
    torch.testing.assert_close(
        normalised_intrinsics(crop.adjust_intrinsics(cameras)), inputs["cameras_dense"][:, 7:], rtol=0, atol=1e-5
    )
