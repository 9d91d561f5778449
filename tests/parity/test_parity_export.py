"""The official exporter's PLY rows: read by us, they give the Gaussians they were made from, in our frame."""

import re

import numpy as np
import pytest
import torch

from flashworld_core.formats.scenes.ply import ply_info, read_ply, write_ply
from flashworld_core.gaussians import Gaussians
from flashworld_core.ops.select import prune
from flashworld_core.ops.transform import transform

HALF_TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # OpenGL world (y up) to ours


def official_gaussians(rows, t_norm):
    """The exported scene of rows [..., 11 + 3K]: xyz, opacity, scale, quaternion wxyz, coefficient-major SH."""
    rows = rows.reshape(-1, rows.shape[-1])
    scene = Gaussians(rows[:, :3], rows[:, 7:11], rows[:, 4:7], rows[:, 3], rows[:, 11:].reshape(len(rows), -1, 3))
    return transform(scene, scale=float(t_norm))


def official_columns(scene):
    """Property name to values of the official PLY for a scene in its own OpenGL world."""
    columns = {name: scene.means[:, i] for i, name in enumerate("xyz")}
    flat = scene.sh.flatten(1)
    columns |= {f"f_dc_{i}": flat[:, i] for i in range(flat.shape[1])}
    columns["opacity"] = torch.log(scene.opacities / (1 - scene.opacities))
    columns |= {f"scale_{i}": torch.log(scene.scales[:, i] + 1e-8) for i in range(3)}
    return columns | {f"rot_{i}": scene.quats[:, i] for i in range(4)}


def write_official(path, rows, names):
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in names] + ["end_header\n"]
    path.write_bytes("\n".join(header).encode() + rows.contiguous().numpy().astype("<f4").tobytes())


def check_rows(tmp_path, rows, names, scene):
    """Stored rows against the scene they were exported from: by formula, and through the reader and our own file."""
    columns = official_columns(scene)
    expected = torch.stack([columns[name] for name in names], dim=1)
    finite = torch.isfinite(expected)
    torch.testing.assert_close(rows[finite], expected[finite], rtol=1e-5, atol=1e-5)
    assert torch.equal(rows[~finite], expected[~finite])

    ours = transform(scene, rotation=HALF_TURN)
    write_official(tmp_path / "official.ply", rows, names)
    back = read_ply(tmp_path / "official.ply", invalid="error")
    write_ply(tmp_path / "ours.ply", back)
    for read in (back, read_ply(tmp_path / "ours.ply", invalid="error")):
        for field in ("means", "quats", "scales", "opacities", "sh"):
            torch.testing.assert_close(getattr(read, field), getattr(ours, field), rtol=1e-5, atol=1e-5)
    info = ply_info(tmp_path / "official.ply")
    assert info["layout"] == "flashworld" and info["gaussians"] == len(rows)
    assert ply_info(tmp_path / "ours.ply")["layout"] == "3dgs"


def test_export_units(tmp_path, parity_tensors, units_json):
    units, facts = parity_tensors("units"), units_json["export"]
    scene = official_gaussians(units["export/gaussians"], units["export/T_norm"])
    for name, threshold in facts["thresholds"].items():
        rows = units[f"export/ply_{name}"]
        kept = prune(scene, min_opacity=threshold)
        assert len(kept) == len(rows)
        check_rows(tmp_path, rows, facts["ply_property_order"], kept)


def test_export_of_the_chained_run(tmp_path, parity_tensors, parity_json):
    stages = parity_tensors("stages")
    key, stride = next((k, int(m[1])) for k in stages if (m := re.fullmatch(r"ply_stride(\d+)", k)))
    final = len(parity_json["denoising_indices"]) - 1
    strided, full = f"step{final}/gaussians_flat_stride{stride}", f"step{final}/gaussians"
    if strided in stages:
        gaussians = stages[strided]
    elif full in stages:
        gaussians = stages[full].flatten(0, -2)[::stride]
    else:
        pytest.skip(f"the set has neither {strided} nor {full}")
    check_rows(
        tmp_path, stages[key], parity_json["ply_property_order"], official_gaussians(gaussians, stages["T_norm"])
    )


def test_positions_and_sizes_share_one_scale(tmp_path, parity_tensors, units_json):
    """The two official figures of one Gaussian, position and size, come out multiplied by the same number."""
    units = parity_tensors("units")
    raw, names = units["export/gaussians"], units_json["export"]["ply_property_order"]
    name = next(n for n, threshold in units_json["export"]["thresholds"].items() if threshold == 0)
    write_official(tmp_path / "official.ply", units[f"export/ply_{name}"], names)
    scene = read_ply(tmp_path / "official.ply")
    ratios = scene.means.norm(dim=1) / raw[:, :3].norm(dim=1)
    sizes = scene.scales.prod(dim=1).pow(1 / 3) / raw[:, 4:7].prod(dim=1).pow(1 / 3)
    np.testing.assert_allclose(ratios, float(units["export/T_norm"]), rtol=1e-4)
    np.testing.assert_allclose(sizes, ratios, rtol=1e-4)
