"""Thousands of damaged scene files: a clear error or a scene, never another exception, a hang, or a flood of memory."""

import gzip
import io
import json
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from mutations import LIMIT, mutated, mutated_json, read_damaged
from scene_fixtures import DATA

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.scenes import detect_scene, read_scene, scene_info, write_scene
from flashworld_core.gaussians import Gaussians


def bytes_of(name):
    return (DATA / "files" / name).read_bytes()


def spz(rng, name="spz_v3_d1_extensions_RDF.spz"):
    """Inside and outside of the gzip."""
    data = bytes_of(rng.choice((name, "spz_v2_d1.spz", "spz_v1_d1.spz")))
    if rng.random() < 0.2:
        return mutated(data, rng)
    return gzip.compress(mutated(gzip.decompress(data), rng), 1)


def spz_4(rng):
    return mutated(bytes_of("spz_v4_d1_extensions_RDF.spz"), rng)


def sog(rng):
    """The ZIP, its meta.json, or one of its pictures."""
    data = bytes_of(rng.choice(("sog_v2_d1.sog", "sog_v1_d2.sog")))
    if rng.random() < 0.3:
        return mutated(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        victim = rng.choice([*source.namelist(), *["meta.json"] * 5])
        for name in source.namelist():
            content = source.read(name)
            if name == victim and name == "meta.json":
                content = json.dumps(mutated_json(json.loads(content), rng)).encode()
            elif name == victim:
                content = mutated(content, rng)
            target.writestr(name, content)
    return out.getvalue()


def gltf(rng):
    """The chunks, or the JSON in them."""
    data = bytes_of(rng.choice(("glb_d1.glb", "glb_d1_spz2.glb")))
    if rng.random() < 0.3:
        return mutated(data, rng)
    length = struct.unpack_from("<I", data, 12)[0]
    text = json.dumps(mutated_json(json.loads(data[20 : 20 + length]), rng)).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    return data[:8] + struct.pack("<III", 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


MAKERS = {
    "spz": spz,
    "spz_4": spz_4,
    "sog": sog,
    "gltf": gltf,
    "compressed_ply": lambda rng: mutated(bytes_of("cply_d3.compressed.ply"), rng),
    "ksplat": lambda rng: mutated(bytes_of(rng.choice(("ksplat_l1_d2_sections.ksplat", "ksplat_l2_d1.ksplat"))), rng),
    "splat": lambda rng: mutated(bytes_of("splat_d0.splat"), rng),
    "ply": lambda rng: mutated((DATA / "source" / "d1.ply").read_bytes(), rng),
}


def run(folder, name, count, seed):
    folder = folder / "files"
    folder.mkdir()
    path = folder / ("scene.splat" if name == "splat" else "scene.bin")

    def read():
        if detect_scene(path) is not None:
            scene_info(path)
        scene = read_scene(path)
        for tensor in (scene.means, scene.quats, scene.scales, scene.opacities, scene.sh):
            assert torch.isfinite(tensor).all()
        assert (scene.scales >= 0).all() and ((scene.opacities >= 0) & (scene.opacities <= 1)).all()
        assert not len(scene) or (scene.quats.norm(dim=1) - 1).abs().max() < 1e-3

    read_damaged(name, count, seed, lambda rng: path.write_bytes(MAKERS[name](rng)), read, folder, longest=500)


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files(tmp_path, name, caplog):
    caplog.set_level("CRITICAL")
    run(tmp_path, name, 200, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_many_damaged_files(tmp_path, name, caplog):
    caplog.set_level("CRITICAL")
    run(tmp_path, name, 10_000, seed=1000)


def scene_of(count, degree=0):
    sh = torch.zeros(count, (degree + 1) ** 2, 3)
    return Gaussians(torch.zeros(count, 3), torch.eye(4)[:1].expand(count, 4), sh[:, 0] + 1, sh[:, 0, 0], sh)


def refused(path, match):
    tracemalloc.start()
    try:
        with pytest.raises(FlashWorldError, match=match):
            read_scene(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + LIMIT
    finally:
        tracemalloc.stop()


def test_gzip_bomb(tmp_path):
    """Ten million Gaussians of zeros in half a megabyte."""
    count = 10_000_000
    header = b"NGSP" + struct.pack("<IIBBBB", 3, count, 3, 12, 0, 0)
    with gzip.open(tmp_path / "bomb.spz", "wb", compresslevel=1) as stream:
        stream.write(header)
        for _ in range(65):
            stream.write(bytes(count // 100))
    refused(tmp_path / "bomb.spz", "made to fill the memory")


def test_bytes_after_the_scene_are_not_kept(tmp_path):
    write_scene(tmp_path / "a.spz", scene_of(10))
    raw = gzip.decompress((tmp_path / "a.spz").read_bytes())
    with gzip.open(tmp_path / "a.spz", "wb", compresslevel=1) as stream:
        stream.write(raw)
        for _ in range(400):
            stream.write(bytes(1 << 20))
    started = time.monotonic()
    assert len(read_scene(tmp_path / "a.spz")) == 10
    assert time.monotonic() - started < 5


def sog_with(path, change=None, add=None):
    """The SOG fixture with a changed meta.json and other members."""
    with (
        zipfile.ZipFile(DATA / "files" / "sog_v2_d1.sog") as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "meta.json":
                meta = json.loads(content)
                change(meta)
                content = json.dumps(meta)
            z.writestr(name, (add or {}).get(name, content))


def test_zip_bomb(tmp_path):
    sog_with(tmp_path / "bomb.sog", lambda meta: None, {"quats.webp": bytes(1 << 29)})
    refused(tmp_path / "bomb.sog", "made to fill the memory")


def test_a_record_longer_than_its_zip(tmp_path):
    """Python's reader takes the memory that a stored record says it needs before it reads."""
    data = bytearray(bytes_of("sog_v2_d1.sog"))
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"meta.json"))
    data[at + 20 : at + 24] = struct.pack("<I", (1 << 30) + 5)
    (tmp_path / "a.sog").write_bytes(data)
    refused(tmp_path / "a.sog", "past the end of the file")


def test_webp_bomb(tmp_path):
    """A header that promises 16383 x 16383 pixels."""
    size = 16382 | 16382 << 14
    data = b"\x2f" + struct.pack("<I", size) + bytes(64)
    webp = b"RIFF" + struct.pack("<I", 12 + len(data)) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    sog_with(tmp_path / "bomb.sog", lambda meta: meta.update(count=200_000_000), {"means_l.webp": webp})
    refused(tmp_path / "bomb.sog", "made to fill the memory")
    sog_with(tmp_path / "bomb.sog", lambda meta: None, {"means_l.webp": webp})
    refused(tmp_path / "bomb.sog", "made to fill the memory")


@pytest.mark.parametrize("name", ["../secret.webp", "/etc/passwd", "C:\\secret.webp", "a/../../secret.webp"])
def test_names_that_leave_the_bundle(tmp_path, name):
    sog_with(tmp_path / "a.sog", lambda meta: meta["quats"].update(files=[name]))
    refused(tmp_path / "a.sog", "leaves its folder")


def test_links_that_leave_the_folder(tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    (tmp_path / "secret.webp").write_bytes(b"secret")
    for source in (DATA / "files" / "sog_v2_d1_folder").iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "quats.webp").unlink()
    (folder / "quats.webp").symlink_to(tmp_path / "secret.webp")
    with pytest.raises(FlashWorldError, match="link to another folder"):
        read_scene(folder)


@pytest.mark.parametrize(
    "uri",
    ["../secret.bin", "/etc/passwd", "file:///etc/passwd", "http://example.com/a.bin", "%2e%2e/secret.bin", "\\x"],
)
def test_buffers_that_leave_the_folder(tmp_path, uri):
    folder = tmp_path / "scene"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    source = next((DATA / "files" / "gltf_d1_quantised").glob("*.gltf"))
    document = json.loads(source.read_text())
    document["buffers"][0]["uri"] = uri
    (folder / "a.gltf").write_text(json.dumps(document))
    refused(folder / "a.gltf", "leaves the folder|not a file beside it")


def test_nodes_in_a_circle(tmp_path):
    source = next((DATA / "files" / "gltf_d1_quantised").glob("*.gltf"))
    document = json.loads(source.read_text())
    (tmp_path / document["buffers"][0]["uri"]).write_bytes(source.with_suffix(".bin").read_bytes())
    document["nodes"][1]["children"] = [0]
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    refused(tmp_path / "a.gltf", "circle")
    document["nodes"][1] = {"mesh": 0, "scale": [1, 2, 1]}
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    refused(tmp_path / "a.gltf", "scales axes differently")


def test_rows_that_are_not_finite_are_dropped_or_named(tmp_path):
    rows = np.fromfile(DATA / "files" / "splat_d0.splat", np.uint8).reshape(-1, 32).copy()
    rows[7, :4] = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)
    rows[9, 12:16] = np.frombuffer(np.float32(np.inf).tobytes(), np.uint8)
    rows[11, 12:16] = np.frombuffer(np.float32(-2).tobytes(), np.uint8)  # the same as 2
    rows[13, 28:] = 128  # no rotation at all
    rows.tofile(tmp_path / "a.splat")
    scene = read_scene(tmp_path / "a.splat")
    assert len(scene) == 298 and scene.scales[9, 0] == 2 and scene.quats[11].tolist() == [1, 0, 0, 0]
    with pytest.raises(FlashWorldError, match="row 7 is not finite"):
        read_scene(tmp_path / "a.splat", invalid="error")
