"""Image to Object: an object on the host's sockets, its mask, previews, Cancel, and inputs that do not fit."""

from __future__ import annotations

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.generators import load_model
from flashworld_pack.nodes import image_to_object, load, preview_stream
from flashworld_pack.nodes.comfyui import memory


def cutout_image(size=40, channels=4):
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    disc = ((x**2 + y**2) < 0.4).float()
    image = torch.stack([0.8 * disc, 0.3 * disc, 0.1 * disc, disc], -1)[None]
    return image[..., :channels], disc[None]


@pytest.fixture
def model(host):
    loaded = load.LoadModel.execute(load.EMBEDDED_OBJECTS).result[0]
    host.updates.clear()
    return loaded


def run_node(model, image, seed=1, **more):
    return image_to_object.ImageToObject.execute(model, image, seed, **more).result


def test_an_image_with_transparency_becomes_a_splat(host, model):
    image, mask = cutout_image()
    splat, images, camera = run_node(model, image)
    assert splat.positions.shape[1] > 100 and images.shape == (8, 128, 128, 3) and camera["position"]["z"] > 0
    assert images.min() < 0.9
    again = run_node(model, image[..., :3], mask=mask)[0]
    assert torch.equal(again.positions, splat.positions)  # the mask is the transparency
    core = load_model("trellis-tiny")
    assert core.info.kind == "object"


def test_steps_and_guidance_reach_the_model(host, model, monkeypatch):
    seen = []
    real = model.model.generate
    monkeypatch.setattr(model.model, "generate", lambda request, run: (seen.append(request), real(request, run))[1])
    image, _ = cutout_image()
    run_node(model, image, structure_steps=1, guidance=0.0)
    assert seen[0].steps == (1, 2) and seen[0].options == {"guidance": 0.0}
    run_node(model, image)
    assert seen[1].steps is None and seen[1].options == {}


def test_steps_are_shown_where_somebody_looks(host, model, monkeypatch):
    prompt = {"3": {"class_type": "FlashWorld_PreviewScene", "inputs": {}}}
    monkeypatch.setattr(image_to_object.ImageToObject.hidden, "prompt", prompt, raising=False)
    run_node(model, cutout_image()[0])
    events = [data for name, data in host.server.sent if name == preview_stream.EVENT]
    assert [event["step"] for event in events][-2:] == [2, 3]
    assert "Step 4 of 4" in [text for text, _ in host.server.texts]


def test_cancel_ends_it(host, model):
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        run_node(model, cutout_image()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": cutout_image(channels=3)[0]}, "no transparency and no mask.*give a mask"),
        ({"image": cutout_image()[0] * 0}, "shows no object"),
        ({"image": cutout_image()[0] * torch.nan}, "not finite"),
        ({"image": torch.zeros(2, 2)}, "image must be an IMAGE"),
        ({"mask": torch.zeros(1, 40, 40)}, "shows no object"),
        ({"mask": "white"}, "mask must be a MASK"),
        ({"structure_steps": 300}, "steps must be 1..200"),
    ],
)
def test_what_does_not_fit_is_said(host, model, change, message):
    with pytest.raises(FlashWorldError, match=f"Image to Object: .*{message}"):
        run_node(model, **({"image": cutout_image()[0]} | change))


def test_models_of_scenes_are_sent_to_their_own_node(host):
    loaded = load.LoadModel.execute(load.EMBEDDED).result[0]
    with pytest.raises(FlashWorldError, match="makes scenes: connect it to Generate Scene"):
        run_node(loaded, cutout_image()[0])
    with pytest.raises(FlashWorldError, match="needs a model"):
        run_node(object(), cutout_image()[0])


def test_the_loader_shows_license_and_plan(host):
    info = load.model_info(load.EMBEDDED_OBJECTS)
    assert "trellis-tiny" in info["summary"] and "Apache-2.0" in info["license"] and info["plan"]


def test_half_precision_models_run_in_single_on_the_cpu(host):
    assert memory.dtype_for(None, torch.float16) == torch.float32
    assert memory.dtype_for(torch.float16, torch.float16) == torch.float16
