"""Reading the rows of a PLY file in chunks and turning file numbers into Gaussians."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from ...errors import FlashWorldError, check_stop
from ...gaussians import Gaussians
from ...ops.measure import oversized_warning
from ...ops.transform import transform
from ...sh import rgb_to_dc
from ...text import get_logger
from .ply_header import PlyElement, PlyLayout, gaussian_layout, parse_ply_header
from .row_store import Limit, RowStore

log = get_logger(__name__)

_ASCII_CHUNK_ROWS = 4096


class RowReader:
    """The vertex rows of an open PLY file as float32 chunks; a context manager.

    Attributes:
        header: the file's `PlyHeader`.
        where: function and file, opens the messages.
        layout: which columns make up Gaussians.
        count: number of rows, already checked against the size of the file.

    Raises:
        FlashWorldError: no Gaussian scene, or fewer bytes than the header promises.
    """

    def __init__(self, path: str | os.PathLike, where: str, chunk_bytes: int):
        self.where, self._chunk_bytes = where, chunk_bytes
        self._stream = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        try:
            self.header = parse_ply_header(self._stream, where)
            vertex = self.header.element("vertex")
            if vertex is None:
                raise FlashWorldError(f"{where}: the PLY has no vertex element, so no Gaussians.")
            self.layout: PlyLayout = gaussian_layout(vertex, where)
            self._vertex, self.count = vertex, vertex.count
            self._size = os.fstat(self._stream.fileno()).st_size
            self._before = self.header.elements[: self.header.elements.index(vertex)]
            if self.header.format == "ascii":
                self._check_ascii()
            else:
                self._start = self._check_binary()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> RowReader:
        return self

    def __exit__(self, *_):
        self._stream.close()

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each chunk of n rows a float32 matrix [n, C] and the column of each of ``layout.names`` in it.

        The matrix is a buffer that is reused: use a chunk before asking for the next.
        """
        yield from self._ascii_chunks() if self.header.format == "ascii" else self._binary_chunks()

    # ---- binary -----------------------------------------------------------------------------------------

    @property
    def _byte_order(self) -> str:
        return ">" if self.header.format == "binary_big_endian" else "<"

    def _check_binary(self) -> int:
        """Byte at which the vertices begin, after checking that all of them are there."""
        start = self.header.data_offset
        for element in self._before:
            dtype = element.row_dtype(self._byte_order)
            if dtype is None:
                raise FlashWorldError(
                    f"{self.where}: element {element.name!r} before the vertices holds lists, which cannot be "
                    f"skipped; save the file with the vertices first."
                )
            start += element.count * dtype.itemsize
        dtype = self._vertex.row_dtype(self._byte_order)
        if dtype is None:
            raise FlashWorldError(f"{self.where}: the vertices hold a list property; Gaussian rows have a fixed size.")
        end = start + self.count * dtype.itemsize
        if end > self._size:
            raise FlashWorldError(
                f"{self.where}: truncated, or a wrong count in the header: {self.count} vertices of {dtype.itemsize} "
                f"bytes from byte {start} would end at byte {end}, but the file ends at byte {self._size}."
            )
        return start

    def _binary_chunks(self):
        dtype = self._vertex.row_dtype(self._byte_order)
        chunk = max(1, min(self.count, self._chunk_bytes // dtype.itemsize))
        buffer = np.empty(chunk * dtype.itemsize, np.uint8)
        # Rows of plain native floats are a matrix already; others are converted column by column.
        plain = all(dtype[i] == np.dtype("=f4") for i in range(len(dtype)))
        columns = np.array([self._vertex.names.index(name) for name in self.layout.names])
        canonical = None if plain else np.empty((chunk, len(columns)), np.float32)
        self._stream.seek(self._start)
        for start in range(0, self.count, chunk):
            n = min(chunk, self.count - start)
            part = memoryview(buffer)[: n * dtype.itemsize]
            self._read_into(part, self._start + start * dtype.itemsize)
            if plain:
                yield np.frombuffer(part, np.float32).reshape(n, -1), columns
            else:
                records = np.frombuffer(part, dtype)
                with np.errstate(over="ignore"):  # a double too large becomes inf and is treated as such
                    for column, name in enumerate(self.layout.names):
                        canonical[:n, column] = records[name]
                yield canonical[:n], np.arange(len(columns))

    def _read_into(self, part: memoryview, offset: int) -> None:
        done = 0
        while done < len(part):
            got = self._stream.readinto(part[done:])
            if not got:
                raise FlashWorldError(f"{self.where}: the file became shorter while reading, at byte {offset + done}.")
            done += got

    # ---- ascii ------------------------------------------------------------------------------------------

    def _check_ascii(self) -> None:
        """A row needs a digit and a separator per property, so a count can be refused by the file's size."""
        needed = self.header.data_offset + sum(_ascii_row_bytes(e) * e.count for e in (*self._before, self._vertex)) - 1
        if self.count and needed > self._size:
            raise FlashWorldError(
                f"{self.where}: truncated, or a wrong count in the header: {self.count} vertices need at least "
                f"{needed} bytes, but the file ends at byte {self._size}."
            )
        if any(p.is_list for p in self._vertex.properties):
            raise FlashWorldError(f"{self.where}: the vertices hold a list property; Gaussian rows have a fixed size.")

    def _ascii_chunks(self):
        self._stream.seek(self.header.data_offset)
        text_stream = io.TextIOWrapper(self._stream, encoding="latin-1")  # rows may end in LF, CR LF or CR
        lines = (line for line in text_stream if line.strip())
        for element in self._before:
            if sum(1 for _ in islice(lines, element.count)) < element.count:
                raise FlashWorldError(f"{self.where}: the file ends inside element {element.name!r}.")
        names = self._vertex.names
        columns = np.array([names.index(name) for name in self.layout.names])
        for start in range(0, self.count, _ASCII_CHUNK_ROWS):
            wanted = min(_ASCII_CHUNK_ROWS, self.count - start)
            text = list(islice(lines, wanted))
            if len(text) < wanted:
                raise FlashWorldError(
                    f"{self.where}: truncated: {start + len(text)} vertex rows, the header promises {self.count}."
                )
            matrix = self._parse_ascii(text, len(names), start)
            with np.errstate(over="ignore"):
                yield matrix.astype(np.float32), columns

    def _parse_ascii(self, text: list[str], width: int, start: int) -> np.ndarray:
        try:
            matrix = np.loadtxt(text, dtype=np.float64, ndmin=2, comments=None)
            if matrix.shape != (len(text), width):
                raise ValueError(f"{matrix.shape[1]} numbers instead of {width}")
            return matrix
        except ValueError as failure:
            # Find the row to name: the parser's own message counts from its chunk.
            for offset, line in enumerate(text):
                words = line.split()
                try:
                    values = [float(word) for word in words]
                except ValueError as error:
                    raise FlashWorldError(f"{self.where}: vertex row {start + offset}: {str(error)[:100]}.") from None
                if len(values) != width:
                    raise FlashWorldError(
                        f"{self.where}: vertex row {start + offset} has {len(values)} numbers, expected {width}."
                    ) from None
            raise FlashWorldError(
                f"{self.where}: vertex rows {start} to {start + len(text) - 1}: {str(failure)[:100]}."
            ) from None


def activate(
    rows: RowReader,
    metadata: dict,
    *,
    turn: bool,
    invalid: str,
    limit: Limit | None = None,
    progress=None,
    should_stop=None,
) -> Gaussians:
    """All rows as `Gaussians`: sigmoid, exp, unit quaternions, colors coefficient-major.

    Args:
        rows: the open file.
        metadata: goes into the result.
        turn: the file's world is OpenGL's; turn it half around x.
        invalid: "drop" or "error" for rows that are not finite.
        limit: what is to stay of them.
        progress, should_stop: as `ply.read_ply`.
    """
    total = rows.count
    store = RowStore(total, rows.layout.coefficients, limit)
    done = dropped = 0
    for matrix, columns in rows.chunks():
        check_stop(should_stop)
        for piece, part in store.pieces(len(matrix)):
            n = piece.stop - piece.start
            with np.errstate(all="ignore"):
                _fill(part, matrix[piece], columns, rows.layout)
                if turn:
                    _turn(part)
                odd = not np.isfinite(sum(array.sum() for array in part.values()))
            keep = None
            if odd:  # a NaN, an infinity, or just a sum that overflowed
                keep = np.logical_and.reduce([np.isfinite(a.reshape(n, -1)).all(axis=1) for a in part.values()])
                if invalid == "error" and not keep.all():
                    raise FlashWorldError(
                        f"{rows.where}: vertex row {done + int(np.argmin(keep))} is not finite; "
                        f'read with invalid="drop" to leave it out.'
                    )
                dropped += n - int(keep.sum())
            store.accept(n, keep)
            done += n
        if progress is not None:
            progress(done, total)
    if dropped:
        log.warning("%s: dropped %d of %d Gaussians that are not finite.", rows.where, dropped, total)
    scene = store.scene(metadata)
    if (warning := oversized_warning(scene)) is not None:
        log.warning("%s: %s", rows.where, warning)
    return scene


def _fill(part: dict[str, np.ndarray], matrix: np.ndarray, columns: np.ndarray, layout: PlyLayout) -> None:
    """Activate one chunk of file numbers [n, C] into the arrays of ``part``."""
    n, k = len(matrix), layout.coefficients
    cuts = np.cumsum([3, 3 * k, 1, layout.scales, 4 if layout.quats else 0])
    means, color, opacity, scales, quats, smoothing = np.split(columns, cuts)
    if layout.kind == "3dgs":  # channel-major rest: coefficient k of color c is f_rest_{c (K - 1) + k - 1}
        color = np.concatenate([color[:3], color[3:].reshape(3, k - 1).T.ravel()])

    def take(which: np.ndarray, target: np.ndarray) -> None:
        # One gather per group serves every property order; "clip" lets numpy write to the target directly.
        np.take(matrix, which, axis=1, out=target.reshape(n, -1), mode="clip")

    take(means, part["means"])
    take(color, part["sh"])
    if layout.kind == "rgb":
        part["sh"][:] = rgb_to_dc(part["sh"] * np.float32(layout.color_scale))
    if layout.scales == 3:
        take(scales, part["scales"])
        np.exp(part["scales"], out=part["scales"])
    else:  # a sphere has one for all axes, a disc none for the third
        part["scales"][:] = np.exp(matrix[:, scales[[0, 0, 0] if layout.scales == 1 else [0, 1, 1]]])
        if layout.scales == 2:
            part["scales"][:, 2] = 0
    o = part["opacities"]
    np.negative(matrix[:, opacity[0]], out=o)
    np.exp(o, out=o)
    o += 1
    np.reciprocal(o, out=o)
    if layout.filter_3d:
        _smooth(part, matrix[:, smoothing[0]])
    q = part["quats"]
    if not layout.quats:
        q[:] = (1, 0, 0, 0)
        return
    take(quats, q)
    squares = np.einsum("ij,ij->i", q, q)
    if len(squares) and not (squares.min() > 1e-30 and squares.max() < 1e30):
        q[:] = _normalized_carefully(q)
    else:
        q /= np.sqrt(squares)[:, None]


def _smooth(part: dict[str, np.ndarray], sigma: np.ndarray) -> None:
    """Convolve Gaussians with a sphere of ``sigma`` [n] each, as mip-splatting does before it draws them.

    The variances add up, and the opacity shrinks by the ratio of the volumes ("Mip-Splatting", equation 9).
    """
    squares = part["scales"] ** 2
    wider = squares + np.square(sigma)[:, None]
    part["opacities"] *= np.sqrt((squares / np.maximum(wider, np.float32(1e-38))).prod(axis=1))
    np.sqrt(wider, out=part["scales"])


def _normalized_carefully(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions [n, 4] where squares would leave float32's range; zero ones become the identity."""
    quats = quats.astype(np.float64)
    norm = np.linalg.norm(quats, axis=1, keepdims=True)
    return np.where(norm == 0, [1.0, 0.0, 0.0, 0.0], quats / norm)


def _turn(part: dict[str, np.ndarray]) -> None:
    """From an OpenGL world (y up, z backward) to ours: half a turn around x."""
    tensors = {name: torch.from_numpy(array) for name, array in part.items()}
    turned = transform(Gaussians(**tensors), rotation=torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    for name, tensor in tensors.items():
        tensor.copy_(getattr(turned, name))


def _ascii_row_bytes(element: PlyElement) -> int:
    return 2 * len(element.properties)
