"""Each network of the parity set, fed with the stored input of every step."""

import re

import pytest
import torch
from torch.testing import assert_close

from flashworld_core.generators.flashworld import cameras as fw

STAGE = {"rtol": 0, "atol": 1e-4}
TIGHT = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="session")
def stages(parity_tensors):
    return parity_tensors("stages")


@pytest.fixture(scope="session")
def inputs(parity_tensors):
    return parity_tensors("inputs")


@pytest.fixture(scope="session")
def steps(stages, parity_config):
    numbers = sorted({int(match[1]) for key in stages if (match := re.match(r"step(\d+)/", key))})
    assert numbers == list(range(len(parity_config.timestep_indices)))
    return numbers


def test_cameras_and_raymaps(stages, inputs, parity_config):
    resampled = fw.resample_cameras(inputs["cameras_dense"], parity_config.views)
    assert_close(resampled, stages["cameras_interpolated"], **TIGHT)
    cameras, normalization = fw.normalize_cameras(stages["cameras_interpolated"])
    assert_close(
        fw.camera_to_world_matrices(cameras), fw.camera_to_world_matrices(stages["cameras_normalized"]), **TIGHT
    )
    assert_close(cameras[:, 7:], stages["cameras_normalized"][:, 7:], **TIGHT)
    assert_close(normalization.reference_world_to_camera, stages["ref_w2c"], **TIGHT)
    assert_close(normalization.translation_norm.reshape(1), stages["T_norm"], **TIGHT)
    maps = fw.raymaps(stages["cameras_normalized"], *parity_config.latent_size())
    assert_close(maps.movedim(0, 1), stages["raymaps"], **TIGHT)


def test_image_latent(stages, inputs, parity_encoder):
    moments = parity_encoder.moments(inputs["image"][None])
    assert_close(moments, stages["image_posterior_moments"][:, :, 0], **STAGE)
    noise = inputs["noise/image_posterior"][:, :, 0]
    assert_close(parity_encoder.encode(inputs["image"][None], noise), stages["image_latent"], **STAGE)


def test_encoded_renders(stages, inputs, steps, parity_encoder):
    rendered = [step for step in steps if f"step{step}/render_rgb" in stages]
    assert rendered == steps[:-1]
    for step in rendered:
        expected = stages[f"step{step}/render_posterior_moments"][:, :, 0]
        assert_close(parity_encoder.moments(stages[f"step{step}/render_rgb"]), expected, **STAGE)
        latents = parity_encoder.sample(expected, inputs[f"noise/render_posterior_{step}"][:, :, 0])
        assert_close(latents.movedim(0, 1)[None], stages[f"step{step}/latents_3d"], **TIGHT)


def test_transformer(stages, inputs, steps, parity_transformer):
    for step in steps:
        velocity, features = parity_transformer(
            stages[f"step{step}/transformer_in"], stages[f"step{step}/t"], inputs["text_embeds"]
        )
        assert_close(torch.cat((velocity, features), 1), stages[f"step{step}/transformer_out"], **STAGE)
        assert_close(velocity, stages[f"step{step}/v_pred"], **STAGE)


def test_transformer_without_image(stages, inputs, parity_config, parity_transformer):
    hidden = stages["step0/transformer_in"].clone()
    hidden[:, parity_config.input_layout["condition"]] = 0
    velocity, features = parity_transformer(hidden, stages["step0/t"], inputs["text_embeds"])
    assert_close(torch.cat((velocity, features), 1), stages["text_only/step0/transformer_out"], **STAGE)


def test_gaussians(stages, steps, parity_config, parity_encoder, parity_gaussian_decoder):
    layout = parity_config.output_layout
    for step in steps:
        latents = parity_encoder.unnormalize(stages[f"step{step}/latents_2d"])[0].movedim(1, 0)
        assert_close(latents, stages[f"step{step}/decoder_z"], **TIGHT)
        features = stages[f"step{step}/transformer_out"][0, layout["features"]].movedim(1, 0)
        raw = parity_gaussian_decoder(features, stages[f"step{step}/decoder_z"])
        means, quats, scales, opacities, sh = parity_gaussian_decoder.gaussians_from_raw(
            raw, stages["cameras_normalized"]
        )
        gaussians = torch.cat((means, opacities[..., None], scales, quats, sh.flatten(-2)), -1)
        if f"step{step}/gaussians" in stages:
            assert_close(gaussians, stages[f"step{step}/gaussians"], **STAGE)
        else:
            key = next(key for key in stages if key.startswith(f"step{step}/gaussians_flat_stride"))
            stride = int(key.rsplit("stride", 1)[1])
            assert_close(gaussians.flatten(0, 3)[::stride], stages[key], **STAGE)
        mean, std = stages[f"step{step}/gaussians_channel_mean"], stages[f"step{step}/gaussians_channel_std"]
        assert_close(gaussians.flatten(0, 3).mean(0), mean, **STAGE)
        assert_close(gaussians.flatten(0, 3).std(0), std, rtol=1e-3, atol=1e-4)


def record(model, names):
    """Outputs of the named submodules during the next forward pass, and a function that removes the hooks."""
    outputs, handles = {}, []
    for key, path in names.items():

        def keep(module, arguments, output, key=key):
            outputs[key] = [o.clone() for o in output] if isinstance(output, tuple) else output.clone()

        handles.append(model.get_submodule(path).register_forward_hook(keep))
    return outputs, lambda: [handle.remove() for handle in handles]


@pytest.fixture(scope="session")
def debug(parity_dir, parity_tensors):
    """(step, tensors) of every file of inner activations."""
    files = sorted(parity_dir.glob("debug_step*.safetensors"))
    if not files:
        pytest.skip("the set has no inner activations")
    return [(int(re.search(r"step(\d+)$", file.stem)[1]), parity_tensors(file.stem)) for file in files]


def transformer_path(name):
    """Submodule of the transformer behind a stored activation's name."""
    if match := re.fullmatch(r"block(\d+)(?:_(attn\d))?", name):
        return f"blocks.{match[1]}" + (f".{match[2]}" if match[2] else "")
    return {
        "patch_embedding": "patch_embedding",
        "temb": "condition_embedder.time_embedder",
        "timestep_proj": "condition_embedder.time_proj",
        "text": "condition_embedder.text_embedder",
        "timestep_sinusoid": "condition_embedder.timesteps_proj",
        "rope_cos": "rope",
        "rope_sin": "rope",
    }[name]


def test_inner_activations_of_the_transformer(debug, stages, inputs, parity_transformer):
    for step, tensors in debug:
        names = {key: transformer_path(key[4:]) for key in tensors if key.startswith("dit/")}
        outputs, remove = record(parity_transformer, names)
        try:
            parity_transformer(stages[f"step{step}/transformer_in"], stages[f"step{step}/t"], inputs["text_embeds"])
        finally:
            remove()
        assert outputs.keys() == names.keys()
        for key, output in outputs.items():
            if "rope" in key:
                output = output[key.endswith("sin")]
                assert_close(output.flatten(), tensors[key].flatten(), **TIGHT)
            else:
                assert_close(output, tensors[key], **STAGE)


def decoder_path(name):
    """Submodule of the 3DGS decoder behind a stored activation's name."""
    match = re.fullmatch(r"up_block(\d+)", name)
    return f"decoder.up_blocks.{match[1]}" if match else f"decoder.{name}"


def test_inner_activations_of_the_gaussian_decoder(debug, stages, parity_config, parity_gaussian_decoder):
    features_layout = parity_config.output_layout["features"]
    for step, tensors in debug:
        parsed = {key: re.fullmatch(r"dec/(.+)_frame(\d+)", key) for key in tensors if key.startswith("dec/")}
        outputs, remove = record(parity_gaussian_decoder, {key: decoder_path(m[1]) for key, m in parsed.items()})
        try:
            features = stages[f"step{step}/transformer_out"][0, features_layout].movedim(1, 0)
            parity_gaussian_decoder(features, stages[f"step{step}/decoder_z"])
        finally:
            remove()
        for key, match in parsed.items():
            frame = int(match[2])
            assert_close(outputs[key][frame : frame + 1], tensors[key][:, :, 0], **STAGE)
