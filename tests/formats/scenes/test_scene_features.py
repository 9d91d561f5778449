"""What travels in which format: metadata, filter, axes; kinds of PLY; what is said when something is lost."""

import gzip
import math
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.formats.scenes import FORMATS, read_scene, scene_info, writable_formats, write_scene
from flashworld_core.gaussians import Gaussians
from flashworld_core.geometry import quats_to_matrices

WRITABLE = [name for name in writable_formats() if FORMATS[name].read]


def scene(n=300, degree=1, metadata=None, spread=1.0):
    g = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1)
    sh = torch.randn(n, (degree + 1) ** 2, 3, generator=g) * 0.2
    means, scales = torch.randn(n, 3, generator=g) * spread, (torch.randn(n, 3, generator=g) - 4).exp()
    return Gaussians(means, quats, scales, torch.rand(n, generator=g), sh, metadata or {})


def path_of(folder, name):
    return folder / ("scene" + FORMATS[name].extensions[0])


@pytest.mark.parametrize("name", WRITABLE)
def test_metadata_and_filter_travel_where_they_can(tmp_path, name):
    told = {"generator": "x", "seed": 7, "prompt_sha256": "ab", "camera": {"fov": 50.0}, "filter": "antialiased"}
    path = path_of(tmp_path, name)
    write_scene(path, scene(metadata=told))
    again = read_scene(path).metadata
    if name in ("splat", "ksplat"):
        assert again == {}
    elif name == "spz":
        assert again == {"filter": "antialiased"}
    else:
        assert again == told
    if name not in ("splat", "ksplat"):
        assert scene_info(path)["filter"] == "antialiased"


@pytest.mark.parametrize("name", WRITABLE)
def test_writers_refuse_bad_numbers_and_leave_what_was_there(tmp_path, name):
    path = path_of(tmp_path, name)
    write_scene(path, scene(20))
    before = path.read_bytes()
    for field, value in (
        ("means", math.nan),
        ("scales", -1.0),
        ("opacities", 1.5),
        ("quats", math.inf),
        ("sh", math.inf),
    ):
        bad = scene(20)
        getattr(bad, field)[11] = value
        with pytest.raises(FlashWorldError, match="Gaussian 11"):
            write_scene(path, bad)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", WRITABLE)
def test_stopping_leaves_nothing_and_progress_ends(tmp_path, name):
    path, told = path_of(tmp_path, name), []
    with pytest.raises(Cancelled):
        write_scene(path, scene(), should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []
    write_scene(path, scene(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (300, 300) and told == sorted(told)
    told.clear()
    read_scene(path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (300, 300) and told == sorted(told)
    with pytest.raises(Cancelled):
        read_scene(path, should_stop=lambda: True)


@pytest.mark.parametrize("name", ["spz", "sog", "compressed_ply", "ksplat"])
def test_sh_degree(tmp_path, name):
    path, start = path_of(tmp_path, name), scene(degree=2)
    for degree in range(3 if name == "ksplat" else 4):
        write_scene(path, start, sh_degree=degree)
        again = read_scene(path)
        assert again.sh_degree == scene_info(path)["sh_degree"] == degree
        if degree == 3:
            assert again.sh[:, 9:].abs().max() < 0.02


def test_coordinates_beyond_2048_do_not_wrap(tmp_path, caplog):
    far = scene(spread=9000.0)
    write_scene(tmp_path / "a.spz", far)
    assert "coordinates were rounded to" in caplog.text
    again = read_scene(tmp_path / "a.spz")
    order = (again.means[:, None] - far.means[None]).norm(dim=2).argmin(1)
    assert (again.means - far.means[order]).abs().max() <= scene_info(tmp_path / "a.spz")["position_step"] / 2 + 1e-3
    write_scene(tmp_path / "b.spz", scene(spread=0.01))
    assert scene_info(tmp_path / "b.spz")["position_step"] < 2.0**-16
    with pytest.raises(FlashWorldError, match="8.3 million"):
        write_scene(tmp_path / "a.spz", scene(spread=1e8))


def test_what_is_lost_is_said_once(tmp_path, caplog):
    start = scene(degree=3)
    start.sh[:5, 0] = 9.0
    for name in ("spz", "splat", "ksplat"):
        caplog.clear()
        write_scene(path_of(tmp_path, name), start)
        assert len(caplog.records) == 1, name
        assert "cut to that" in caplog.text or "keep only" in caplog.text
    caplog.clear()
    write_scene(tmp_path / "a.ply", start)
    write_scene(tmp_path / "a.glb", start)
    assert not caplog.records


def test_spz_members_and_padding(tmp_path):
    """Several gzip members, and bytes after the last."""
    write_scene(tmp_path / "a.spz", scene())
    raw = gzip.decompress((tmp_path / "a.spz").read_bytes())
    (tmp_path / "b.spz").write_bytes(gzip.compress(raw[:50]) + gzip.compress(raw[50:]) + bytes(30))
    assert torch.equal(read_scene(tmp_path / "b.spz").sh, read_scene(tmp_path / "a.spz").sh)
    (tmp_path / "c.spz").write_bytes(b"NGSP" + struct.pack("<I", 5) + bytes(60))
    with pytest.raises(FlashWorldError, match="SPZ version 5; versions 1 to 4"):
        read_scene(tmp_path / "c.spz")


@pytest.mark.parametrize("name", ["spz", "splat", "ksplat", "gltf", "compressed_ply"])
def test_memory_does_not_grow_with_the_scene(tmp_path, name):
    """Beside 13 bytes a Gaussian for an order, where there is one."""

    def extra(n):
        start, path = scene(n, degree=0), path_of(tmp_path, name)
        write_scene(path, start)  # whatever is loaded on first use
        tracemalloc.start()
        write_scene(path, start)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small, large = extra(400_000), extra(800_000)
    if name in ("splat", "ksplat", "compressed_ply"):
        # Threads meet by chance: how many pieces of a megabyte are alive at the peak differs by one or two.
        assert large - small < 400_000 * 14 + 2e6
    assert large < 48e6  # a few pieces of a megabyte in each of a few threads


# ---- PLY of other kinds -------------------------------------------------------------------------------------


def ply(path, columns, comments=()):
    rows = np.stack([np.asarray(v, np.float32) for v in columns.values()], 1)
    head = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {c}" for c in comments),
        f"element vertex {len(rows)}",
    ]
    path.write_bytes(
        "\n".join([*head, *(f"property float {n}" for n in columns), "end_header\n"]).encode() + rows.tobytes()
    )


def basic(n=3, scales=3, quats=True):
    g = np.random.default_rng(0)
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", *(f"scale_{i}" for i in range(scales))]
    return {name: g.normal(size=n) for name in [*names, *([f"rot_{i}" for i in range(4)] if quats else [])]}


def test_2dgs(tmp_path):
    columns = basic(scales=2)
    ply(tmp_path / "a.ply", columns)
    again, info = read_scene(tmp_path / "a.ply"), scene_info(tmp_path / "a.ply")
    assert info["kind"] == "2dgs" == again.metadata["kind"]
    np.testing.assert_allclose(
        again.scales[:, :2], np.exp(np.stack([columns["scale_0"], columns["scale_1"]], 1)), rtol=1e-5
    )
    assert (again.scales[:, 2] == 0).all()
    normal = quats_to_matrices(again.quats)[:, :, 2]  # a disc is flat along its third axis
    cov = quats_to_matrices(again.quats) @ torch.diag_embed(again.scales**2) @ quats_to_matrices(again.quats).mT
    assert (cov @ normal[:, :, None]).abs().max() < 1e-6


def test_isotropic(tmp_path):
    columns = basic(scales=1, quats=False)
    ply(tmp_path / "a.ply", columns)
    again, info = read_scene(tmp_path / "a.ply"), scene_info(tmp_path / "a.ply")
    assert info["kind"] == "isotropic" and again.quats.tolist() == [[1, 0, 0, 0]] * 3
    np.testing.assert_allclose(again.scales, np.exp(columns["scale_0"])[:, None].repeat(3, 1), rtol=1e-5)


def test_mip_splatting(tmp_path):
    """The smoothing filter is applied: volume times opacity stays, the size grows."""
    columns = basic()
    ply(tmp_path / "plain.ply", columns)
    ply(tmp_path / "a.ply", {**columns, "filter_3D": [0.0, 0.5, 2.0], "semantic_7": [1, 2, 3]})
    plain, again = read_scene(tmp_path / "plain.ply"), read_scene(tmp_path / "a.ply")
    assert again.metadata["filter"] == "antialiased" == scene_info(tmp_path / "a.ply")["filter"]
    torch.testing.assert_close(again.scales[0], plain.scales[0])
    torch.testing.assert_close(again.scales[2] ** 2, plain.scales[2] ** 2 + 4)
    torch.testing.assert_close(again.opacities * again.scales.prod(1), plain.opacities * plain.scales.prod(1))


@pytest.mark.parametrize(
    ("comment", "told"),
    [
        ("SplatRenderMode: mip", {"filter": "antialiased"}),
        ("antialiased 1", {"filter": "antialiased"}),
        ("SplatRenderMode: 2dgs", {"kind": "2dgs"}),
        ("Vertical axis: y", {"up": "y"}),
        ("Vertical Axis: -z", {"up": "-z"}),
        ("Exported from Brush", {}),
    ],
)
def test_comments_of_other_writers(tmp_path, comment, told):
    ply(tmp_path / "a.ply", basic(), [comment])
    info = scene_info(tmp_path / "a.ply")
    assert info["filter"] == told.get("filter", "classic") and info["kind"] == told.get("kind", "3dgs")
    assert info.get("up") == told.get("up")
    told.pop("up", None)
    assert read_scene(tmp_path / "a.ply").metadata == told
