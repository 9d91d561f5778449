"""An encoder that starts as principal components computes exactly their coefficients."""

import dataclasses

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.presets import tiny_config
from flashworld_core.models.wan_vae import FrameEncoder
from flashworld_core.training.flashworld.linear_encoder import (
    partly_whitened,
    principal_components,
    start_linear,
)


def _config(**changes):
    z = changes["z_dim"]
    return dataclasses.replace(
        tiny_config().vae, num_res_blocks=1, latents_mean=(0.0,) * z, latents_std=(1.0,) * z, **changes
    )


SIZES = {
    "three levels of plain pixels": dict(
        z_dim=20, base_dim=14, dim_mult=(2, 4, 8, 8), temperal_downsample=(False,) * 3, patch_size=1,
        in_channels=3, out_channels=3, decoder_base_dim=8,
    ),
    "two levels of patches": dict(
        z_dim=16, base_dim=52, dim_mult=(1, 2, 2), temperal_downsample=(False, True), patch_size=2,
        in_channels=12, out_channels=12, decoder_base_dim=8,
    ),
    "one level": dict(
        z_dim=12, base_dim=16, dim_mult=(2, 2), temperal_downsample=(False,), patch_size=2,
        in_channels=12, out_channels=12, decoder_base_dim=8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_the_encoder_gives_the_coefficients(name):
    config = _config(**SIZES[name])
    size = config.patch_size * 2 ** (len(config.dim_mult) - 1)
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(30, 3, 8, 12), scale_factor=2, mode="bilinear") * 2 - 1
    images = images + 0.1 * torch.randn_like(images)
    components = principal_components(images, size, config.z_dim)
    encoder = FrameEncoder(config)
    start_linear(encoder, config, components)
    with torch.no_grad():
        got = encoder.moments(images)[:, : config.z_dim]
    blocks = images.unfold(2, size, size).unfold(3, size, size) - components.mean[:, None, None]
    expected = torch.einsum("ncyxij,zcij->nzyx", blocks, components.basis)
    assert (got - expected).abs().max() < 2e-3 * expected.abs().max()
    assert torch.allclose(expected.std((0, 2, 3)), components.deviation, rtol=0.02)


def test_whitening_in_part_has_mean_variance_one_and_keeps_the_order():
    deviation = torch.tensor([4.0, 1.0, 0.1])
    scaled = deviation / torch.tensor(partly_whitened(deviation, 0.5))
    assert torch.isclose(scaled.square().mean(), torch.tensor(1.0))
    assert scaled[0] > scaled[1] > scaled[2] > 0.1 / 4 * scaled[0]
    assert torch.allclose(deviation / torch.tensor(partly_whitened(deviation, 1.0)), torch.ones(3))


def test_too_narrow_and_too_many():
    narrow = _config(**(SIZES["one level"] | {"base_dim": 8}))
    with pytest.raises(FlashWorldError, match="widen"):
        start_linear(FrameEncoder(narrow), narrow, principal_components(torch.rand(10, 3, 8, 8), 4, 12))
    with pytest.raises(FlashWorldError, match="latent channels"):
        principal_components(torch.rand(1, 3, 8, 8), 4, 49)
