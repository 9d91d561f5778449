"""VFusion3D: files, frame, cropping, and the way from an image to a field, a scene and a mesh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_vfusion3d import SIZES, save_small_model, small_network, state
from torch.testing import assert_close

from flashworld_core.checkpoints.assign import expected_shapes
from flashworld_core.checkpoints.identify import identify
from flashworld_core.checkpoints.open import open_weights
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.fields import Field
from flashworld_core.generators import load_model, open_model
from flashworld_core.generators.base import Generator, Request, RunOptions, ViewImage
from flashworld_core.generators.vfusion3d import cameras as vf
from flashworld_core.generators.vfusion3d.conditioning import PLAIN, WHOLE, centered, object_image
from flashworld_core.generators.vfusion3d.config import VFusion3DConfig
from flashworld_core.generators.vfusion3d.network import VFusion3DNetwork
from flashworld_core.progress import Progress

MANIFEST = Path(__file__).parents[2] / "data" / "vfusion3d_manifest.json"
FEW = {"splat_resolution": 16}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("vfusion3d"))


@pytest.fixture(scope="module")
def model(model_file):
    return load_model(model_file)


@pytest.fixture
def picture():
    """A red oblong left of the middle of a white image, and its mask."""
    image, mask = torch.ones(60, 90, 3), torch.zeros(60, 90)
    image[10:50, 5:25] = torch.tensor([0.9, 0.1, 0.1])
    mask[10:50, 5:25] = 1
    return image, mask


def request(image, mask=None, **more):
    return Request(None, (ViewImage(image, mask=mask),), options=FEW, **more)


def test_the_published_model_has_the_tensors_of_the_manifest():
    with torch.device("meta"):
        ours = expected_shapes(VFusion3DNetwork(VFusion3DConfig()))
    theirs = json.loads(MANIFEST.read_text())
    assert len(theirs["tensors"]) == theirs["num_tensors"] == len(ours)
    assert ours == {name: tuple(shape) for name, shape in theirs["tensors"].items()}


def test_a_file_tells_its_sizes_license_and_memory(model_file):
    opened = open_model(model_file)
    assert (opened.info.kind, opened.info.field, opened.info.model_id) == ("object", True, SIZES["model_id"])
    assert "CC-BY-NC" in opened.info.license and opened.info.parameters > 1000
    assert opened.memory_plan().peak() > 0 and isinstance(load_model(model_file), Generator)
    assert "VFusion3D" in identify(open_weights(model_file)).description


def test_the_published_torch_file_is_read_and_a_wrong_one_refused(tmp_path, model):
    tensors = state(small_network())
    torch.save({"model_state_dict": tensors, "epoch": 3}, tmp_path / "vfusion3dckpt")
    (tmp_path / "folder").mkdir()
    sizes = {"generator": "vfusion3d", "config": SIZES}
    (tmp_path / "folder" / "config.json").write_text(json.dumps(sizes))
    torch.save({"model_state_dict": tensors}, tmp_path / "folder" / "model.ckpt")
    ours = load_model(tmp_path / "folder").network.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in ours.items())

    with pytest.raises(FlashWorldError, match=r"do not fit the VFusion3D model: .*encoder.model.*instead of"):
        load_model(tmp_path / "vfusion3dckpt")  # without sizes it must be the published model
    del tensors["transformer.norm.bias"]
    torch.save({"model_state_dict": tensors}, tmp_path / "folder" / "model.ckpt")
    with pytest.raises(FlashWorldError, match="missing .transformer.norm.bias"):
        load_model(tmp_path / "folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 1}, "image_size"),
        ({"triplane": {"layers": -1}}, "triplane.layers"),
        ({"triplane": {"low_res": 10**9}}, "triplane.low_res"),
        ({"encoder": {"hue": 1}}, "encoder.hue"),
        ({"encoder": {"heads": 5}}, "heads"),
        ({"new": 1}, "unknown fields new"),
    ],
)
def test_configs_that_cannot_be_are_refused(change, message):
    with pytest.raises(FlashWorldError, match=message):
        VFusion3DConfig.from_dict({**SIZES, **change})


def test_the_frame_a_viewer_in_front_sees_the_source_camera():
    front = vf.orbit(4, 100)[0]
    assert_close(front.positions[0], torch.tensor([0.0, 0.0, -1.5]))
    assert_close(front.camera_to_world[0, :3, :3], torch.eye(3))
    ahead = vf.orbit(4, 100, elevation_degrees=30.0)
    assert (ahead.positions[:, 1] < 0).all(), "from above, where y is negative"
    point = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)  # VFusion3D's: towards the viewer, right, up
    assert_close(point @ vf.to_world().T, torch.tensor([[-0.2, -0.5, -0.3]], dtype=torch.float64))


def test_the_object_is_cropped_centered_and_laid_on_white(picture):
    image, mask = picture
    image = image.clone()
    image[mask == 0] = torch.tensor([0.0, 0.0, 1.0])  # what the mask cuts away leaves no trace
    square = centered(image, mask, 100)
    assert square.shape == (3, 100, 100)
    inside = (square - 1).abs().amax(dim=0) > 0.4
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    assert abs(len(rows) - 80) <= 2 and abs(len(columns) - 40) <= 2
    assert abs(float(rows.float().mean()) - 49.5) < 1.5 and abs(float(columns.float().mean()) - 49.5) < 1.5
    assert_close(square[:, 50, 50], torch.tensor([0.9, 0.1, 0.1]), rtol=0, atol=1e-5)
    assert (square[2] <= square[0] + 1e-4).all(), "no blue"


def test_where_the_mask_comes_from(picture):
    image, mask = picture
    assert object_image(ViewImage(image, mask=mask))[2] == ""
    found, remark = object_image(ViewImage(image))[1:]
    assert torch.equal(found, mask) and remark == PLAIN
    cut_out = torch.cat([image, mask[..., None]], dim=-1)
    found, remark = object_image(ViewImage(cut_out))[1:]
    assert torch.equal(found, mask) and remark == ""
    noisy = torch.rand(20, 20, 3, generator=torch.Generator().manual_seed(0))
    found, remark = object_image(ViewImage(noisy))[1:]
    assert bool((found == 1).all()) and remark == WHOLE


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(60, 90), "shows no object"),
        (torch.ones(30, 90), "of one size"),
        (torch.full((60, 90), float("nan")), "not finite"),
    ],
)
def test_masks_that_do_not_work(picture, model, mask, message):
    with pytest.raises(FlashWorldError, match=message):
        model.check(request(picture[0], mask))


def test_an_image_becomes_a_field_and_a_scene(model, picture):
    steps = []
    made = model.generate(request(*picture), RunOptions(on_step=steps.append))
    assert len(steps) == 1 and steps[0] is made and isinstance(made.field, Field)
    assert len(made.gaussians) == made.count > 100 and made.gaussians.metadata["generator"] == "vfusion3d"
    assert made.gaussians.means.abs().max() <= 1 + 1e-5 and len(made.cameras) > 1
    again = model.generate(request(*picture, seed=5))
    assert torch.equal(made.gaussians.means, again.gaussians.means)
    other = model.generate(request(1 - picture[0], picture[1]))
    assert not torch.equal(made.field.planes, other.field.planes)


def test_what_it_says_and_refuses(model, picture):
    image, mask = picture
    remarks = model.check(request(image, mask, prompt="a boat", steps=4))
    assert len(remarks) == 2 and "no prompt" in remarks[0] and "one step" in remarks[1]
    with pytest.raises(FlashWorldError, match="takes one image"):
        model.check(Request(None))
    with pytest.raises(FlashWorldError, match="no option speed"):
        model.check(Request(None, (ViewImage(image),), options={"speed": 1}))
    with pytest.raises(FlashWorldError, match="splat_resolution"):
        model.check(Request(None, (ViewImage(image),), options={"splat_resolution": 5000}))
    with pytest.raises(Cancelled):
        model.generate(request(image, mask), RunOptions(progress=Progress(should_stop=lambda: True)))
