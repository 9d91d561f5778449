"""Network-free parity vectors: cameras, rays, quaternions, Gaussian head, rotary and time tables, VAE shortcuts."""

import dataclasses
import re

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from flashworld_core.generators.flashworld import cameras as fw
from flashworld_core.generators.flashworld.gaussian_decoder import (
    gaussians_from_raw,
    head_initial_bias,
    head_multipliers,
)
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.models.wan_vae_blocks import average_shortcut, duplicate_shortcut, patchify, unpatchify

TIGHT = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="session")
def units(parity_tensors):
    return parity_tensors("units")


def camera_sets(units):
    """Names of the camera examples in the set."""
    names = sorted({match[1] for key in units if (match := re.match(r"cam/(.+)/cameras$", key))})
    assert names
    return names


def assert_cameras_close(actual, expected, *, angle=1e-5, atol=1e-5):
    """Camera vectors equal up to the sign of the quaternion; ``angle`` in radians."""
    assert_close(actual[..., 4:], expected[..., 4:], rtol=0, atol=atol)
    a, b = (F.normalize(c[..., :4].double(), dim=-1) for c in (actual, expected))
    distance = torch.minimum((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    assert 2 * distance.max() < angle


def test_normalized_cameras(units):
    for name in camera_sets(units):
        cameras, normalization = fw.normalize_cameras(units[f"cam/{name}/cameras"])
        assert_cameras_close(cameras, units[f"cam/{name}/normalized"])
        assert (cameras[:, 0] >= 0).all()
        assert_close(normalization.reference_world_to_camera, units[f"cam/{name}/ref_w2c"], **TIGHT)
        assert_close(normalization.translation_norm.reshape(1), units[f"cam/{name}/T_norm"], **TIGHT)


def test_resampled_cameras(units):
    for name in camera_sets(units):
        cameras = units[f"cam/{name}/cameras"]
        keys = [key for key in units if key.startswith(f"cam/{name}/interp")]
        assert keys
        for key in keys:
            resampled = fw.resample_cameras(cameras, units[key].shape[0])
            # Between nearly equal poses the slerp angle hangs on the last bit of a dot product.
            assert_cameras_close(resampled, units[key], angle=1e-3)
            error = (resampled[:, :4] - units[key][:, :4]).abs().amax(-1)
            assert error.median() < 1e-5


def test_raymaps(units, units_json):
    for name in camera_sets(units):
        views, size = units_json[name]["raymap_views"], units_json[name]["raymap_hw"]
        maps = fw.raymaps(units[f"cam/{name}/normalized"][views], *size)
        assert_close(maps.movedim(1, -1), units[f"cam/{name}/raymaps"], **TIGHT)


def test_video_cameras(units, units_json):
    for name in camera_sets(units):
        cameras, facts = units[f"cam/{name}/cameras"], units_json[name]
        frames_per_view, rest = divmod(facts["video_frames"] - 1, len(cameras) - 1)
        assert rest == 0
        _, normalization = fw.normalize_cameras(cameras)
        video = fw.video_cameras(cameras, normalization, frames_per_view=frames_per_view)
        assert len(video) == facts["video_frames"]
        expected = units[f"cam/{name}/video_cameras_normalized_sel"]
        assert_cameras_close(video[facts["video_sel"]], expected, angle=1e-3)


def test_quaternions(units):
    assert_close(fw.quats_to_matrices(units["quat/in"]), units["quat/matrix"], **TIGHT)
    assert_close(fw.matrices_to_quats(units["quat/matrix"]), units["quat/back"], **TIGHT)


@pytest.fixture
def head_config(units, parity_config):
    """The parity config with the points and the SH degree of the stored head."""
    _, points, _, _, channels = units["gs/out"].shape
    degree = {1: 0, 4: 1, 9: 2, 16: 3}[(channels - 11) // 3]
    return dataclasses.replace(parity_config, num_points=points, sh_degree=degree)


def test_head_constants(units, head_config):
    assert_close(head_multipliers(head_config), units["gs/lrs_mul"], rtol=0, atol=0)
    assert_close(head_initial_bias(head_config) / head_multipliers(head_config), units["gs/init_bias"], **TIGHT)


def test_head_rays(units):
    offset = units["gs/uv_offset"]
    origins, directions = fw.camera_rays(units["gs/cameras"], *offset.shape[-3:-1], offset)
    assert_close(directions, units["gs/rays_d"], **TIGHT)
    assert_close(origins[:, None, None, None].expand_as(directions), units["gs/rays_o"], **TIGHT)


def test_head_gaussians(units, head_config):
    factors = head_multipliers(head_config)
    raw = F.conv2d(
        units["gs/x"], units["gs/weight"] * factors[:, None, None, None], units["gs/bias"] * factors, padding=1
    )
    means, quats, scales, opacities, sh = gaussians_from_raw(
        raw, units["gs/cameras"], num_points=head_config.num_points, scale_range=head_config.scale_range
    )
    actual = torch.cat((means, opacities[..., None], scales, quats, sh.flatten(-2)), -1)
    assert_close(actual, units["gs/out"], rtol=1e-5, atol=1e-4)


def test_rotary_tables(units, units_json, parity_config):
    keys = [key for key in units if key.startswith("rope/cos_")]
    assert keys
    for key in keys:
        frames, rows, columns = (int(n) for n in re.match(r"rope/cos_(\d+)x(\d+)x(\d+)", key).groups())
        expected = {name: units[key.replace("cos", name, 1)] for name in ("cos", "sin")}
        width = expected["cos"].shape[-1]
        small = {"num_attention_heads": 1, "num_layers": 1, "attention_head_dim": width, "rope_max_seq_len": 1024}
        config = dataclasses.replace(parity_config, transformer=dataclasses.asdict(parity_config.transformer) | small)
        with torch.device("meta"):
            model = FlashWorldTransformer(config)
        _, p, q = config.patch_size
        tables = model.rope(torch.zeros(1, 1, frames, rows * p, columns * q))
        for name, table in zip(("cos", "sin"), tables, strict=True):
            table = table.reshape(-1, width)
            if key.endswith("_rows"):
                assert len(table) == units_json["rope"]["tokens"]
                table = table[units_json["rope"]["rows"]]
            assert_close(table, expected[name].reshape(-1, width), **TIGHT)


def test_time_sinusoid(units, parity_config):
    keys = [key for key in units if key.startswith("time/sinusoid")]
    assert keys
    for key in keys:
        small = {"num_layers": 1, "freq_dim": units[key].shape[-1]}
        config = dataclasses.replace(parity_config, transformer=dataclasses.asdict(parity_config.transformer) | small)
        with torch.device("meta"):
            model = FlashWorldTransformer(config)
        # The sinusoid of t = 1000 moves by 3e-5 with the last bit of a single-precision frequency.
        assert_close(model.condition_embedder.timesteps_proj(units["time/t"]), units[key], rtol=0, atol=1e-4)


def test_patchify(units):
    x, expected = units["vae/patchify_in"][:, :, 0], units["vae/patchify_out"][:, :, 0]
    patch = x.shape[-1] // expected.shape[-1]
    assert torch.equal(patchify(x, patch), expected)
    assert torch.equal(unpatchify(expected, patch), x)


def test_shortcuts(units, units_json):
    names = [key.removesuffix("_in") for key in units if re.match(r"vae/(avgdown|dupup)_.*_in$", key)]
    assert names
    for name in names:
        x, expected, facts = units[f"{name}_in"][:, :, 0], units[f"{name}_out"][:, :, 0], units_json[name]
        if "avgdown" in name:
            actual = average_shortcut(x, facts["cout"], time_factor=facts["factor_t"], space_factor=facts["factor_s"])
        else:
            actual = duplicate_shortcut(x, facts["cout"], time_factor=facts["factor_t"])
        assert_close(actual, expected, rtol=0, atol=1e-6)
