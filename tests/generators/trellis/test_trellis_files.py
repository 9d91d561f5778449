"""TRELLIS's files: full-size names and shapes, every form a model comes in, and wrong files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_trellis import STEMS, cutout, plain_encoder, published_folder, small_model

from flashworld_core.checkpoints.assign import expected_shapes, target_dtype
from flashworld_core.checkpoints.identify import generator_of, identify
from flashworld_core.checkpoints.open import open_weights
from flashworld_core.errors import FlashWorldError
from flashworld_core.generators import open_model
from flashworld_core.generators.base import Request, ViewImage
from flashworld_core.generators.trellis.blocks import KEEP_FLOAT32
from flashworld_core.generators.trellis.checkpoint import open_checkpoint
from flashworld_core.generators.trellis.config import config_from_args
from flashworld_core.generators.trellis.export import save_model
from flashworld_core.generators.trellis.networks import CLASSES
from flashworld_core.generators.trellis.presets import official_config
from flashworld_core.generators.trellis.structure_vae import StructureEncoder
from flashworld_core.models.dinov2 import load_image_encoder

MANIFEST = json.loads((Path(__file__).parents[2] / "data" / "trellis_manifest.json").read_text())["files"]
DTYPES = {"F32": torch.float32, "F16": torch.float16}
PARTS = {
    "ss_flow_img_dit_L_16l8_fp16": "structure_flow",
    "ss_dec_conv3d_16l8_fp16": "structure_decoder",
    "slat_flow_img_dit_L_64l8p2_fp16": "slat_flow",
    "slat_dec_gs_swin8_B_64l8gs32_fp16": "gaussian_decoder",
}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize("stem", PARTS)
def test_full_size_names_shapes_and_precisions(stem):
    facts, part = MANIFEST[stem], PARTS[stem]
    config = config_from_args(part, facts["args"])
    assert config == getattr(official_config(), part)
    with torch.device("meta"):
        shapes = expected_shapes(CLASSES[part](config))
    assert shapes == {name: tuple(shape) for name, (_, shape) in facts["tensors"].items()}
    for name, (dtype, _) in facts["tensors"].items():
        assert target_dtype(name, torch.float16, torch.float16, KEEP_FLOAT32) == DTYPES[dtype], name


def test_the_structure_encoder_has_the_published_names():
    facts = MANIFEST["ss_enc_conv3d_16l8_fp16"]
    values = facts["args"] | {"out_channels": facts["args"]["in_channels"]}
    values.pop("in_channels")
    with torch.device("meta"):
        shapes = expected_shapes(StructureEncoder(config_from_args("structure_decoder", values)))
    assert shapes == {name: tuple(shape) for name, (_, shape) in facts["tensors"].items()}


def load(path, model, **options):
    """Load with the model's image encoder: the published one is larger than the small models'."""
    return open_model(path).load(parts={"image_encoder": model.modules["image_encoder"]}, **options)


def same_weights(loaded, model):
    for part, module in model.modules.items():
        theirs = loaded.modules[part].state_dict()
        for name, tensor in module.state_dict().items():
            assert torch.equal(theirs[name], tensor), (part, name)


def test_a_published_folder(model, tmp_path):
    folder = published_folder(tmp_path / "TRELLIS-image-large", model)
    assert generator_of(folder) == "trellis"
    opened = open_model(folder)
    assert opened.info.license.startswith("MIT") and opened.info.steps == 12 and opened.compute_dtype == "float16"
    loaded = load(folder, model)
    same_weights(loaded, model)
    assert loaded.config.guidance == (7.5, 7.5) and loaded.config.slat_std == (2.0,) * 6
    assert loaded.dtype == torch.float32  # float16 is for graphics cards
    assert load(folder, model, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_single_files_and_a_part_of_them(model, tmp_path):
    folder = published_folder(tmp_path / "files", model, pipeline=False)
    same_weights(load(folder, model), model)
    same_weights(load(folder / f"{STEMS['slat_flow']}.safetensors", model), model)
    (folder / f"{STEMS['slat_flow']}.safetensors").unlink()
    with pytest.raises(FlashWorldError, match="lacks TRELLIS's slat flow; give the folder"):
        open_model(folder)


@pytest.mark.parametrize("wrapping", ["", "module.", "denoiser."])
def test_distilled_flows_of_a_trainer(model, tmp_path, wrapping):
    folder, other = published_folder(tmp_path / "m", model), small_model(seed=5)
    files = {}
    for part in ("structure_flow", "slat_flow"):
        state = {wrapping + n: t for n, t in other.modules[part].state_dict().items() if n != "pos_emb"}
        if wrapping == "denoiser.":  # both the trained and the averaged weights
            state = {"model": {k: torch.zeros_like(t) for k, t in state.items()}, "ema": state, "step": 6000}
        files[part] = folder / f"{part}_step6000.pt"
        torch.save(state, files[part])
    opened = open_model(files["structure_flow"])
    assert opened.info.steps == 2 and "few-step" in opened.info.license
    loaded = load(files["structure_flow"], model)
    assert loaded.config.distilled
    for part, source in (("structure_flow", other), ("slat_flow", other), ("gaussian_decoder", model)):
        for name, tensor in source.modules[part].state_dict().items():
            assert torch.equal(loaded.modules[part].state_dict()[name], tensor), (part, name)


def test_a_folder_of_ours_is_smaller_and_the_same(model, tmp_path):
    save_model(tmp_path / "own", model.config, model.modules, dtype=torch.float16, license="free",
               compute_dtype="float32")  # fmt: skip
    loaded = open_model(tmp_path / "own").load()
    assert loaded.license == "free" and loaded.config == model.config and loaded.dtype == torch.float32
    request = Request(None, (ViewImage(cutout()),))
    assert (loaded.generate(request).gaussians.means - model.generate(request).gaussians.means).abs().max() < 0.05
    target = open_model(tmp_path / "own").convert(tmp_path / "one.safetensors", "fp32")
    same_weights(open_model(target).load(), loaded)


@pytest.mark.parametrize("layout", ["original", "transformers 4", "own"])
def test_image_encoders_of_three_layouts(model, tmp_path, layout):
    encoder = model.modules["image_encoder"]
    state = plain_encoder(model)
    if layout == "transformers 4":
        pieces = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value",
                  "o_proj": "output.dense"}  # fmt: skip
        state = {}
        for name, tensor in encoder.model.state_dict().items():
            for ours, theirs in pieces.items():
                name = name.replace(f"attention.{ours}", f"attention.{theirs}")
            state[name] = tensor.contiguous()
    elif layout == "own":
        state = {n: t.contiguous() for n, t in encoder.model.state_dict().items()}
    save_file(state, tmp_path / "e.safetensors")
    loaded = load_image_encoder(tmp_path / "e.safetensors", model.config.image_encoder)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_wrong_files_are_named(model, tmp_path):
    folder = published_folder(tmp_path / "m", model)
    assert identify(open_weights(folder / "ckpts/slat_dec_mesh_x.safetensors")).generator == ""
    with pytest.raises(FlashWorldError, match="mesh decoder, which is not used here; give the folder"):
        open_model(folder / "ckpts/slat_dec_mesh_x.safetensors")
    (folder / "image_encoder.safetensors").unlink()
    with pytest.raises(FlashWorldError, match="needs its image encoder, .*dinov2_vitl14_reg4"):
        open_model(folder).load()
    plain_encoder_without = {n: t for n, t in plain_encoder(model).items() if n != "register_tokens"}
    save_file(plain_encoder_without, tmp_path / "no_registers.safetensors")
    with pytest.raises(FlashWorldError, match="not a DINOv2 with registers"):
        open_model(folder).load(parts={"image_encoder": tmp_path / "no_registers.safetensors"})
    file = folder / f"ckpts/{STEMS['structure_flow']}.safetensors"
    state = load_file(file)
    state["out_layer.weight"] = state["out_layer.weight"][:4].clone()
    save_file(state, file)
    with pytest.raises(FlashWorldError, match="structure flow of TRELLIS: 1 of another shape"):
        open_model(folder).load(parts={"image_encoder": model.modules["image_encoder"]})
    pipeline = json.loads((folder / "pipeline.json").read_text())
    pipeline["args"]["models"]["slat_flow_model"] = "../../elsewhere"
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    with pytest.raises(FlashWorldError, match="not in its folder"):
        open_checkpoint(folder)
