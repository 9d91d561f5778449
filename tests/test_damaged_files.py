"""Thousands of damaged camera files, checkpoints and images: a clear error or a result, never another exception, a
hang, or a flood of memory. Scenes have their own (`formats/scenes/test_scene_mutations`)."""

from __future__ import annotations

import functools
import io
import json

import numpy as np
import pytest
import torch
from mutations import mutated, mutated_json, read_damaged
from PIL import Image
from safetensors.torch import save

from flashworld_core.cameras import Cameras
from flashworld_core.checkpoints.describe import describe
from flashworld_core.checkpoints.manifest import Manifest
from flashworld_core.checkpoints.open import open_weights
from flashworld_core.formats.cameras import FlashWorldRequest, read_cameras, write_cameras
from flashworld_core.media.images import open_image
from flashworld_core.trajectories.document import document_from_cameras, parse_document, sample_document, write_document
from flashworld_core.trajectories.presets import make_trajectory

COLMAP_LENS = (1).to_bytes(4, "little") * 2 + (64).to_bytes(8, "little") * 2
COLMAP_BINARY = (1).to_bytes(8, "little") + COLMAP_LENS + np.array([50.0, 50, 32, 32]).tobytes()


@functools.cache
def path() -> Cameras:
    return make_trajectory("orbit", views=4, width=64, height=48)


@functools.cache
def written(folder, name: str, kind: str) -> bytes:
    """A camera file of the writer's."""
    write_cameras(folder / name, path(), kind)
    return (folder / name).read_bytes() if name != "colmap" else b""


def as_json(data: bytes, rng) -> bytes:
    if rng.random() < 0.3:
        return mutated(data, rng)
    return json.dumps(mutated_json(json.loads(data), rng)).encode()


def camera_file(kind):
    def make(folder, rng):
        data = written(folder.parent, f"good_{kind}.json", kind)
        (folder / "a.json").write_bytes(mutated(data, rng) if kind == "realestate10k" else as_json(data, rng))

    return make


def read_path(folder):
    cameras = read_cameras(folder / "a.json", view_size=(64, 48), root=folder)
    assert torch.isfinite(cameras.camera_to_world).all() and torch.isfinite(cameras.intrinsics).all()


def colmap_text(folder, rng):
    written(folder.parent, "colmap", "colmap")
    for name in ("images.txt", "cameras.txt"):
        data = (folder.parent / "colmap" / name).read_bytes()
        (folder / name).write_bytes(mutated(data, rng) if rng.random() < 0.6 else data)


def colmap_binary(folder, rng):
    image = (1).to_bytes(4, "little") + np.array([1.0, 0, 0, 0, 0, 0, 0]).tobytes() + (1).to_bytes(4, "little")
    images = (2).to_bytes(8, "little") + b"".join(image + n + b"\0" + bytes(8) for n in (b"a.png", b"b.png"))
    for name, data in (("images.bin", images), ("cameras.bin", COLMAP_BINARY)):
        (folder / name).write_bytes(mutated(data, rng) if rng.random() < 0.6 else data)


def document(folder, rng):
    data = write_document(document_from_cameras(path())).encode()
    (folder / "a.json").write_bytes(as_json(data, rng))


def read_document(folder):
    text = (folder / "a.json").read_bytes().decode("utf-8", "replace")
    sample_document(parse_document(text), frames=5, width=64, height=48)


TENSORS = {
    "a.weight": torch.ones(8, 8),
    "a.bias": torch.ones(8, dtype=torch.float16),
    "b": torch.ones(3, dtype=torch.int64),
}
MANIFEST = Manifest("flashworld", {"model_id": "x", "steps": [1, 2], "vae": {"dim": 3}}, "license")


@functools.cache
def torch_file(new: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": TENSORS, "step": 3}, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


def safetensors(folder, rng):
    data = save(TENSORS, MANIFEST.metadata())
    if rng.random() < 0.6:
        length = int.from_bytes(data[:8], "little")
        head = json.dumps(mutated_json(json.loads(data[8 : 8 + length]), rng)).encode()
        data = len(head).to_bytes(8, "little") + head + data[8 + length :]
    else:
        data = mutated(data, rng)
    (folder / "model.safetensors").write_bytes(data)


def folder_of_a_model(folder, rng):
    (folder / "model.safetensors").write_bytes(save(TENSORS))
    (folder / "config.json").write_bytes(as_json(MANIFEST.to_json().encode(), rng))
    index = {"weight_map": dict.fromkeys(TENSORS, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_bytes(as_json(json.dumps(index).encode(), rng))


def read_model(folder):
    Manifest.from_json((folder / "config.json").read_text(errors="replace"), "config.json")
    open_weights(folder)
    describe(folder)


def read_weights(folder):
    file = next(folder.iterdir())
    describe(file)
    weights = open_weights(file)
    for name in weights.entries:
        weights.read(name)


@functools.cache
def image_file(kind: str) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray((np.arange(48 * 64 * 3) % 251).astype(np.uint8).reshape(48, 64, 3))
    picture.save(stream, kind, exif=Image.Exif(), **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


def of_bytes(name, data):
    return lambda folder, rng: (folder / name).write_bytes(mutated(data(), rng))


CASES = {
    **{kind: (camera_file(kind), read_path) for kind in ("nerfstudio", "inria", "realestate10k", "flashworld")},
    "request": (camera_file("flashworld"), lambda folder: FlashWorldRequest.read(folder / "a.json")),
    "colmap_text": (colmap_text, read_cameras),
    "colmap_binary": (colmap_binary, read_cameras),
    "document": (document, read_document),
    "safetensors": (safetensors, read_weights),
    "torch": (of_bytes("a.ckpt", lambda: torch_file(True)), read_weights),
    "old_torch": (of_bytes("a.pt", lambda: torch_file(False)), read_weights),
    "model_folder": (folder_of_a_model, read_model),
    **{
        kind: (of_bytes("a", functools.partial(image_file, kind)), lambda folder: open_image(folder / "a"))
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
    },
}


def run(folder, name, count, seed):
    make, read = CASES[name]
    folder = folder / "files"
    folder.mkdir()
    read_damaged(name, count, seed, lambda rng: make(folder, rng), lambda: read(folder), folder, longest=1000)


@pytest.mark.parametrize("name", CASES)
def test_damaged_files(tmp_path, name, caplog):
    caplog.set_level("CRITICAL")
    run(tmp_path, name, 200, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_files(tmp_path, name, caplog):
    caplog.set_level("CRITICAL")
    run(tmp_path, name, 10_000, seed=1000)
