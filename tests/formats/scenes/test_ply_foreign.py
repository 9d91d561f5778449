"""PLY files of other writers: encodings, orders, types, layouts."""

import itertools
import logging

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.scenes import ply, ply_rows
from flashworld_core.formats.scenes.ply import ply_info, read_ply, write_ply
from flashworld_core.gaussians import Gaussians
from flashworld_core.ops.transform import transform
from flashworld_core.sh import dc_to_rgb


def scene_and_columns(n=23, degree=2, seed=0):
    """Gaussians and the numbers a standard 3DGS PLY has for them, by property name."""
    random = np.random.default_rng(seed)
    k = (degree + 1) ** 2
    means, quats = random.normal(size=(n, 3)), random.normal(size=(n, 4))
    scales, logits, sh = random.normal(size=(n, 3)) - 2, random.normal(size=n), random.normal(size=(n, k, 3))
    columns = dict(zip("xyz", means.T, strict=True))
    columns |= {f"f_dc_{c}": sh[:, 0, c] for c in range(3)}
    columns |= {f"f_rest_{c * (k - 1) + j}": sh[:, 1 + j, c] for c in range(3) for j in range(k - 1)}
    columns["opacity"] = logits
    columns |= {f"scale_{i}": scales[:, i] for i in range(3)}
    columns |= {f"rot_{i}": quats[:, i] for i in range(4)}
    tensors = [
        means,
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(scales),
        1 / (1 + np.exp(-logits)),
        sh,
    ]
    return Gaussians(*(torch.from_numpy(t).float() for t in tensors)), columns


def assert_close(a, b):
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=2e-5, atol=2e-6)


def save(path, columns, types=None, order=None, text=False, byte_order="<", before=(), after=(), comments=()):
    """With plyfile, an independent writer."""
    order = order or list(columns)
    types = types or {}
    rows = np.empty(len(columns["x"]), [(name, types.get(name, "f4")) for name in order])
    for name in order:
        rows[name] = columns[name]
    elements = [*before, PlyElement.describe(rows, "vertex"), *after]
    PlyData(elements, text=text, byte_order=byte_order, comments=list(comments)).write(str(path))


ENCODINGS = {
    "little": {"byte_order": "<"},
    "big": {"byte_order": ">"},
    "ascii": {"text": True},
}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_degrees(tmp_path, monkeypatch, encoding, degree):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(ply_rows, "_ASCII_CHUNK_ROWS", 5)
    expected, columns = scene_and_columns(degree=degree)
    save(tmp_path / "scene.ply", columns, **ENCODINGS[encoding])
    scene = read_ply(tmp_path / "scene.ply")
    assert scene.sh_degree == degree and scene.metadata == {}
    assert_close(scene, expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("seed", range(4))
def test_any_order_type_and_extra_properties(tmp_path, encoding, seed):
    random = np.random.default_rng(seed)
    expected, columns = scene_and_columns(degree=seed)
    columns |= {"nx": np.zeros(23), "ny": np.ones(23), "red": np.arange(23), "confidence": np.full(23, 7)}
    columns["f_extra"] = np.arange(23)
    types = {"red": "u1", "confidence": "i2", "ny": "f8", "f_extra": "i4", "opacity": "f8", "x": "f8"}
    order = list(columns)
    random.shuffle(order)
    save(tmp_path / "scene.ply", columns, types=types, order=order, **ENCODINGS[encoding])
    assert_close(read_ply(tmp_path / "scene.ply"), expected)


def test_shuffled_floats_take_the_fast_path_too(tmp_path, monkeypatch):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 1000)
    expected, columns = scene_and_columns(degree=3)
    columns["nx"] = np.zeros(23)
    order = list(columns)
    np.random.default_rng(0).shuffle(order)
    save(tmp_path / "scene.ply", columns, order=order)
    assert_close(read_ply(tmp_path / "scene.ply"), expected)


def test_whole_doubles_and_bytes(tmp_path):
    """A file of doubles, and one whose colors are bytes."""
    expected, columns = scene_and_columns(degree=1)
    save(tmp_path / "scene.ply", columns, types=dict.fromkeys(columns, "f8"))
    assert_close(read_ply(tmp_path / "scene.ply"), expected)
    colors = np.random.default_rng(0).integers(0, 256, (3, 23))
    for i in range(3):
        del columns[f"f_dc_{i}"]
    columns = {k: v for k, v in columns.items() if not k.startswith("f_rest")}
    columns |= dict(zip(("red", "green", "blue"), colors, strict=True))
    save(tmp_path / "scene.ply", columns, types=dict.fromkeys(("red", "green", "blue"), "u1"))
    scene = read_ply(tmp_path / "scene.ply")
    assert scene.sh_degree == 0
    torch.testing.assert_close(dc_to_rgb(scene.sh[:, 0]), torch.from_numpy(colors.T / 255).float())
    save(tmp_path / "scene.ply", {k: (v / 255 if k in ("red", "green", "blue") else v) for k, v in columns.items()})
    torch.testing.assert_close(read_ply(tmp_path / "scene.ply").sh, scene.sh)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_elements_before_and_after(tmp_path, encoding):
    expected, columns = scene_and_columns()
    camera = PlyElement.describe(np.ones(3, [("cx", "f4"), ("id", "u1"), ("cy", "f8")]), "camera")
    faces = np.empty(2, [("vertex_indices", "O")])
    faces["vertex_indices"] = [np.array([0, 1, 2], "i4")] * 2
    faces = PlyElement.describe(faces, "face")
    save(tmp_path / "scene.ply", columns, before=[camera], after=[faces], comments=["hello"], **ENCODINGS[encoding])
    assert_close(read_ply(tmp_path / "scene.ply"), expected)
    info = ply_info(tmp_path / "scene.ply")
    assert info["elements"] == {"camera": 3, "vertex": 23, "face": 2} and "hello" in info["comments"]
    save(tmp_path / "scene.ply", columns, before=[faces], **ENCODINGS[encoding])
    if encoding == "ascii":
        assert_close(read_ply(tmp_path / "scene.ply"), expected)
    else:
        with pytest.raises(FlashWorldError, match="'face' before the vertices holds lists"):
            read_ply(tmp_path / "scene.ply")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("first_byte", [b"\n", b"\r", b" "])
def test_line_endings(tmp_path, ending, first_byte):
    """The rows may begin with a byte that looks like a line end."""
    expected, columns = scene_and_columns(n=4, degree=0)
    columns["x"][0] = np.frombuffer(first_byte + b"\x00\x80\x3f", "<f4")[0]
    save(tmp_path / "scene.ply", columns)
    head, body = (tmp_path / "scene.ply").read_bytes().split(b"end_header\n")
    head = head.replace(b"ply\n", b"ply\nobj_info made by hand\n")
    (tmp_path / "scene.ply").write_bytes((head + b"end_header\n").replace(b"\n", ending) + body)
    scene = read_ply(tmp_path / "scene.ply")
    assert scene.means[0, 0] == np.float32(columns["x"][0])
    assert_close(scene[1:], expected[1:])


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_official_flashworld_layout(tmp_path, degree):
    """All coefficients in f_dc_{3k+c}, world with y up: read into our frame."""
    expected, columns = scene_and_columns(degree=degree)
    k = (degree + 1) ** 2
    official = {name: v for name, v in columns.items() if not name.startswith("f_")}
    for j, c in itertools.product(range(k), range(3)):
        official[f"f_dc_{3 * j + c}"] = columns[f"f_dc_{c}" if j == 0 else f"f_rest_{c * (k - 1) + j - 1}"]
    save(tmp_path / "scene.ply", official)
    scene = read_ply(tmp_path / "scene.ply")
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert_close(scene, transform(expected, rotation=half_turn))
    assert torch.equal(scene.means[:, 1], -expected.means[:, 1])
    assert_close(read_ply(tmp_path / "scene.ply", frame="opencv"), expected)
    info = ply_info(tmp_path / "scene.ply")
    assert (info["layout"], info["sh_degree"], info["gaussians"]) == ("flashworld", degree, 23)
    save(tmp_path / "scene.ply", columns)
    assert_close(read_ply(tmp_path / "scene.ply", frame="opengl"), transform(expected, rotation=half_turn))


def test_rows_that_are_not_finite(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ply, "CHUNK_BYTES", 400)
    expected, columns = scene_and_columns(n=40, degree=1)
    columns["x"][3] = np.nan
    columns["f_rest_0"][10] = np.inf
    columns["scale_1"][11] = 200  # exp of it leaves float32
    columns["rot_2"][39] = -np.inf
    columns["opacity"][20:22] = np.inf, -np.inf  # the official exporter writes opacity 1 like this
    columns["scale_0"][22] = -np.inf
    save(tmp_path / "scene.ply", columns)
    with caplog.at_level(logging.WARNING):
        scene = read_ply(tmp_path / "scene.ply")
    assert "dropped 4 of 40 Gaussians" in caplog.text
    keep = [i for i in range(40) if i not in (3, 10, 11, 39)]
    expected.opacities[20:22] = torch.tensor([1.0, 0.0])
    expected.scales[22, 0] = 0
    assert_close(scene, expected[keep])
    with pytest.raises(FlashWorldError, match="vertex row 3 is not finite"):
        read_ply(tmp_path / "scene.ply", invalid="error")


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30, 3e-3])
def test_quaternions_of_any_length(tmp_path, factor):
    expected, columns = scene_and_columns(degree=0)
    for i in range(4):
        columns[f"rot_{i}"][5] *= factor
    save(tmp_path / "scene.ply", columns)
    if factor == 0:
        expected.quats[5] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert_close(read_ply(tmp_path / "scene.ply"), expected)


def test_every_written_degree_is_read_by_plyfile_and_back(tmp_path):
    """Through another program's reader and writer nothing changes but the comments' order."""
    for degree in range(4):
        expected, _ = scene_and_columns(degree=degree)
        expected.metadata["seed"] = 3
        write_ply(tmp_path / "a.ply", expected)
        data = PlyData.read(tmp_path / "a.ply")
        data.text = True
        data.write(str(tmp_path / "b.ply"))
        scene = read_ply(tmp_path / "b.ply")
        assert_close(scene, expected)
        assert scene.metadata == {"seed": 3}
