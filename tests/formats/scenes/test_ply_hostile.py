"""PLY files that are damaged or lie: one clear message, no large allocation, no crash."""

import tracemalloc

import numpy as np
import pytest

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.scenes.ply import ply_info, read_ply
from flashworld_core.formats.scenes.ply_header import read_ply_header

NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", *(f"scale_{i}" for i in range(3))]
NAMES += [f"rot_{i}" for i in range(4)]


def header(count=2, names=NAMES, kind="float", encoding="binary_little_endian", extra=""):
    lines = ["ply", f"format {encoding} 1.0", *([extra] if extra else []), f"element vertex {count}"]
    return "\n".join([*lines, *(f"property {kind} {name}" for name in names), "end_header\n"]).encode()


def rows(count=2, width=14):
    return np.linspace(0, 1, count * width, dtype="<f4").tobytes()


def refused(tmp_path, data, message, read=read_ply):
    path = tmp_path / "bad.ply"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(FlashWorldError, match=message) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(data) + 4_000_000, f"{peak} bytes for a file of {len(data)}"
    assert "bad.ply" in str(caught.value) and len(str(caught.value)) < 500


def test_the_good_file_is_good(tmp_path):
    (tmp_path / "good.ply").write_bytes(header() + rows())
    assert len(read_ply(tmp_path / "good.ply")) == 2
    (tmp_path / "good.ply").write_bytes(header(0))
    assert len(read_ply(tmp_path / "good.ply")) == 0
    (tmp_path / "good.ply").write_bytes(header() + rows() + b"trailing bytes")
    assert len(read_ply(tmp_path / "good.ply")) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PLY file"),
        (b"\x89PNG\r\n\x1a\n", "not a PLY file"),
        (b"plywood\n", "not a PLY file"),
        (b"ply\n", "no end_header"),
        (b"ply\nformat binary_little_endian 1.0\ncomment " + b"a" * (3 << 20), "no end_header line in its first"),
        (b"ply\nelement vertex 1\nend_header\n", "no format line"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "line 2 .* format must be"),
        (b"ply\nformat\nend_header\n", "line 2 .* format must be"),
        (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "line 3 .* needs an element"),
        (b"ply\nformat ascii 1.0\nelement vertex\nend_header\n", "line 3"),
        (b"ply\nformat ascii 1.0\nelement vertex -5\nend_header\n", "'-5' is no number of rows"),
        (b"ply\nformat ascii 1.0\nelement vertex 1e9\nend_header\n", "'1e9' is no number of rows"),
        (b"ply\nformat ascii 1.0\nelement vertex " + b"9" * 9000 + b"\nend_header\n", "is no number of rows"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n", "line 4 .* unknown type 'quad'"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float\nend_header\n", "line 4 .* a type and a name"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nvertices float x\nend_header\n", "unknown keyword 'vertices'"),
        (b"ply\nformat ascii 1.0\nelement v 1\nelement v 1\nend_header\n", "declares an element twice"),
        (b"ply\nformat ascii 1.0\nelement face 1\nproperty int a\nend_header\n1\n", "no vertex element"),
        (header(names=[*NAMES, "x"]) + rows(width=15), "has the property 'x' more than once"),
        (header(names=NAMES[:3]) + rows(width=3), "not a Gaussian scene.*lacks opacity, scale_0"),
        (header(names=["packed_position"], kind="uint") + rows(width=1), "compressed PLY"),
        (header(names=[*NAMES, "f_rest_0"]) + rows(width=15), "3 f_dc_\\* and 1 f_rest_\\* properties fit no"),
        (header(names=[*NAMES, *(f"f_rest_{i}" for i in range(10))]) + rows(width=24), "and 10 f_rest"),
        (header(names=[*NAMES, *(f"f_rest_{i}" for i in range(1, 10))]) + rows(width=23), "no f_rest_0"),
        (header(names=[*NAMES, *(f"f_dc_{i}" for i in range(3, 20))]) + rows(width=31), "20 f_dc_\\* and 0 f_rest"),
        (header(names=[n for n in NAMES if n != "f_dc_1"]) + rows(width=13), "2 f_dc_\\* properties but no f_dc_1"),
        (header(names=[n for n in NAMES if "f_dc" not in n]) + rows(width=11), "0 f_dc_\\* and 0 f_rest"),
        (header(names=[*NAMES[1:], "x"], kind="list uchar float") + rows(), "is a list"),
        (header(extra="element blob 5\nproperty list int int a") + rows(), "'blob' before the vertices holds lists"),
    ],
)
def test_headers(tmp_path, data, message):
    refused(tmp_path, data, message)


@pytest.mark.parametrize("count", [3, 10**6, 4 * 10**9, 10**17])
@pytest.mark.parametrize("encoding", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_counts_beyond_the_file_are_refused_before_allocating(tmp_path, count, encoding):
    data = header(count, encoding=encoding)
    data += b"1 " * 13 + b"1\n" if encoding == "ascii" else rows(2)
    refused(tmp_path, data, f"truncated.*{count} vertices")


def test_truncation_names_the_bytes(tmp_path):
    data = header() + rows()
    start = len(header())
    refused(tmp_path, data[:-1], f"from byte {start} would end at byte {len(data)}, but the file ends at byte")
    huge = b"element camera 99999999999\nproperty double a\n"
    refused(tmp_path, header(extra=huge.decode().strip()) + rows(), "truncated")


@pytest.mark.parametrize("length", range(0, len(header()) + 2 * 56, 7))
def test_every_truncation_is_refused(tmp_path, length):
    path = tmp_path / "bad.ply"
    path.write_bytes((header() + rows())[:length])
    with pytest.raises(FlashWorldError):
        read_ply(path)


def test_ascii_rows(tmp_path):
    good = b" ".join([b"0.5"] * 14) + b"\n"
    head = header(3, encoding="ascii")
    refused(tmp_path, head + good + good.replace(b"0.5", b"zero", 1) + good, "vertex row 1: .*zero")
    refused(tmp_path, head + good + good.replace(b"0.5", b"0_5", 1) + good, "vertex rows 0 to 2: .*0_5")
    refused(tmp_path, head + good + good[4:] + good, "vertex row 1 has 13 numbers, expected 14")
    refused(tmp_path, head + good + b"0.5 " + good + good, "vertex row 1 has 15 numbers")
    wide = b"0.50000 " * 14 + b"\n"
    refused(tmp_path, head + wide + wide, "2 vertex rows, the header promises 3")
    lists = header(3, encoding="ascii", extra="element face 9\nproperty list uchar int a")
    refused(tmp_path, lists + b"3 0 1 2 33333333333333333333333333333333\n" * 8, "ends inside element 'face'|truncated")
    (tmp_path / "ok.ply").write_bytes(head + good + b"\r\n \n" + good + good)
    assert len(read_ply(tmp_path / "ok.ply")) == 3
    (tmp_path / "ok.ply").write_bytes((head + good * 3).replace(b"\n", b"\r"))
    assert len(read_ply(tmp_path / "ok.ply")) == 3


def test_random_damage_never_escapes(tmp_path):
    """Any byte of the header changed, removed or doubled: a scene or a FlashWorldError, nothing else."""
    random = np.random.default_rng(0)
    good = header(extra='comment flashworld {"seed":1}') + rows()
    path = tmp_path / "bad.ply"
    outcomes = set()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(0, len(header())))
            data[at : at + int(random.integers(0, 3))] = random.bytes(int(random.integers(0, 3)))
        path.write_bytes(data)
        try:
            read_ply(path)
            outcomes.add("read")
        except FlashWorldError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    "comment",
    [
        "flashworld not json",
        "flashworld [1,2]",
        "flashworld 5",
        'flashworld {"a":1}{"b":',
        "flashworld " + "[" * 100_000,
        "flashworld " + "9" * 100_000,
        "flashworld",
    ],
)
def test_damaged_metadata_does_not_cost_the_scene(tmp_path, caplog, comment):
    (tmp_path / "scene.ply").write_bytes(header(extra=f"comment {comment}") + rows())
    scene = read_ply(tmp_path / "scene.ply")
    assert len(scene) == 2 and scene.metadata == ({"a": 1} if '"a"' in comment else {})
    assert ("damaged" in caplog.text) == (comment != "flashworld")


def test_files_that_are_not_there(tmp_path):
    for read in (read_ply, ply_info, read_ply_header):
        with pytest.raises(FlashWorldError, match="No such file"):
            read(tmp_path / "missing.ply")
        with pytest.raises(FlashWorldError, match="directory"):
            read(tmp_path)


def test_wrong_options(tmp_path):
    with pytest.raises(FlashWorldError, match="frame must be"):
        read_ply(tmp_path / "a.ply", frame="blender")
    with pytest.raises(FlashWorldError, match="invalid must be"):
        read_ply(tmp_path / "a.ply", invalid="ignore")


def test_info_of_a_point_cloud(tmp_path):
    (tmp_path / "cloud.ply").write_bytes(header(names=["x", "y", "z"]) + rows(width=3))
    info = ply_info(tmp_path / "cloud.ply")
    assert info["gaussians"] is None and "lacks opacity" in info["reason"] and info["properties"] == ["x", "y", "z"]
