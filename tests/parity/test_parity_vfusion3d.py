"""VFusion3D against reference tensors of the published code at a reduced size.

Nothing here knows the set's sizes. FLASHWORLD_PARITY_DIR names another set, or a folder with one in ``vfusion3d``.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from flashworld_core.generators.vfusion3d import cameras as vf
from flashworld_core.generators.vfusion3d.config import VFusion3DConfig
from flashworld_core.generators.vfusion3d.network import VFusion3DNetwork, normalized
from flashworld_core.geometry import invert_pose
from flashworld_core.models.triplane_field import TriplaneField
from flashworld_core.ops.field_to_mesh import field_to_mesh
from flashworld_core.rendering.field import RayDraws, camera_rays, render_field, render_rays

CAMERA = {"rtol": 0, "atol": 1e-6}
TOKENS = {"rtol": 0, "atol": 2e-5}
PLANES = {"rtol": 0, "atol": 1e-4}
FIELD = {"rtol": 0, "atol": 2e-4}


def set_folder() -> Path:
    root = os.environ.get("FLASHWORLD_PARITY_DIR")
    shipped = Path(__file__).parent / "data"
    for folder in (*((Path(root) / "vfusion3d", Path(root)) if root else ()), shipped / "vfusion3d"):
        file = folder / "config.json"
        if file.is_file() and "triplane_dim" in json.loads(file.read_text()):
            return folder
    raise FileNotFoundError("no VFusion3D parity set")


@cache
def sizes() -> dict:
    return json.loads((set_folder() / "config.json").read_text())


@pytest.fixture(scope="module")
def io():
    return load_file(set_folder() / "io.safetensors")


@pytest.fixture(scope="module")
def network(io):
    given = sizes()
    dino = given["dino"]
    config = VFusion3DConfig(
        encoder={
            "width": dino["hidden_size"],
            "layers": dino["num_hidden_layers"],
            "heads": dino["num_attention_heads"],
            "mlp_ratio": dino["mlp_ratio"],
            "patch": dino["patch_size"],
            "pretrain_size": dino["pretrain_image_size"],
            "eps": dino["layer_norm_eps"],
        },
        triplane={
            "width": given["transformer_dim"],
            "layers": given["transformer_layers"],
            "heads": given["transformer_heads"],
            "image_width": given["encoder_feat_dim"],
            "condition": given["camera_embed_dim"],
            "low_res": given["triplane_low_res"],
            "channels": given["triplane_dim"],
            "hidden": given["nerf_hidden"],
            "hidden_layers": given["nerf_layers"],
        },
        image_size=io["image"].shape[-1],
    )
    network = VFusion3DNetwork(config)
    network.load_state_dict(load_file(set_folder() / "weights.safetensors"))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def field(network, io):
    return TriplaneField(io["planes"][0], network.synthesizer.decoder, vf.to_world())


def test_the_image_encoder(network, io):
    assert_close(normalized(io["image"]), io["normalized_image"], **TOKENS)
    embedded = network.encoder.model.embeddings(io["normalized_image"])
    assert_close(embedded, io["dino_embeddings"], **TOKENS)
    tokens = network.image_tokens(io["image"])
    assert_close(tokens, io["image_tokens"], **TOKENS)
    assert (tokens - io["image_tokens_size_interp"]).abs().max() > 1e-3, "the set tells the two resizings apart"


def test_the_source_camera_and_the_planes(network, io):
    assert_close(vf.source_camera(), io["source_camera"], **CAMERA)
    assert_close(network.camera_embedder.mlp(io["source_camera"]), io["camera_embedding"], **TOKENS)
    assert_close(network(io["image"], io["source_camera"]), io["planes"], **PLANES)


def test_cameras_and_rays(io):
    extrinsics = vf.look_at_origin(io["camera_positions"])
    assert_close(extrinsics, io["camera_extrinsics_c2w"], **CAMERA)
    given = io["render_cameras"][0]
    assert_close(given[:, :16].view(-1, 4, 4)[:, :3], extrinsics, **CAMERA)
    focal, size = float(given[0, 16]), sizes()["render_size"]
    ours = vf.our_cameras(extrinsics, size, focal)
    origins, directions = camera_rays(ours)
    back = vf.to_world()
    assert_close((origins @ back).float(), io["ray_origins"], **CAMERA)
    assert_close((directions @ back).float(), io["ray_directions"], **CAMERA)
    inverse = invert_pose(ours.camera_to_world)
    assert_close(inverse[:, :3, 3].norm(dim=1), io["camera_positions"].norm(dim=1), **CAMERA)


def calls(io):
    """(name, its cameras): the renderer's calls of the set, in order of the cameras."""
    first, found = 0, []
    for name in ("near", "far"):
        count = len(io[f"{name}.u_coarse"])
        found.append((name, slice(first, first + count)))
        first += count
    assert first == len(io["ray_origins"])
    return found


@pytest.mark.parametrize("rays_per_chunk", [1 << 20, 77])
def test_renders_with_the_draws_given(field, io, rays_per_chunk):
    for name, cameras in calls(io):
        origins, directions = io["ray_origins"][cameras].flatten(0, 1), io["ray_directions"][cameras].flatten(0, 1)
        draws = RayDraws(io[f"{name}.u_coarse"].flatten(0, 1)[..., 0], io[f"{name}.u_fine"])
        rgb, depth, alpha = render_rays(field, origins, directions, draws, rays_per_chunk=rays_per_chunk, behind=True)
        for ours, kind in ((rgb, "rgb"), (depth[:, None], "depth"), (alpha[:, None], "weight")):
            expected = io[f"{name}.images_{kind}"][0].permute(0, 2, 3, 1)
            assert_close(ours.view(expected.shape), expected, **FIELD)


def test_views_of_our_cameras_are_those_renders(field, io):
    alone = [(name, cameras) for name, cameras in calls(io) if cameras.stop - cameras.start == 1]
    if not alone:
        pytest.skip("every call of the set renders several cameras together, which share their misses; we do not")
    name, cameras = alone[0]
    size, focal = sizes()["render_size"], float(io["render_cameras"][0, 0, 16])
    ours = vf.our_cameras(io["camera_extrinsics_c2w"][cameras], size, focal)
    draws = RayDraws(io[f"{name}.u_coarse"][0, :, :, 0], io[f"{name}.u_fine"])
    views = render_field(field, ours, draws=lambda view: draws, rays_per_chunk=100)
    assert_close(views.rgb.permute(0, 3, 1, 2)[None], io[f"{name}.images_rgb"], **FIELD)
    assert_close(views.depth[:, None][None], io[f"{name}.images_depth"], **FIELD)
    assert_close(views.alpha[:, None][None], io[f"{name}.images_weight"], **FIELD)


def test_density_and_color(field, io):
    for ask in (field.query, field.query_directly):
        raw, rgb = ask(io["points"][0])
        assert_close(field.activate(raw), io["points_sigma"][0, :, 0], **FIELD)
        assert_close(rgb, io["points_rgb"][0], **FIELD)


def mesh_of(io) -> str:
    """What the set's mesh tensors begin with: "mesh" and the lattice's size."""
    return next(name.removesuffix("_sigma") for name in io if re.fullmatch(r"mesh\d+_sigma", name))


def test_lattices(field, io):
    for expected in (io["grid_sigma"][0, ..., 0], io[f"{mesh_of(io)}_sigma"]):
        assert_close(field.activate(field.lattice(len(expected), 0, len(expected))), expected, **FIELD)
    side = len(io["grid_sigma"][0])
    axis = torch.linspace(-1, 1, side)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)
    assert_close(field.query(points)[1].view(1, side, side, side, 3), io["grid_rgb"], **FIELD)


def test_the_mesh_lies_where_theirs_does(field, io):
    """Vertices depend on the program; every one of theirs must be beside one of ours, and the colors be the field's."""
    pytest.importorskip("skimage")
    name = mesh_of(io)
    size, theirs = len(io[f"{name}_sigma"]), io[f"{name}_vertices"]
    mesh = field_to_mesh(field, size)
    ours = (mesh.vertices.double() @ vf.to_world()).float()  # back to the field's axes
    if float(theirs.max()) > 1.01:  # lattice indices
        theirs = theirs * (2 / (size - 1)) - 1
    gaps = torch.cdist(theirs, ours).amin(dim=1)
    cell = 2 / (size - 1)
    assert float(gaps.median()) < 0.02 * cell and float(gaps.quantile(0.99)) < 0.5 * cell
    assert_close(field.query(theirs)[1], io[f"{name}_vertex_rgb"], **FIELD)
