"""The JSON and the buffers of a glTF file: items, placed meshes and accessors, every number checked (`gltf_read`)."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from ...errors import FlashWorldError
from .gltf import BINARY_CHUNK, GLB_MAGIC, JSON_CHUNK

_JSON_LIMIT = 64 << 20  # bytes
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_DEPTH = 64  # nodes within nodes


@dataclasses.dataclass(frozen=True)
class Accessor:
    """Checked place of one attribute."""

    buffer: int
    offset: int
    stride: int
    count: int
    dtype: np.dtype
    width: int
    normalized: bool


class Document:
    """An open glTF: its JSON and where its buffers are; a context manager.

    Attributes:
        where: name of the file, opens the messages.
        size: bytes of the file and all its buffers.

    Raises:
        FlashWorldError: no glTF.
    """

    def __init__(self, path: str | os.PathLike):
        self._path, self.where = Path(path), Path(path).name
        self._stream = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        self.size = os.path.getsize(path)
        self._buffers: dict[int, tuple] = {}  # number: (stream or bytes, offset, bytes)
        self._opened = [self._stream]
        try:
            self._content = self._parse()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Document:
        return self

    def __exit__(self, *_):
        for stream in self._opened:
            stream.close()

    def entry(self, name: str) -> dict:
        """A part of the JSON that is an object; {} if it is missing."""
        value = self._content.get(name, {})
        return value if isinstance(value, dict) else {}

    def values(self, accessor: Accessor, start: int, stop: int) -> np.ndarray:
        """[stop - start, width] float32 of an accessor's rows; integers become 0..1 or -1..1 if normalized."""
        item = accessor.dtype.itemsize
        size = (stop - start - 1) * accessor.stride + accessor.width * item
        data = self.read(accessor.buffer, accessor.offset + start * accessor.stride, size)
        shape, strides = (stop - start, accessor.width), (accessor.stride, item)
        raw = np.ndarray(shape, accessor.dtype, data, 0, strides)
        if not accessor.normalized or accessor.dtype.kind == "f":
            return raw.astype(np.float32)
        return np.maximum(raw.astype(np.float32) / np.float32(np.iinfo(accessor.dtype).max), np.float32(-1))

    def read(self, buffer: int, offset: int, size: int) -> bytes:
        """Bytes of a buffer; the place was checked when its accessor was."""
        source, first, _ = self._buffer(buffer)
        if isinstance(source, bytes):
            return source[offset : offset + size]
        source.seek(first + offset)
        data = source.read(size)
        if len(data) < size:
            raise FlashWorldError(f"{self.where}: buffer {buffer} became shorter while reading.")
        return data

    # ---- JSON -----------------------------------------------------------------------------------------------

    def _parse(self) -> dict:
        head = self._stream.read(12)
        if head[:4] == struct.pack("<I", GLB_MAGIC):
            text = self._glb(head)
        else:
            if self.size > _JSON_LIMIT:
                raise FlashWorldError(f"{self.where}: is no glTF, or one with {self.size:,} bytes of JSON.")
            text = head + self._stream.read()
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FlashWorldError(f"{self.where}: its JSON cannot be read ({str(error)[:80]}).") from None
        asset = content.get("asset") if isinstance(content, dict) else None
        if not isinstance(asset, dict) or not str(asset.get("version", "")).startswith("2"):
            raise FlashWorldError(f"{self.where}: is no glTF of version 2.")
        return content

    def _glb(self, head: bytes) -> bytes:
        if len(head) < 12 or struct.unpack("<I", head[4:8])[0] != 2:
            raise FlashWorldError(f"{self.where}: is no GLB of version 2.")
        text, position = None, 12
        while position + 8 <= self.size:
            self._stream.seek(position)
            length, kind = struct.unpack("<II", self._stream.read(8))
            if position + 8 + length > self.size:
                raise FlashWorldError(f"{self.where}: a chunk of {length} bytes at byte {position} is cut short.")
            if text is None:
                if kind != JSON_CHUNK or length > _JSON_LIMIT:
                    raise FlashWorldError(f"{self.where}: the GLB does not begin with JSON of a sensible size.")
                text = self._stream.read(length)
            elif kind == BINARY_CHUNK and 0 not in self._buffers:
                self._buffers[0] = (self._stream, position + 8, length)
            position += 8 + length
        if text is None:
            raise FlashWorldError(f"{self.where}: the GLB has no JSON.")
        return text

    def item(self, kind: str, number) -> dict:
        items = self._content.get(kind)
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(items, list):
            raise FlashWorldError(f"{self.where}: {str(number)[:20]} is no number of one of its {kind}.")
        if not 0 <= number < len(items) or not isinstance(items[number], dict):
            raise FlashWorldError(f"{self.where}: there is no number {number} of its {kind}.")
        return items[number]

    def list_of(self, item: dict, key: str) -> list:
        value = item.get(key, [])
        if not isinstance(value, list):
            raise FlashWorldError(f"{self.where}: {key} must be a list.")
        return value

    def placed_meshes(self) -> Iterator[tuple[int, np.ndarray]]:
        """(mesh, [4, 4] matrix) of the default scene's nodes; of all nodes that no other holds if there is no scene."""
        nodes = self.list_of(self._content, "nodes")
        if self._content.get("scenes"):
            roots = self.list_of(self.item("scenes", self._content.get("scene", 0)), "nodes")
        else:
            inner = {c for n in nodes if isinstance(n, dict) for c in self.list_of(n, "children") if isinstance(c, int)}
            roots = [number for number in range(len(nodes)) if number not in inner]
        waiting, seen = [(number, np.eye(4), 0) for number in reversed(roots)], 0
        while waiting:
            number, outer, depth = waiting.pop()
            node = self.item("nodes", number)
            seen += 1
            if depth > _DEPTH or seen > len(nodes):
                raise FlashWorldError(f"{self.where}: its nodes hold one another in a circle, or one twice.")
            matrix = outer @ self._matrix(node)
            if "mesh" in node:
                yield node["mesh"], matrix
            waiting += [(child, matrix, depth + 1) for child in reversed(self.list_of(node, "children"))]

    def _matrix(self, node: dict) -> np.ndarray:
        if "matrix" in node:
            return self._floats(node, "matrix", 16, None).reshape(4, 4).T
        matrix = np.eye(4)
        x, y, z, w = self._floats(node, "rotation", 4, (0, 0, 0, 1))
        length = np.sqrt(x * x + y * y + z * z + w * w)
        if not length > 0:
            raise FlashWorldError(f"{self.where}: the rotation of a node is no quaternion.")
        x, y, z, w = (v / length for v in (x, y, z, w))
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        matrix[:3, :3] *= self._floats(node, "scale", 3, (1, 1, 1))
        matrix[:3, 3] = self._floats(node, "translation", 3, (0, 0, 0))
        return matrix

    def _floats(self, item: dict, key: str, size: int, default) -> np.ndarray:
        value = item.get(key, default)
        numbers = isinstance(value, (list, tuple)) and len(value) == size
        if not numbers or not all(isinstance(v, (int, float)) and abs(v) < 1e30 for v in value):
            raise FlashWorldError(f"{self.where}: the {key} of a node must be {size} finite numbers.")
        return np.array(value, np.float64)

    def accessor(self, number, width: int, name: str) -> Accessor:
        item = self.item("accessors", number)
        count, kind, offset = item.get("count"), item.get("componentType"), item.get("byteOffset", 0)
        if (
            not isinstance(kind, int)
            or kind not in _TYPES
            or _WIDTHS.get(str(item.get("type"))) != width
            or "sparse" in item
        ):
            raise FlashWorldError(f"{self.where}: {name} has an accessor of a kind that is not supported.")
        if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in (count, offset)) or not count:
            raise FlashWorldError(f"{self.where}: {name} has {str(count)[:20]} rows from byte {str(offset)[:20]}.")
        buffer, first, size, stride = self.view(item.get("bufferView"))
        dtype = np.dtype(_TYPES[kind])
        row = dtype.itemsize * width
        stride = stride or row
        end = offset + stride * (count - 1) + row
        if stride < row or end > size:
            raise FlashWorldError(
                f"{self.where}: {name} needs {end} bytes of a view of {size}, the file is damaged or cut short."
            )
        return Accessor(buffer, first + offset, stride, count, dtype, width, item.get("normalized") is True)

    def view(self, number) -> tuple[int, int, int, int]:
        """(buffer, offset in it, bytes, stride or 0), inside its buffer."""
        view = self.item("bufferViews", number)
        buffer, offset, length, stride = (view.get(k, 0) for k in ("buffer", "byteOffset", "byteLength", "byteStride"))
        if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in (buffer, offset, length, stride)):
            raise FlashWorldError(f"{self.where}: buffer view {number} holds impossible numbers.")
        if offset + length > self._buffer(buffer)[2]:
            raise FlashWorldError(f"{self.where}: buffer view {number} ends outside of its buffer.")
        return buffer, offset, length, stride

    def _buffer(self, number: int) -> tuple:
        """(stream or bytes, offset, bytes) of a buffer, opened on first use."""
        if number not in self._buffers:
            uri = self.item("buffers", number).get("uri")
            if not isinstance(uri, str):
                raise FlashWorldError(f"{self.where}: buffer {number} has no content.")
            self._buffers[number] = self._data_uri(uri) if uri.startswith("data:") else self._neighbor(unquote(uri))
        return self._buffers[number]

    def _data_uri(self, uri: str) -> tuple:
        _, _, text = uri.partition(";base64,")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise FlashWorldError(f"{self.where}: a data URI is no base64.") from None
        return data, 0, len(data)

    def _neighbor(self, name: str) -> tuple:
        folder = self._path.parent.resolve()
        if ":" in name or "\\" in name or "\0" in name or name.startswith("/"):
            raise FlashWorldError(f"{self.where}: the buffer {name[:80]!r} is not a file beside it.")
        target = (folder / name).resolve()
        if not target.is_relative_to(folder):
            raise FlashWorldError(f"{self.where}: the buffer {name[:80]!r} leaves the folder of the file.")
        if not target.is_file():
            raise FlashWorldError(f"{self.where}: the buffer {name[:80]!r} is missing.")
        stream, size = open(target, "rb"), target.stat().st_size  # noqa: SIM115 - closed by __exit__
        self._opened.append(stream)
        self.size += size
        return stream, 0, size
