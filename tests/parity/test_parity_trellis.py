"""TRELLIS's networks, samplers and MDT-dist losses against reference tensors of reduced size.

The set is in ``data/trellis`` or, whole, where FLASHWORLD_PARITY_DIR says; what a set does not hold is skipped.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from flashworld_core.flow.guidance import Guidance, guided
from flashworld_core.flow.ode import TIME_SCALE, euler_samples
from flashworld_core.flow.schedule import ode_levels
from flashworld_core.generators.trellis.config import config_from_args
from flashworld_core.generators.trellis.gaussian_decoder import GaussianDecoder, offset_perturbation
from flashworld_core.generators.trellis.slat_flow import SlatFlow
from flashworld_core.generators.trellis.structure_flow import StructureFlow
from flashworld_core.generators.trellis.structure_vae import StructureDecoder, occupied
from flashworld_core.models.sparse import SparseLayout, SubmanifoldConv, downsample
from flashworld_core.training.objectives.mdt import VD, VM, MdtOptions, consistency_loss, mdt_loss

FORWARD, CONV, FEW_STEPS, MANY_STEPS, MDT = 1e-4, 1e-5, 1e-3, 2e-3, 2e-3
RUN = re.compile(r"(euler|cfg([\d.]+)|interval([\d.]+)_([\d.]+)_([\d.]+))\.s(\d+)\.r([\d.]+)\.samples")


@pytest.fixture(scope="module")
def folder() -> Path:
    root = Path(os.environ.get("FLASHWORLD_PARITY_DIR") or Path(__file__).parent / "data")
    for place in (root / "trellis", root):
        if (place / "configs.json").is_file():
            return place
    pytest.skip(f"no TRELLIS parity set at {root} (FLASHWORLD_PARITY_DIR)")


@pytest.fixture(scope="module")
def configs(folder):
    return json.loads((folder / "configs.json").read_text())


@pytest.fixture(scope="module")
def tensors(folder):
    from safetensors.torch import load_file

    @cache
    def read(stem):
        if not (folder / f"{stem}.safetensors").is_file():
            pytest.skip(f"the set holds no {stem}")
        return load_file(folder / f"{stem}.safetensors")

    return read


@pytest.fixture(scope="module")
def load(configs, tensors):
    """A network of the set with its weights; buffers a trimmed set leaves out are the network's own."""

    def make(kind, part, stem, weights=None):
        network = kind(config_from_args(part, configs[stem]))
        given = tensors(weights or f"{stem}.weights")
        missing, unexpected = network.load_state_dict(given, strict=False)
        assert set(missing) <= {"pos_emb", "offset_perturbation"} and not unexpected
        return network.eval().requires_grad_(False)

    return make


def close(actual, expected, atol):
    assert actual.shape == expected.shape
    error = float((actual - expected).abs().max())
    assert error <= atol, f"{error:.3g} > {atol}"


@pytest.mark.parametrize("stem", ["ss_flow", "ss_flow_patch2"])
def test_structure_flow(stem, load, tensors):
    network, io = load(StructureFlow, "structure_flow", stem), tensors(f"{stem}.io")
    if "pos_emb" in (weights := tensors(f"{stem}.weights")):
        fresh = StructureFlow(network.config).pos_emb
        close(fresh, weights["pos_emb"], 1e-6)
    close(network(io["x"], io["t"], io["cond"]), io["out"], FORWARD)
    if "t_embed" in io:
        close(network.t_embedder(io["t"]), io["t_embed"], FORWARD)


def test_structure_decoder(load, tensors):
    network, io = load(StructureDecoder, "structure_decoder", "ss_dec"), tensors("ss_dec.io")
    logits = network(io["z"])
    close(logits, io["logits"], FORWARD)
    assert torch.equal(occupied(logits), io["coords"].long())


def test_convolution_and_downsampling(load, tensors):
    io = tensors("slat_flow.io")
    layout = SparseLayout(io["coords"])
    weights = {n.removeprefix("input_blocks.0.conv1."): t for n, t in tensors("slat_flow.weights").items()
               if n.startswith("input_blocks.0.conv1.")}  # fmt: skip
    conv = SubmanifoldConv(weights["conv.weight"].shape[-1], len(weights["conv.weight"]))
    conv.load_state_dict(weights)
    with torch.no_grad():
        close(conv(io["subm_in"], layout), io["subm_out"], CONV)
    features, coarse = downsample(io["subm_in"], layout)
    assert torch.equal(coarse.coords, io["down_coords"].long())
    close(features, io["down_feats"], CONV)


def test_slat_flow(load, tensors):
    io = tensors("slat_flow.io")
    if "out_feats" not in io:
        pytest.skip("the trimmed set holds the convolution alone")
    network, layout = load(SlatFlow, "slat_flow", "slat_flow"), SparseLayout(io["coords"])
    seen = []
    for block in network.input_blocks:
        block.register_forward_hook(lambda _, args, out: seen.append(out))
    close(network(io["feats"], io["t"], io["cond"], layout), io["out_feats"], FORWARD)
    for number, (features, level) in enumerate(seen):
        close(features, io[f"block{number}_feats"], FORWARD)
        if f"block{number}_coords" in io:
            assert torch.equal(level.coords, io[f"block{number}_coords"].long())


def test_gaussian_decoder(load, tensors):
    network, io = load(GaussianDecoder, "gaussian_decoder", "slat_dec_gs"), tensors("slat_dec_gs.io")
    layout = SparseLayout(io["coords"])
    raw = network(io["feats"], layout)
    if "out_feats" in io:
        close(raw, io["out_feats"], FORWARD)
    for number in range(layout.samples):
        mine = layout.batch_index == number
        scene = network.activate(raw[mine], layout.coords[mine, 1:])
        for name, theirs in (("means", "xyz"), ("quats", "rotation"), ("scales", "scaling"), ("sh", "features_dc")):
            if f"g{number}.{theirs}" in io:
                close(getattr(scene, name), io[f"g{number}.{theirs}"], FORWARD)
        if f"g{number}.opacity" in io:
            close(scene.opacities, io[f"g{number}.opacity"][:, 0], FORWARD)


def test_offset_perturbation(configs, tensors):
    stem = "slat_dec_gs_perturbation32"
    args = configs[stem]
    made = offset_perturbation(args["num_gaussians"], args["voxel_size"])
    close(made, tensors(f"{stem}.io")["offset_perturbation"], 1e-6)


def check_samples(io, network, negative):
    runs = 0
    for key in io:
        if not (match := RUN.fullmatch(key)):
            continue
        cfg, strength, low, high, steps, shift = match.groups()[1:]
        guidance = Guidance(float(cfg)) if cfg else Guidance()
        if strength:
            guidance = Guidance(float(strength), float(low), float(high))
        levels = ode_levels(int(steps), float(shift))
        made = list(euler_samples(network, io["noise"], io["sampler_cond"], levels, guidance, negative))
        atol = FEW_STEPS if int(steps) <= 4 and not guidance.strength else MANY_STEPS
        close(made[-1].x, io[key], atol)
        for step in made:
            if (name := key.replace("samples", f"pred_x_0.{step.index}")) in io:
                close(step.data, io[name], atol)
        runs += 1
    assert runs


def test_structure_samples_and_schedules(load, tensors):
    network, io = load(StructureFlow, "structure_flow", "ss_flow"), tensors("ss_flow.io")
    for key, expected in io.items():
        if match := re.fullmatch(r"t_seq\.s(\d+)\.r([\d.]+)", key):
            levels = torch.tensor(ode_levels(int(match[1]), float(match[2])), dtype=torch.float64)
            close(levels, expected, 1e-12)
    check_samples(io, network, io["sampler_neg_cond"])


def test_slat_samples(load, tensors):
    io = tensors("slat_flow.io")
    if "noise_coords" not in io:
        pytest.skip("the trimmed set holds the convolution alone")
    network, layout = load(SlatFlow, "slat_flow", "slat_flow"), SparseLayout(io["noise_coords"])
    check_samples(io, lambda x, t, condition: network(x, t, condition, layout), None)


# --- MDT-dist ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(load, tensors):
    """Student and teacher of the losses, as fields."""
    student = load(StructureFlow, "structure_flow", "ss_flow").requires_grad_(True)
    teacher, io = load(StructureFlow, "structure_flow", "ss_flow", "mdt.teacher"), tensors("mdt.io")
    with torch.no_grad():
        teacher.pos_emb.copy_(student.pos_emb)

    def guided_teacher(x, t, strength):
        v = teacher(x, TIME_SCALE * t, io["cond"])
        return guided(v, teacher(x, TIME_SCALE * t, io["neg_cond"]), strength) if strength else v

    return student, lambda x, t: student(x, TIME_SCALE * t, io["cond"]), guided_teacher


def cases(io):
    return sorted({tuple(key.split(".")[:2]) for key in io if key.endswith(".loss")})


def test_losses_and_gradients(pair, configs, tensors):
    network, student, teacher = pair
    io, facts = tensors("mdt.io"), configs["mdt"]
    assert cases(io)
    for case, cfg in cases(io):
        options, key = facts["cases"][case], f"{case}.{cfg}"
        vm_guidance, vd_guidance = _guidance(cfg)
        network.zero_grad()
        data = (io["x_0"], io["noise"])
        if options["distill_type"] == "cm":
            terms = consistency_loss(student, teacher, *data, io["t"], interval=facts["interval"], guidance=vm_guidance)
        else:
            terms = mdt_loss(
                student, teacher, *data, io["noise_fake"], io["t"],
                MdtOptions(
                    derivative="exact" if options["distill_type"] == "continuous" else "finite",
                    interval=facts["interval"], norm="sample" if options["d_norm"] else "none",
                    norm_constant=facts["norm_constant"], vm_guidance=vm_guidance, vd_guidance=vd_guidance,
                    vd_weight=options.get("lambda_vd", 1.0),
                ),
            )  # fmt: skip
        terms.loss.backward()
        norm = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm()
        figures = {"loss": terms.loss.detach(), "grad_norm": norm}
        figures |= {f"loss_{name}": terms.values[name].detach() for name in terms.values}
        for name, value in figures.items():
            expected = float(io[f"{key}.{name}"])
            assert abs(float(value) - expected) <= MDT * abs(expected), (key, name)
        gradient, expected = network.out_layer.bias.grad, io[f"{key}.grad.out_layer.bias"]
        assert float((gradient - expected).abs().max()) <= MDT * float(expected.abs().max()), key
        for number, name in enumerate((VM, VD)):
            for kind, made in (("pred", terms.predictions), ("target", terms.targets)):
                if f"{key}.{kind}.{number}" in io:
                    theirs = io[f"{key}.{kind}.{number}"]
                    cropped = made[name].detach()[tuple(slice(0, side) for side in theirs.shape)]
                    assert float((cropped - theirs).abs().max()) <= MDT * float(theirs.abs().max()), (key, name, kind)


def _guidance(cfg):
    """(VM's, VD's) of "cfg40_100" or "cfg0"."""
    numbers = [float(n) for n in re.findall(r"[\d.]+", cfg)]
    return (numbers * 2)[:2]
