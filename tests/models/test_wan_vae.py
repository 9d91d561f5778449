import itertools

import pytest
import torch
from small_configs import diffusers_vae
from torch.nn import functional as F
from torch.testing import assert_close

from flashworld_core.errors import FlashWorldError
from flashworld_core.models import wan_vae_blocks
from flashworld_core.models.wan_vae import FrameDecoder, FrameEncoder
from flashworld_core.models.wan_vae_blocks import (
    ChannelRMSNorm,
    Upsample,
    average_shortcut,
    duplicate_shortcut,
    patchify,
    unpatchify,
)

VAES = {
    "two halvings": {},
    "official depth": {"dim_mult": (1, 2, 4, 4), "temperal_downsample": (False, True, True), "num_res_blocks": 2},
    "no pixel patches": {"patch_size": None, "in_channels": 3, "out_channels": 3},
    "widening without time": {"dim_mult": (1, 2, 2), "temperal_downsample": (False, False)},
    "time without widening": {"dim_mult": (1, 1, 2, 1), "temperal_downsample": (True, True, True)},
}


def wan_vae(config):
    """diffusers' causal video VAE with weights large enough that every path shows."""
    torch.manual_seed(3)
    vae = diffusers_vae(config.vae).requires_grad_(False)
    for parameter in vae.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return vae


def images(config, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, config.height, config.width, generator=generator) * 2 - 1


@pytest.mark.parametrize("vae", VAES.values(), ids=VAES)
def test_twin_of_the_causal_video_vae_on_single_frames(small_config, vae):
    config = small_config(vae=vae, height=32, width=48)
    video = wan_vae(config)
    encoder, decoder = FrameEncoder(config.vae), FrameDecoder(config.vae)
    encoder.load_state_dict({k: v for k, v in video.state_dict().items() if k.startswith(("encoder", "quant"))})
    decoder.load_state_dict({k: v for k, v in video.state_dict().items() if k.startswith(("decoder", "post"))})

    x = images(config)
    expected = torch.cat([video.encode(image[None, :, None]).latent_dist.parameters for image in x])[:, :, 0]
    moments = encoder.moments(x)
    assert_close(moments, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))
    assert moments.shape[2:] == (32 // config.spatial_factor, 48 // config.spatial_factor)

    z = torch.randn(2, config.latent_channels, 4, 6, generator=torch.Generator().manual_seed(1))
    expected = torch.cat([video.decode(latent[None, :, None]).sample for latent in z])[:, :, 0]
    assert (expected.abs() < 1).float().mean() > 0.2  # not all clamped
    assert_close(decoder(z).clamp(-1, 1), expected, rtol=0, atol=2e-5)


def test_own_state_dict_is_trimmed_and_loads_again(small_config):
    config = small_config()
    untrimmed = {k: v for k, v in wan_vae(config).state_dict().items() if k.startswith(("encoder", "quant"))}
    encoder = FrameEncoder(config.vae)
    encoder.load_state_dict(untrimmed)
    own = encoder.state_dict()
    assert set(own) == {name for name in untrimmed if ".time_conv." not in name}
    assert len(own) < len(untrimmed)
    for name, tensor in own.items():
        if tensor.ndim == 5:
            assert torch.equal(tensor, untrimmed[name][:, :, -1:])
            # Not a view into the untrimmed kernel, which would stay in memory.
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    with torch.device("meta"):
        again = FrameEncoder(config.vae)
    again.load_state_dict(untrimmed, assign=True)
    x = images(config)
    assert torch.equal(again.moments(x), encoder.moments(x))
    for parameter in again.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()
    with pytest.raises(RuntimeError, match="Unexpected key.*surplus"):
        encoder.load_state_dict(own | {"encoder.surplus": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch.*conv_in"):
        encoder.load_state_dict(own | {"encoder.conv_in.weight": torch.zeros(4, 12, 1, 5, 5)})


def test_frames_do_not_see_each_other(small_config):
    encoder = FrameEncoder(small_config().vae)
    x = images(small_config(), count=3)
    alone = torch.cat([encoder.moments(image[None]) for image in x])
    assert_close(encoder.moments(x), alone, rtol=0, atol=1e-5)


def test_posterior_samples(small_config):
    config = small_config()
    encoder = FrameEncoder(config.vae)
    moments = torch.randn(2, 2 * config.latent_channels, 2, 3)
    moments[:, config.latent_channels :] *= 30  # beyond both clamps
    noise = torch.randn(2, config.latent_channels, 2, 3)
    std = torch.tensor(config.vae.latents_std)[:, None, None]
    mean = torch.tensor(config.vae.latents_mean)[:, None, None]
    spread = moments[:, config.latent_channels :].clamp(-30, 20).mul(0.5).exp() * noise
    expected = (moments[:, : config.latent_channels] + spread - mean) / std
    assert_close(encoder.sample(moments, noise), expected)
    assert_close(encoder.sample(moments), (moments[:, : config.latent_channels] - mean) / std)
    x = images(config)
    assert torch.equal(encoder.encode(x), encoder(x))
    assert torch.equal(encoder.encode(x), encoder.sample(encoder.moments(x)))


def test_normalization_and_its_inverse(small_config):
    config = small_config()
    encoder = FrameEncoder(config.vae)
    latents = torch.randn(1, config.latent_channels, 3, 2, 4)
    normalized = encoder.normalize(latents)
    for i, (mean, std) in enumerate(zip(config.vae.latents_mean, config.vae.latents_std, strict=True)):
        assert_close(normalized[:, i], (latents[:, i] - mean) / std)
    assert_close(encoder.unnormalize(normalized), latents)
    last = encoder.normalize(latents.movedim(1, -1), channel_dim=-1)
    assert_close(last.movedim(-1, 1), normalized)


def test_every_parameter_learns(small_config):
    config = small_config()
    encoder, decoder = FrameEncoder(config.vae), FrameDecoder(config.vae)
    noise = torch.randn(2, config.latent_channels, 4, 6)
    latents = encoder.unnormalize(encoder.encode(images(config), noise))
    decoder(latents).square().mean().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_half_precision_stays_close(small_config):
    config = small_config()
    encoder = FrameEncoder(config.vae)
    x = images(config)
    expected = encoder.moments(x)
    with torch.autocast("cpu", torch.bfloat16):
        actual = encoder.moments(x)
    assert (actual.float() - expected).std() < 0.05 * expected.std()
    assert encoder.bfloat16().encode(x).dtype == torch.float32
    assert (encoder.moments(x).float() - expected).std() < 0.05 * expected.std()


def test_refuses_images_it_cannot_divide(small_config):
    encoder = FrameEncoder(small_config().vae)
    for shape in ((1, 4, 32, 32), (3, 32, 32), (1, 3, 32, 36)):
        with pytest.raises(FlashWorldError, match="multiples of 8"):
            encoder.moments(torch.zeros(shape))


# --- building blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_subpixel_upsampling_is_nearest_upsampling_and_convolution(size):
    torch.manual_seed(0)
    block = Upsample(7).double()
    x = torch.randn(2, 7, *size, dtype=torch.float64)
    gradients = []
    for function in (block, block.reference):
        block.zero_grad()
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        (y * torch.arange(y.numel(), dtype=y.dtype).view(y.shape)).mean().backward()
        gradients.append([y, leaf.grad, *(parameter.grad for parameter in block.parameters())])
    for fast, slow in zip(*gradients, strict=True):
        assert_close(fast, slow)


@pytest.mark.parametrize(
    ("channels", "out", "time", "space"),
    [c for c in itertools.product((4, 8), (2, 4, 8), (1, 2), (1, 2)) if c[0] * c[2] * c[3] ** 2 % c[1] == 0],
)
def test_average_shortcut_is_the_video_vaes(channels, out, time, space):
    from diffusers.models.autoencoders.autoencoder_kl_wan import AvgDown3D

    x = torch.randn(2, channels, 4, 6)
    expected = AvgDown3D(channels, out, factor_t=time, factor_s=space)(x[:, :, None])[:, :, 0]
    assert_close(average_shortcut(x, out, time_factor=time, space_factor=space), expected)


@pytest.mark.parametrize(
    ("channels", "out", "time"),
    [c for c in itertools.product((2, 4, 8), (2, 4, 8), (1, 2)) if c[1] * c[2] * 4 % c[0] == 0],
)
def test_duplicate_shortcut_is_the_video_vaes(channels, out, time):
    from diffusers.models.autoencoders.autoencoder_kl_wan import DupUp3D

    x = torch.randn(2, channels, 3, 5)
    expected = DupUp3D(channels, out, factor_t=time, factor_s=2)(x[:, :, None], first_chunk=True)[:, :, 0]
    assert torch.equal(duplicate_shortcut(x, out, time_factor=time), expected)


def test_pixel_patches_have_the_column_as_slower_index():
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    y = patchify(x, 2)
    for c, column, row in itertools.product(range(3), range(2), range(2)):
        assert torch.equal(y[:, c * 4 + column * 2 + row], x[:, c, row::2, column::2])
    assert torch.equal(unpatchify(y, 2), x)
    assert patchify(x, 1) is x


def test_rms_norm_of_channels():
    norm = ChannelRMSNorm(5)
    with torch.no_grad():
        norm.gamma.copy_(torch.randn(5, 1, 1, 1))
    x = torch.randn(2, 5, 3, 4)
    x[0, :, 0, 0] = 0  # a black pixel stays black
    expected = F.normalize(x, dim=1) * 5**0.5 * norm.gamma.view(5, 1, 1)
    assert_close(norm(x), expected)
    assert_close(norm(x * 1e-6), expected)  # independent of scale


@pytest.mark.parametrize("upcasts", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rms_norm_in_half_precision(monkeypatch, dtype, upcasts):
    monkeypatch.setattr(wan_vae_blocks, "_RMS_NORM_UPCASTS", upcasts)
    x = torch.randn(2, 640, 3, 4) * 300  # squares overflow half precision
    x[0, :, 0, 0] = 0
    expected = ChannelRMSNorm(640)(x.to(dtype).float())
    actual = ChannelRMSNorm(640)(x.to(dtype))
    assert actual.dtype == dtype
    assert_close(actual.float(), expected, rtol=0.01, atol=1e-3)
