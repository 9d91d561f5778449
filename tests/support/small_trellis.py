"""Small TRELLIS models in the forms they come in: published folder, single files, trainer's files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from flashworld_core.generators.trellis.networks import CLASSES, IMAGE_ENCODER, build
from flashworld_core.generators.trellis.pipeline import TrellisModel
from flashworld_core.generators.trellis.presets import TrellisConfig, nano_config

STEMS = {"structure_flow": "ss_flow_x", "structure_decoder": "ss_dec_x", "slat_flow": "slat_flow_x",
         "gaussian_decoder": "slat_dec_gs_x"}  # fmt: skip
KEYS = {"structure_flow": "sparse_structure_flow_model", "structure_decoder": "sparse_structure_decoder",
        "slat_flow": "slat_flow_model", "gaussian_decoder": "slat_decoder_gs"}  # fmt: skip


def small_model(config: TrellisConfig | None = None, seed: int = 0) -> TrellisModel:
    """A model with random weights, those that begin at zero filled too."""
    config = config or nano_config()
    torch.manual_seed(seed)
    modules = {part: build(part, config) for part in CLASSES}
    for module in modules.values():
        for parameter in module.parameters():
            if not bool(parameter.any()):
                torch.nn.init.normal_(parameter, std=0.05)
    return TrellisModel(config, modules, "test")


def args_of(part: str, config: TrellisConfig) -> dict:
    """The arguments of a network as a published .json has them."""
    values = dataclasses.asdict(getattr(config, part)) | {"use_fp16": True}
    if part != "gaussian_decoder":
        return values | ({} if part == "structure_decoder" else {"pe_mode": "ape"})
    inner = {"num_gaussians": "num_gaussians", "voxel_size": "voxel_size", "perturb_offset": "perturb_offset",
             "filter_2d": "2d_filter_kernel_size", "filter_3d": "3d_filter_kernel_size",
             "scaling_bias": "scaling_bias", "opacity_bias": "opacity_bias"}  # fmt: skip
    nested = {theirs: values.pop(ours) for ours, theirs in inner.items()}
    nested |= {"lr": dict(values.pop("rates")), "scaling_activation": "softplus"}
    return values | {"attn_mode": "swin", "representation_config": nested}


def published_folder(folder: Path, model: TrellisModel, pipeline: bool = True) -> Path:
    """Write a model as TRELLIS-image-large comes, with a mesh decoder that is not ours beside it."""
    place = folder / "ckpts" if pipeline else folder
    place.mkdir(parents=True, exist_ok=True)
    for part, stem in STEMS.items():
        state = {name: tensor.contiguous() for name, tensor in model.modules[part].state_dict().items()}
        save_file(state, place / f"{stem}.safetensors")
        (place / f"{stem}.json").write_text(json.dumps({"name": "X", "args": args_of(part, model.config)}))
    mesh = {"blocks.0.attn.to_qkv.weight": torch.zeros(3, 1), "upsample.0.out_layers.0.conv.weight": torch.zeros(1)}
    save_file(mesh, place / "slat_dec_mesh_x.safetensors")
    save_file(plain_encoder(model), folder / "image_encoder.safetensors")
    if pipeline:
        models = {key: f"ckpts/{STEMS[part]}" for part, key in KEYS.items()}
        models["slat_decoder_mesh"] = "ckpts/slat_dec_mesh_x"
        sampler = {"params": {"steps": 12, "cfg_strength": 7.5, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}}
        width = model.config.slat_flow.in_channels
        args = {"models": models, "sparse_structure_sampler": sampler, "slat_sampler": sampler,
                "slat_normalization": {"mean": [0.5] * width, "std": [2.0] * width}}  # fmt: skip
        (folder / "pipeline.json").write_text(json.dumps({"name": "TrellisImageTo3DPipeline", "args": args}))
    return folder


def plain_encoder(model: TrellisModel) -> dict[str, torch.Tensor]:
    """The image encoder in the original repository's layout: joint projections, plain names, a last norm."""
    from flashworld_core.models.dinov2 import plain_name

    state = {plain_name(n.removeprefix("model.")): t for n, t in model.modules[IMAGE_ENCODER].state_dict().items()}
    for name in [name for name in state if ".attn.q." in name]:
        parts = [state.pop(name.replace(".attn.q.", f".attn.{letter}.")) for letter in "qkv"]
        state[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    width = model.config.image_encoder.hidden_size
    return {n: t.contiguous() for n, t in state.items()} | {
        "norm.weight": torch.ones(width),
        "norm.bias": torch.ones(width),
    }


def cutout(size: int = 48, color=(200, 60, 40)):
    """An RGBA image of a disc."""
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill=(*color, 255))
    return image
