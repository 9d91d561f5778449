"""The parity set: reference tensors of a reduced-size FlashWorld, in ``data`` or where FLASHWORLD_PARITY_DIR says.

Nothing here or in the tests knows the set's sizes; they are read from its files.
"""

import json
import os
from functools import cache
from pathlib import Path

import pytest

from flashworld_core.generators.flashworld.config import FlashWorldConfig


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder with config.json and the safetensors files of the FlashWorld set."""
    root = Path(os.environ.get("FLASHWORLD_PARITY_DIR") or Path(__file__).parent / "data")
    for folder in (root / "flashworld", root):
        file = folder / "config.json"
        if file.is_file() and "feat_dim" in json.loads(file.read_text()):  # not the set of another generator
            return folder
    pytest.skip(f"no parity set at {root} (FLASHWORLD_PARITY_DIR)")


@pytest.fixture(scope="session")
def parity_json(parity_dir) -> dict:
    """The set's config.json as it is."""
    return json.loads((parity_dir / "config.json").read_text())


@pytest.fixture(scope="session")
def units_json(parity_dir) -> dict:
    """The set's units.json: parameters of the network-free vectors."""
    return json.loads((parity_dir / "units.json").read_text())


@pytest.fixture(scope="session")
def parity_config(parity_json) -> FlashWorldConfig:
    """The set's model as a config of ours."""
    return FlashWorldConfig(
        transformer=parity_json["transformer"],
        vae=parity_json["vae"],
        feature_channels=parity_json["feat_dim"],
        text_length=parity_json["text_len"],
        num_points=parity_json["num_points_per_pixel"],
        sh_degree=parity_json["sh_degree"],
        scale_range=parity_json["scale_range"],
        timestep_indices=parity_json["denoising_indices"],
        shift=float(parity_json["shift"]),
        views=parity_json["views"],
        height=parity_json["height"],
        width=parity_json["width"],
        model_id=f"parity-{parity_json.get('set', '')}",
    )


@pytest.fixture(scope="session")
def parity_tensors(parity_dir):
    """``parity_tensors(stem)``: the tensors of ``stem``.safetensors by name, read once."""
    from safetensors.torch import load_file

    return cache(lambda stem: load_file(parity_dir / f"{stem}.safetensors"))


@pytest.fixture(scope="session")
def parity_transformer(parity_config, parity_tensors):
    from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer

    model = FlashWorldTransformer(parity_config)
    model.load_state_dict(parity_tensors("transformer"))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def parity_encoder(parity_config, parity_tensors):
    from flashworld_core.models.wan_vae import FrameEncoder

    model = FrameEncoder(parity_config.vae)
    model.load_state_dict(parity_tensors("vae_encoder"))  # untrimmed, temporal convolutions included
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def parity_gaussian_decoder(parity_config, parity_tensors):
    from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder

    model = GaussianDecoder(parity_config)
    model.load_state_dict(parity_tensors("recon_decoder"))
    return model.eval().requires_grad_(False)
