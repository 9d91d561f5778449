"""Gaussians to PLY and back, and the bytes in between."""

import logging
import math

import numpy as np
import pytest
import torch
from plyfile import PlyData

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.formats.scenes import ply
from flashworld_core.formats.scenes.ply import ply_info, read_ply, write_ply
from flashworld_core.gaussians import Gaussians


def random_scene(n, degree, seed=0, metadata=None):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        normal(n, 3) * 10,
        torch.nn.functional.normalize(normal(n, 4), dim=1),
        normal(n, 3).mul(2).exp(),
        torch.rand(n, generator=generator),
        normal(n, (degree + 1) ** 2, 3),
        metadata or {},
    )


def assert_same(a, b):
    assert len(a) == len(b) and a.sh.shape == b.sh.shape
    torch.testing.assert_close(a.means, b.means, rtol=0, atol=0)
    torch.testing.assert_close(a.sh, b.sh, rtol=0, atol=0)
    torch.testing.assert_close(a.quats, b.quats, rtol=0, atol=1e-6)
    torch.testing.assert_close(a.scales, b.scales, rtol=2e-6, atol=1e-12)
    torch.testing.assert_close(a.opacities, b.opacities, rtol=0, atol=1e-6)


def slow_rows(scene, degree, normals):
    """The obvious twin of the packing: one Gaussian, one number at a time, in float64."""
    for mean, quat, scale, opacity, sh in zip(
        scene.means, scene.quats, scene.scales, scene.opacities, scene.sh, strict=True
    ):
        row = [float(v) for v in mean] + [0.0] * (3 if normals else 0) + [float(v) for v in sh[0]]
        for color in range(3):
            for k in range(1, (degree + 1) ** 2):
                row.append(float(sh[k, color]) if k < len(sh) else 0.0)
        o = float(opacity)
        row.append(math.log(o / (1 - o)))
        row += [math.log(float(v)) for v in scale] + [float(v) for v in quat]
        yield row


@pytest.mark.parametrize("normals", [False, True])
@pytest.mark.parametrize("written_degree", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_bytes_equal_the_slow_twin(tmp_path, monkeypatch, degree, written_degree, normals):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 2000)  # several chunks, the last one short
    scene = random_scene(53, degree, seed=degree)
    path = tmp_path / "scene.ply"
    write_ply(path, scene, sh_degree=written_degree, normals=normals)
    out_degree = degree if written_degree is None else written_degree
    body = path.read_bytes().split(b"end_header\n", 1)[1]
    rows = np.frombuffer(body, "<f4").reshape(53, -1)
    expected = np.array(list(slow_rows(scene, out_degree, normals)))
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-5)
    padded = torch.zeros(53, (out_degree + 1) ** 2, 3)
    common = min(padded.shape[1], scene.sh.shape[1])
    padded[:, :common] = scene.sh[:, :common]
    assert_same(
        read_ply(path), Gaussians(scene.means, scene.quats, scene.scales, scene.opacities, padded, scene.metadata)
    )


@pytest.mark.parametrize("seed", range(25))
def test_random_round_trips(tmp_path, monkeypatch, seed):
    """Any size around the chunk borders, any degree, any chunk size, extreme values."""
    random = np.random.default_rng(seed)
    monkeypatch.setattr(ply, "CHUNK_BYTES", int(random.integers(1, 4000)))
    n, degree = int(random.integers(0, 90)), int(random.integers(0, 4))
    scene = random_scene(n, degree, seed=seed, metadata={"seed": seed, "scale": float(random.normal())})
    scene.means.mul_(10.0 ** random.uniform(-6, 6))
    write_ply(tmp_path / "a.ply", scene)
    back = read_ply(tmp_path / "a.ply")
    assert_same(back, scene)
    assert back.metadata == scene.metadata
    write_ply(tmp_path / "b.ply", back)
    again = read_ply(tmp_path / "b.ply")
    assert_same(again, scene)


def test_plyfile_reads_the_same_numbers(tmp_path):
    scene = random_scene(40, 2, metadata={"seed": 1})
    write_ply(tmp_path / "scene.ply", scene)
    vertex = PlyData.read(tmp_path / "scene.ply")["vertex"]
    assert [p.name for p in vertex.properties][:6] == ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert [p.name for p in vertex.properties][-8:] == [
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    np.testing.assert_array_equal(vertex["y"], scene.means[:, 1])
    for k in range(1, 9):
        for color in range(3):
            np.testing.assert_array_equal(vertex[f"f_rest_{color * 8 + k - 1}"], scene.sh[:, k, color])
    np.testing.assert_allclose(vertex["opacity"], torch.logit(scene.opacities), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vertex["scale_2"], scene.scales[:, 2].log(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(vertex["rot_0"], scene.quats[:, 0])


def test_limits_stay_finite(tmp_path):
    scene = random_scene(3, 0)
    scene.opacities[:] = torch.tensor([0.0, 1.0, 0.5])
    scene.scales[0] = 0
    write_ply(tmp_path / "scene.ply", scene)
    rows = np.frombuffer((tmp_path / "scene.ply").read_bytes().split(b"end_header\n", 1)[1], "<f4")
    assert np.isfinite(rows).all() and np.abs(rows).max() < 40  # no reader's exp overflows in float32
    back = read_ply(tmp_path / "scene.ply")
    assert back.opacities[0] < 1e-8 and back.opacities[1] == 1 and back.opacities[2] == 0.5
    assert 0 <= back.scales[0].max() < 2e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_and_gradients(tmp_path, dtype):
    scene = random_scene(9, 1).to(dtype=dtype)
    scene.means.requires_grad_()
    write_ply(tmp_path / "scene.ply", scene)
    expected = scene.detach().to(dtype=torch.float32)
    expected.quats.copy_(torch.nn.functional.normalize(expected.quats, dim=1))  # half precision is not quite unit
    assert_same(read_ply(tmp_path / "scene.ply"), expected)


def test_non_contiguous_tensors(tmp_path):
    packed = torch.rand(20, 38, generator=torch.Generator().manual_seed(0))
    scene = Gaussians(
        packed[:, :3],
        torch.nn.functional.normalize(packed[:, 3:7], dim=1),
        packed[:, 7:10],
        packed[:, 10],
        packed[:, 11:].view(20, 9, 3),
    )
    columns = scene.map(lambda t: t.mT.contiguous().mT if t.ndim > 1 else t)
    for layout in (scene, columns, scene[::2], columns[1:]):
        write_ply(tmp_path / "scene.ply", layout)
        assert_same(read_ply(tmp_path / "scene.ply"), layout)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("means", math.nan, "x"),
        ("quats", math.inf, "rot_0"),
        ("scales", -1.0, "scale_0"),
        ("scales", math.inf, "scale_0"),
        ("opacities", 1.5, "opacity"),
        ("opacities", -0.1, "opacity"),
        ("sh", -math.inf, "f_dc_0"),
    ],
)
def test_invalid_gaussians_are_refused_by_number(tmp_path, monkeypatch, field, value, named):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 300)
    scene = random_scene(20, 0)
    write_ply(tmp_path / "scene.ply", scene)
    before = (tmp_path / "scene.ply").read_bytes()
    tensor = getattr(scene, field)
    tensor.view(20, -1)[17, 0] = value
    with pytest.raises(FlashWorldError, match=f"Gaussian 17 has no valid {named}"):
        write_ply(tmp_path / "scene.ply", scene)
    assert (tmp_path / "scene.ply").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]


def test_huge_but_finite_values_are_written(tmp_path):
    """The quick finiteness check sums up; a sum that overflows must not be taken for a bad value."""
    scene = random_scene(50, 0)
    scene.means.fill_(3e38)
    write_ply(tmp_path / "scene.ply", scene)
    assert_same(read_ply(tmp_path / "scene.ply", invalid="error"), scene)


METADATA = {
    "generator": "flashworld-tiny",
    "seed": 2**40,
    "prompt_hash": "ab" * 32,
    "text": 'line\nbreak\r\ttab "quotes" \\ end_header\nelement vertex 5 ünïcode 漢字 \u2028',
    " spaced key ": "  leading and trailing  ",
    "nested": {"resolution": [24, 480, 704], "nothing": None, "yes": True},
    "scene_scale": 1.0625,
    "long": "a b" * 300,  # a space at the end of some header lines, at the start of others
}


def test_metadata_round_trip(tmp_path):
    scene = random_scene(2, 0, metadata=METADATA)
    write_ply(tmp_path / "scene.ply", scene)
    assert read_ply(tmp_path / "scene.ply").metadata == METADATA
    info = ply_info(tmp_path / "scene.ply")
    assert info["metadata"] == METADATA and info["gaussians"] == 2 and info["sh_degree"] == 0
    header = (tmp_path / "scene.ply").read_bytes().split(b"end_header\n", 1)[0]
    assert max(len(line) for line in header.split(b"\n")) < 240 and header.isascii()
    assert PlyData.read(tmp_path / "scene.ply")["vertex"].count == 2


def test_metadata_is_limited(tmp_path, caplog):
    scene = random_scene(2, 3, metadata={"seed": 1, "prompt": "x" * 50_000, "scale": 2.0})
    with caplog.at_level(logging.WARNING):
        write_ply(tmp_path / "scene.ply", scene, normals=True)
    assert "'prompt' is too long" in caplog.text
    assert read_ply(tmp_path / "scene.ply").metadata == {"seed": 1, "scale": 2.0}
    # Viewers that look for the end of the header in the first 10 KB must find it.
    scene = random_scene(2, 3, metadata={f"key{i}": "v" * 90 for i in range(200)})
    write_ply(tmp_path / "scene.ply", scene, normals=True)
    assert b"end_header" in (tmp_path / "scene.ply").read_bytes()[:10_000]


def test_metadata_numbers_of_numpy_and_torch(tmp_path):
    scene = random_scene(1, 0, metadata={"a": np.float32(0.5), "b": torch.tensor([1, 2]), "c": np.int64(7)})
    write_ply(tmp_path / "scene.ply", scene)
    assert read_ply(tmp_path / "scene.ply").metadata == {"a": 0.5, "b": [1, 2], "c": 7}


@pytest.mark.parametrize("value", [math.nan, object(), {1, 2}])
def test_metadata_that_is_no_json(tmp_path, value):
    with pytest.raises(FlashWorldError, match="metadata 'bad'"):
        write_ply(tmp_path / "scene.ply", random_scene(1, 0, metadata={"bad": value}))
    assert not list(tmp_path.iterdir())


def test_progress_counts_gaussians(tmp_path, monkeypatch):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 560)  # ten rows of 14 floats
    monkeypatch.setattr(ply, "_MAX_WORKERS", 1)
    seen = []
    write_ply(tmp_path / "scene.ply", random_scene(35, 0), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 35), (20, 35), (30, 35), (35, 35)]
    seen.clear()
    read_ply(tmp_path / "scene.ply", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 35), (20, 35), (30, 35), (35, 35)]


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("cores", [None, 1, 16])
def test_any_number_of_threads_writes_the_same_bytes(tmp_path, monkeypatch, workers, cores):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 300)
    scene = random_scene(500, 2)
    write_ply(tmp_path / "first.ply", scene)
    monkeypatch.setattr(ply, "_MAX_WORKERS", workers)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    seen = []
    write_ply(tmp_path / "again.ply", scene, progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "first.ply").read_bytes() == (tmp_path / "again.ply").read_bytes()
    assert seen[-1] == (500, 500) and seen == sorted(set(seen))


@pytest.mark.parametrize("action", ["write", "read"])
@pytest.mark.parametrize(("workers", "after"), [(1, 0), (1, 2), (1, 3), (4, 0)])
def test_stopping_leaves_nothing(tmp_path, monkeypatch, action, workers, after):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 560)
    monkeypatch.setattr(ply, "_MAX_WORKERS", workers)
    path = tmp_path / "scene.ply"
    write_ply(path, random_scene(35, 0))
    before = path.read_bytes()
    seen = []
    options = {"progress": lambda done, total: seen.append(done), "should_stop": lambda: len(seen) >= after}
    with pytest.raises(Cancelled):
        if action == "write":
            write_ply(path, random_scene(35, 0, seed=5), **options)
        else:
            read_ply(path, **options)
    assert len(seen) == after and path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]


def test_disk_full_midway_keeps_the_old_file(tmp_path, monkeypatch):
    """A real error of the system in the middle of the rows, by a limit on the size of files."""
    resource = pytest.importorskip("resource")
    import signal

    monkeypatch.setattr(ply, "CHUNK_BYTES", 1 << 14)
    path = tmp_path / "scene.ply"
    write_ply(path, random_scene(10, 0))
    before = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(FlashWorldError, match=r"scene\.ply could not be written: .*What was there is unchanged"):
            write_ply(path, random_scene(5000, 0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]


def test_failing_rename_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scene.ply"
    write_ply(path, random_scene(10, 0))
    before = path.read_bytes()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(FlashWorldError, match="Permission denied"):
        write_ply(path, random_scene(20, 0))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(FlashWorldError, match="does not exist"):
        write_ply(tmp_path / "missing" / "scene.ply", random_scene(1, 0))
    with pytest.raises(FlashWorldError, match="is a folder"):
        write_ply(tmp_path, random_scene(1, 0))
    with pytest.raises(FlashWorldError, match="sh_degree must be 0, 1, 2 or 3, got 4"):
        write_ply(tmp_path / "scene.ply", random_scene(1, 0), sh_degree=4)


def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    write_ply(tmp_path / "real" / "scene.ply", random_scene(1, 0))
    link = tmp_path / "link.ply"
    link.symlink_to(tmp_path / "real" / "scene.ply")
    write_ply(link, random_scene(4, 0))
    assert link.is_symlink() and len(read_ply(tmp_path / "real" / "scene.ply")) == 4


def test_the_callers_scene_is_untouched(tmp_path):
    scene = random_scene(30, 2, metadata={"seed": 1})
    copy = scene.map(torch.clone)
    write_ply(tmp_path / "scene.ply", scene)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(scene, name), getattr(copy, name))
