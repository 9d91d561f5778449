import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.cameras import camera_rays
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder, gaussians_from_raw, head_multipliers
from flashworld_core.geometry import quats_to_matrices
from flashworld_core.models.wan_vae import FrameDecoder


def camera_vectors(count, seed=0):
    """Random poses, lens and principal point, all different in x and y."""
    generator = torch.Generator().manual_seed(seed)
    quats = torch.randn(count, 4, generator=generator)
    intrinsics = torch.tensor([0.8, 1.1, 0.45, 0.55]) + 0.05 * torch.randn(count, 4, generator=generator)
    return torch.cat((quats, torch.randn(count, 3, generator=generator), intrinsics), 1)


def inputs(config, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, config.feature_channels, 2, 3, generator=generator)
    return features, torch.randn(count, config.latent_channels, 2, 3, generator=generator)


def test_untrained_head_is_gray_translucent_and_one_pixel_wide(small_config):
    config = small_config(num_points=3, sh_degree=1)
    decoder = GaussianDecoder(config)
    features, latents = inputs(config)
    raw = decoder(features, latents)
    assert torch.equal(raw, decoder(features * 7, latents))  # features have no say yet
    assert raw.shape == (2, config.gaussian_channels, 2 * config.head_factor, 3 * config.head_factor)
    cameras = camera_vectors(2)
    means, quats, scales, opacities, sh = decoder.gaussians_from_raw(raw, cameras)
    lead = (2, 3, 2 * config.head_factor, 3 * config.head_factor)
    assert means.shape == (*lead, 3) and quats.shape == (*lead, 4) and scales.shape == (*lead, 3)
    assert opacities.shape == lead and sh.shape == (*lead, 4, 3)
    assert_close(opacities, torch.full(lead, 0.1))
    assert_close(quats, torch.tensor([1.0, 0, 0, 0]).expand(*lead, 4))
    assert not sh.any()
    origins, directions = camera_rays(cameras, *lead[2:])
    expected = (origins[:, None, None] + directions)[:, None].expand_as(means)
    assert_close(means, expected)  # depth 1 on the pixel's own ray
    pixel = ((cameras[:, 7] / lead[3]) ** 2 + (cameras[:, 8] / lead[2]) ** 2).sqrt()
    assert_close(scales, pixel[:, None, None, None, None].expand_as(scales))


@pytest.mark.parametrize(("points", "degree"), [(2, 2), (1, 0), (3, 3)])
def test_twin_of_the_activations_number_by_number(points, degree):
    coefficients, rows, columns, low, high = (degree + 1) ** 2, 3, 4, 0.5, 8.0
    cameras = camera_vectors(2, seed=1)
    raw = torch.randn(2, points * (11 + 3 * coefficients), rows, columns, generator=torch.Generator().manual_seed(2))
    actual = gaussians_from_raw(raw, cameras, num_points=points, scale_range=(low, high))
    for n, p, row, column in ((0, 0, 0, 0), (1, points - 1, 2, 3), (0, points - 1, 1, 3), (1, 0, 2, 0)):
        values = raw[n].view(points, -1, rows, columns)[p, :, row, column].tolist()
        sh, (du, dv, depth, opacity), scale, quat = (
            values[: 3 * coefficients],
            values[3 * coefficients : 3 * coefficients + 4],
            values[-7:-4],
            values[-4:],
        )
        fx, fy, cx, cy = cameras[n, 7:].tolist()
        u, v = (column + 0.5) / (cx * columns) + du, (row + 0.5) / (cy * rows) + dv
        local = [(u - 1) * cx / fx, -(v - 1) * cy / fy, -1.0]
        length = math.sqrt(sum(x * x for x in local))
        rotation = quats_to_matrices(cameras[n, :4]).tolist()
        ray = [sum(a * b for a, b in zip(line, local, strict=True)) / length for line in rotation]
        distance = math.exp(depth)
        pixel = math.sqrt((fx / columns) ** 2 + (fy / rows) ** 2) * distance
        norm = math.sqrt(sum(x * x for x in quat))
        expected = (
            [o + distance * d for o, d in zip(cameras[n, 4:7].tolist(), ray, strict=True)],
            [x / norm for x in quat],
            [(low + (high - low) / (1 + math.exp(-x))) * pixel for x in scale],
            1 / (1 + math.exp(-opacity)),
            [sh[3 * k : 3 * k + 3] for k in range(coefficients)],
        )
        for tensor, value in zip(actual, expected, strict=True):
            assert_close(tensor[n, p, row, column], torch.tensor(value), rtol=1e-4, atol=1e-5)


def test_multipliers_for_any_points_and_degree(small_config):
    config = small_config(num_points=3, sh_degree=1)
    point = [1.0] * 3 + [0.5] * 9 + [0.01] * 2 + [1.0] * 9
    assert_close(head_multipliers(config), torch.tensor(point * 3))
    assert len(head_multipliers(small_config(sh_degree=0))) == 2 * 14


def test_multipliers_come_from_the_checkpoint(small_config):
    config = small_config()
    decoder = GaussianDecoder(config)
    state = decoder.state_dict()
    state["gs_head.lrs_mul"] = torch.full_like(state["gs_head.lrs_mul"], 2.0)
    state["gs_head.gs_proj.bias"] = torch.ones_like(state["gs_head.gs_proj.bias"])
    decoder.load_state_dict(state)
    assert_close(decoder(*inputs(config)), torch.full((2, config.gaussian_channels, 8, 12), 2.0))


def test_starts_from_a_vae_decoder(small_config):
    config = small_config()
    torch.manual_seed(0)
    vae, decoder = FrameDecoder(config.vae), GaussianDecoder(config)
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    decoder.load_vae_decoder(vae.state_dict())
    for name, tensor in decoder.state_dict().items():
        expected = vae.state_dict()[name] if name.startswith(("decoder", "post_quant")) else before[name]
        assert torch.equal(tensor, expected), name
    features, latents = inputs(config)
    seen = []
    vae.decoder.conv_out.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    decoder.gs_head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    vae(latents)
    decoder(features, latents)
    assert_close(*seen)


def test_refuses_other_vae_decoders(small_config):
    config = small_config()
    decoder = GaussianDecoder(config)
    state = FrameDecoder(config.vae).state_dict()
    with pytest.raises(FlashWorldError, match="missing.*decoder.conv_in.bias"):
        decoder.load_vae_decoder({k: v for k, v in state.items() if k != "decoder.conv_in.bias"})
    with pytest.raises(FlashWorldError, match="sizes"):
        decoder.load_vae_decoder(FrameDecoder(small_config(vae={"decoder_base_dim": 8}).vae).state_dict())


def test_every_parameter_learns(small_config):
    config = small_config()
    torch.manual_seed(0)
    decoder = GaussianDecoder(config)
    with torch.no_grad():  # past the first step, from which the head's zeros keep the rest
        torch.nn.init.normal_(decoder.gs_head.gs_proj.weight, std=0.05)
    gaussians = decoder.gaussians_from_raw(decoder(*inputs(config)), camera_vectors(2))
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in gaussians).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_half_precision_ends_in_single(small_config):
    config = small_config()
    torch.manual_seed(0)
    decoder = GaussianDecoder(config)
    torch.nn.init.normal_(decoder.gs_head.gs_proj.weight, std=0.05)
    expected = decoder(*inputs(config))
    with torch.autocast("cpu", torch.bfloat16):
        actual = decoder(*inputs(config))
        gaussians = decoder.gaussians_from_raw(actual, camera_vectors(2))
    assert actual.dtype == torch.float32
    assert (actual - expected).std() < 0.03 * expected.std()
    assert all(tensor.dtype == torch.float32 for tensor in gaussians)
    for tensor, twin in zip(gaussians, decoder.gaussians_from_raw(actual, camera_vectors(2)), strict=True):
        assert_close(tensor, twin)  # nothing in the activations is computed in half precision
    assert decoder.bfloat16()(*inputs(config)).dtype == torch.float32


def test_built_on_meta_and_filled_is_the_same_model(small_config):
    config = small_config()
    decoder = GaussianDecoder(config)
    with torch.device("meta"):
        empty = GaussianDecoder(config)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    empty.load_state_dict(decoder.state_dict(), assign=True)
    assert torch.equal(empty(*inputs(config)), decoder(*inputs(config)))


def test_refuses_what_does_not_fit(small_config):
    config = small_config()
    decoder = GaussianDecoder(config)
    features, latents = inputs(config)
    with pytest.raises(FlashWorldError, match="features"):
        decoder(features[:1], latents)
    with pytest.raises(FlashWorldError, match="Latents must be"):
        decoder(features, latents[:, 1:])
    raw = decoder(features, latents)
    with pytest.raises(FlashWorldError, match="do not fit"):
        decoder.gaussians_from_raw(raw, camera_vectors(3))
    with pytest.raises(FlashWorldError, match="do not fit"):
        gaussians_from_raw(raw, camera_vectors(2), num_points=3)


def test_scale_range_without_one_pixel_in_it(small_config):
    config = dataclasses.replace(small_config(), scale_range=(2.0, 4.0))
    raw = GaussianDecoder(config)(*inputs(config))
    assert torch.isfinite(raw).all()
