"""A VFusion3D model small enough for tests, with random weights whose field has a surface."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from flashworld_core.checkpoints.manifest import Manifest
from flashworld_core.generators.vfusion3d.config import LICENSE, VFusion3DConfig
from flashworld_core.generators.vfusion3d.network import VFusion3DNetwork

SIZES = {
    "encoder": {"width": 24, "layers": 2, "heads": 3, "pretrain_size": 56},
    "triplane": {
        "width": 32, "layers": 2, "heads": 4, "image_width": 24, "condition": 16, "low_res": 4, "channels": 6,
        "hidden": 16,
    },
    "image_size": 70,
    "model_id": "vfusion3d-small",
}  # fmt: skip


def small_network(seed: int = 0) -> VFusion3DNetwork:
    """A network of `SIZES` whose densities lie on both sides of the meshes' threshold."""
    torch.manual_seed(seed)
    network = VFusion3DNetwork(VFusion3DConfig.from_dict(SIZES)).eval().requires_grad_(False)
    network.transformer.pos_embed.mul_(8)
    network.transformer.deconv.weight.mul_(8)
    net = network.synthesizer.decoder.net
    for layer in net[::2]:
        layer.weight.mul_(2)
    net[-1].weight[0] *= 30
    net[-1].bias[0] = -25.0  # most of the cube is empty
    return network


def state(network: VFusion3DNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def save_small_model(folder: Path, seed: int = 0) -> Path:
    """A safetensors file that carries its sizes."""
    manifest = Manifest("vfusion3d", json.loads(json.dumps(SIZES)), LICENSE)
    path = folder / "small_vfusion3d.safetensors"
    save_file(state(small_network(seed)), path, metadata=manifest.metadata())
    return path
