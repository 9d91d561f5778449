"""Image to Object, Field to Mesh, Field to Splat, Place Object in Scene: sockets, what is said, what is refused."""

from __future__ import annotations

import pytest
import torch
from ball_field import BallField
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.gaussians import FIRST_VIEW, Gaussians
from flashworld_pack.flashworld_core.generators import load_model
from flashworld_pack.flashworld_core.generators.vfusion3d import pipeline
from flashworld_pack.flashworld_core.trajectories.comfyui import from_load3d, to_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import NODES, generate, load, sockets
from flashworld_pack.nodes.comfyui import folders, memory
from flashworld_pack.nodes.field import FieldToMesh, FieldToSplat
from flashworld_pack.nodes.image_to_object import ImageToObject
from flashworld_pack.nodes.place import PlaceObject
from small_vfusion3d import save_small_model

OURS = (ImageToObject, FieldToMesh, FieldToSplat, PlaceObject)
PATH = {"width": 48, "height": 32, "views": 3}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("objects"))


@pytest.fixture
def loaded(host, file, monkeypatch):
    monkeypatch.setattr(pipeline, "RESOLUTION", 16)
    monkeypatch.setattr(pipeline, "_VIEW_SIZE", 24)
    return memory.LoadedModel(load_model(file))


@pytest.fixture
def picture():
    image = torch.rand(1, 40, 50, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 40, 50)
    mask[:, 10:30, 20:35] = 1
    return image, mask


def said(host):
    return "\n".join(text for text, _ in host.server.texts)


def ball(center=(0.0, 0.0, 0.0), count=300):
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    sh = torch.zeros(count, 1, 3)
    sh[..., 0] = 1.5
    quats = torch.eye(4)[:1].repeat(count, 1)
    return Gaussians(0.5 * means + torch.tensor(center), quats, torch.full((count, 3), 0.06), torch.ones(count), sh, {})


def floor():
    x, z = torch.meshgrid(torch.arange(-3, 3.01, 0.1), torch.arange(1, 7.01, 0.1), indexing="ij")
    means = torch.stack([x, torch.ones_like(x), z], dim=-1).view(-1, 3)
    n = len(means)
    scales = torch.tensor([0.06, 0.004, 0.06]).repeat(n, 1)
    return Gaussians(means, torch.eye(4)[:1].repeat(n, 1), scales, torch.full((n,), 0.95), torch.zeros(n, 1, 3), {})


@pytest.mark.parametrize("node", OURS)
def test_every_input_says_what_it_does(host, node):
    schema = node.GET_SCHEMA()
    assert node in NODES and schema.node_id == f"FlashWorld_{node.__name__}"
    assert all(len(thing.tooltip) > 15 for thing in (*schema.inputs, *schema.outputs))


def test_the_loader_shows_the_license(host, file, monkeypatch):
    monkeypatch.setattr(folders, "model_files", lambda: ["object"])
    monkeypatch.setattr(folders, "model_file", lambda name: file)
    info = load.model_info("object")
    assert "CC-BY-NC" in info["license"] and info["error"] == "" and info["plan"]
    assert isinstance(load.LoadModel.execute("object").result[0], memory.LoadedModel)


def test_an_image_becomes_an_object(host, loaded, picture):
    image, mask = picture
    splat, images, camera, field = ImageToObject.execute(loaded, image, 0, mask=mask).result
    scene = sockets.gaussians_from_splat(splat)
    assert len(scene) > 50 and scene.metadata[FIRST_VIEW] == camera and images.shape == (24, 24, 24, 3)
    view = from_load3d(camera, 24, 24)
    assert view.positions[0, 2] < -1 and torch.allclose(view.camera_to_world[0, :3, :3], torch.eye(3), atol=1e-5)
    assert "CC-BY-NC" in said(host)
    # Load Image's mask is white around the object.
    again = ImageToObject.execute(loaded, image, 0, mask=1 - mask).result
    assert torch.equal(again[0].positions, splat.positions) and "Load Image gives it" in said(host)
    explicit = ImageToObject.execute(loaded, image, 0, mask=1 - mask, mask_is="background").result
    assert torch.equal(explicit[0].positions, splat.positions)
    assert sockets.field_in(field) is field


def test_masks_of_another_size_and_masks_that_say_nothing(host, loaded, picture):
    image, mask = picture
    half = torch.nn.functional.interpolate(mask[None], scale_factor=0.5)[0]
    ImageToObject.execute(loaded, image, 0, mask=half)
    assert "scaled to the image's 50x40" in said(host)
    host.server.texts.clear()
    ImageToObject.execute(loaded, image, 0, mask=torch.zeros(1, 64, 64))
    assert "has no mask" in said(host)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"mask": torch.full((1, 40, 50), float("nan"))}, "not finite"),
        ({"mask": torch.zeros(1, 40, 50)}, "shows no object"),
        ({"mask": "x"}, "must be a MASK"),
        ({"mask_is": "both"}, "mask_is must be one of"),
        ({"guidance": float("nan")}, "guidance must be a finite"),
        ({"guidance": 3.0}, "no option guidance"),
        ({"image": torch.zeros(1, 0, 5, 3)}, "must be an IMAGE"),
        ({"model": "x"}, "needs a model"),
    ],
)
def test_what_image_to_object_refuses(host, loaded, picture, inputs, message):
    values = {"model": loaded, "image": picture[0], "seed": 0, **inputs}
    with pytest.raises(FlashWorldError, match=f"^Image to Object: .*{message}"):
        ImageToObject.execute(**values)


def test_models_in_the_wrong_node_are_sent_to_the_right_one(host, loaded, picture):
    path = make_trajectory("orbit", **PATH)
    with pytest.raises(FlashWorldError, match="connect it to Image to Object"):
        generate.Generate.execute(loaded, path, "a boat", 0, 4, 0)
    scenes = load.LoadModel.execute(load.EMBEDDED).result[0]
    with pytest.raises(FlashWorldError, match="connect it to Generate Scene"):
        ImageToObject.execute(scenes, picture[0], 0)


def test_cancel_ends_it(host, loaded, picture):
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        ImageToObject.execute(loaded, picture[0], 0, mask=picture[1])
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        FieldToSplat.execute(BallField(), 32)


def test_a_field_becomes_a_mesh_and_a_file(host):
    pytest.importorskip("skimage")
    trimesh = pytest.importorskip("trimesh")
    mesh, file = FieldToMesh.execute(BallField(), 32).result
    assert mesh.vertices.shape[0] == 1 and mesh.vertices.shape[-1] == 3 and mesh.unlit
    assert mesh.vertex_colors.shape == mesh.vertices.shape and int(mesh.faces.max()) < mesh.vertices.shape[1]
    again = trimesh.load(file.get_source(), force="mesh", process=False)
    assert torch.allclose(torch.tensor(again.vertices).float(), mesh.vertices[0], atol=1e-4)
    assert "triangles" in said(host)


def test_without_trimesh_the_mesh_comes_and_the_file_says_why_not(host, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr("flashworld_pack.flashworld_core.formats.meshes.find_spec", lambda name: name != "trimesh")
    mesh, file = FieldToMesh.execute(BallField(), 32).result
    assert mesh.vertices.shape[1] > 100 and "pip install trimesh" in file.message


def test_a_field_becomes_gaussians(host):
    coarse, fine = (FieldToSplat.execute(BallField(), resolution).result[0] for resolution in (16, 48))
    assert coarse.positions.shape[1] < fine.positions.shape[1]
    with pytest.raises(FlashWorldError, match="Field to Splat: the field input needs a FIELD"):
        FieldToSplat.execute(torch.zeros(1))
    with pytest.raises(FlashWorldError, match="Field to Splat: resolution must lie"):
        FieldToSplat.execute(BallField(), 100_000)


def test_an_object_stands_where_the_pixel_is(host):
    scene, thing = map(sockets.splat_from_gaussians, (floor(), ball()))
    path = make_trajectory("orbit", **PATH)
    splat, image = PlaceObject.execute(scene, thing, pixel_x=0.5, pixel_y=0.85, scale=0.5, trajectory=path).result
    made = sockets.gaussians_from_splat(splat)
    added = made[len(floor()) :]
    assert abs(float(added.means[:, 1].max()) - 1) < 0.1, "on the floor"
    assert float(added.means[:, 1].min()) == pytest.approx(0.5, abs=0.15), "half as tall as it was"
    assert image.shape == (1, 32, 48, 3)
    red = (image[0, ..., 0] - image[0, ..., 1]) > 0.2
    rows, columns = red.nonzero().float().mean(dim=0).tolist()
    assert 12 < rows < 28 and abs(columns - 24) < 4, "it is seen there"
    assert "tall" in said(host)


def test_an_object_at_a_position_and_the_scene_s_own_view(host):
    start = floor()
    start.metadata[FIRST_VIEW] = to_load3d(make_trajectory("orbit", **PATH), 0, 2.0)
    scene, thing = map(sockets.splat_from_gaussians, (start, ball()))
    values = {"where": "position", "position_x": 1.0, "position_y": -0.5, "position_z": 3.0, "scale": 1.0}
    splat, _ = PlaceObject.execute(scene, thing, anchor="origin", **values).result
    made = sockets.gaussians_from_splat(splat)
    assert torch.allclose(made.means[len(start) :].mean(0), torch.tensor([1.0, -0.5, 3.0]), atol=0.1)
    assert made.metadata[FIRST_VIEW] == start.metadata[FIRST_VIEW]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"pixel_y": 0.01}, "Nothing of the scene"),
        ({"view": 7}, "views 0 to 2"),
        ({"trajectory": None}, "connect a camera path"),
        ({"scale": float("nan")}, "scale must be a finite"),
        ({"where": "moon"}, "where must be one of"),
        ({"anchor": "hat"}, "anchor must be one of"),
        ({"object": "x"}, "needs a SPLAT"),
    ],
)
def test_what_place_object_refuses(host, inputs, message):
    scene, thing = map(sockets.splat_from_gaussians, (floor(), ball()))
    values = {"scene": scene, "object": thing, "trajectory": make_trajectory("orbit", **PATH), **inputs}
    with pytest.raises(FlashWorldError, match=f"^Place Object in Scene: .*{message}"):
        PlaceObject.execute(**values)
