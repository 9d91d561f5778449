"""The reference weights as the published files would hold them, loaded through the checkpoint loader."""

import pytest
import torch
from safetensors.torch import save_file

from flashworld_core.checkpoints.identify import identify
from flashworld_core.checkpoints.open import open_weights
from flashworld_core.generators.flashworld.checkpoint import load
from flashworld_core.generators.flashworld.checkpoint_names import wan_transformer_name
from flashworld_core.generators.flashworld.export import convert


@pytest.fixture(scope="module")
def model_ckpt(parity_tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("parity") / "model.ckpt"
    torch.save({name: dict(parity_tensors(name)) for name in ("transformer", "recon_decoder")}, path)
    return path


def test_model_ckpt_loads_strictly(model_ckpt, parity_dir, parity_config, parity_tensors):
    model = load(model_ckpt, config=parity_config, vae=parity_dir / "vae_encoder.safetensors")
    for name, module in (("transformer", model.transformer), ("recon_decoder", model.decoder)):
        expected, state = parity_tensors(name), module.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
    untrimmed = parity_tensors("vae_encoder")
    for name, tensor in model.encoder.state_dict().items():
        source = untrimmed[name]
        assert torch.equal(tensor, source if source.shape == tensor.shape else source[:, :, -1:])


def test_converted_file_loads_without_config(model_ckpt, parity_dir, parity_config, parity_tensors, tmp_path):
    target = convert(model_ckpt, tmp_path / "model.safetensors", config=parity_config)
    model = load(target, vae=parity_dir / "vae_encoder.safetensors")
    assert model.config == parity_config
    expected = parity_tensors("transformer")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.transformer.state_dict().items())


def test_encoder_of_the_loaded_model(parity_dir, model_ckpt, parity_config, parity_tensors):
    model = load(model_ckpt, config=parity_config, vae=parity_dir / "vae_encoder.safetensors")
    image = parity_tensors("inputs")["image"]
    expected = parity_tensors("stages")["image_posterior_moments"]
    with torch.no_grad():
        moments = model.encoder.moments(image[None])
    torch.testing.assert_close(moments, expected.reshape(moments.shape), rtol=0, atol=1e-4)


def test_base_transformer_in_wans_names_is_recognized(parity_tensors, tmp_path):
    state = dict(parity_tensors("transformer"))
    assert len({wan_transformer_name(name) for name in state}) == len(state)
    save_file({wan_transformer_name(name): tensor for name, tensor in state.items()}, tmp_path / "wan.safetensors")
    assert identify(open_weights(tmp_path / "wan.safetensors")).name == "wan transformer"
