"""The text at the head of a PLY file: elements, properties, comments, and scene metadata inside comments."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ...errors import FlashWorldError
from ...gaussians import SH_COEFFICIENTS
from ...text import get_logger

log = get_logger(__name__)
HEADER_LIMIT = 1 << 20  # bytes; a header beyond this is no scene's
METADATA_LIMIT = 6000  # bytes; some viewers look for end_header in the first 10 KB only
_METADATA_LINE = 200  # characters; some C readers have short line buffers
_METADATA_PREFIX = "flashworld "
AXES_COMMENTS = {
    "source": "axes: x right, y down, z forward (OpenCV)",
    "y-up": "axes: x right, y up, z backward (OpenGL)",
}
_TYPES = {
    name: code
    for code, names in {
        "i1": "char int8",
        "u1": "uchar uint8",
        "i2": "short int16",
        "u2": "ushort uint16",
        "i4": "int int32",
        "u4": "uint uint32",
        "i8": "int64",
        "u8": "uint64",
        "f4": "float float32",
        "f8": "double float64",
    }.items()
    for name in names.split()
}
PlyFormat = Literal["ascii", "binary_little_endian", "binary_big_endian"]


@dataclasses.dataclass(frozen=True)
class PlyProperty:
    """One named number per row; with ``is_list`` a counted list of them."""

    name: str
    type: str  # numpy code without byte order: "f4", "u1", ...
    is_list: bool = False


@dataclasses.dataclass(frozen=True)
class PlyElement:
    """A table of ``count`` rows."""

    name: str
    count: int
    properties: tuple[PlyProperty, ...]

    @property
    def names(self) -> list[str]:
        return [p.name for p in self.properties]

    def row_dtype(self, byte_order: str) -> np.dtype | None:
        """The packed numpy record of one row, ``byte_order`` being "<" or ">"; None if lists make rows differ."""
        if any(p.is_list for p in self.properties):
            return None
        return np.dtype([(p.name, byte_order + p.type) for p in self.properties])


@dataclasses.dataclass(frozen=True)
class PlyHeader:
    """What a PLY file says about itself.

    Attributes:
        format: encoding of the rows.
        elements: in file order.
        comments: text of the ``comment`` and ``obj_info`` lines.
        data_offset: byte at which the rows begin.
    """

    format: PlyFormat
    elements: tuple[PlyElement, ...]
    comments: tuple[str, ...]
    data_offset: int

    def element(self, name: str) -> PlyElement | None:
        return next((e for e in self.elements if e.name == name), None)


def read_ply_header(path: str | os.PathLike) -> PlyHeader:
    """Read the header of any PLY file (`parse_ply_header`).

    Raises:
        FlashWorldError: the file cannot be opened, or its header is no valid PLY header.
    """
    try:
        with open(path, "rb") as stream:
            return parse_ply_header(stream, str(Path(path)))
    except OSError as error:
        raise FlashWorldError(f"{Path(path)} cannot be opened: {error.strerror or error}.") from error


def parse_ply_header(stream: BinaryIO, where: str) -> PlyHeader:
    """Parse the header at the start of a binary stream; lines may end in LF, CR LF or CR.

    Args:
        stream: positioned at byte 0; left at an unspecified place.
        where: function and file, opens the messages.

    Raises:
        FlashWorldError: naming the line that is wrong.
    """
    lines, data_offset = _header_lines(stream, where)
    file_format, comments = None, []
    tables: list[tuple[str, int, list[PlyProperty]]] = []
    for number, line in enumerate(lines[1:], start=2):
        keyword, _, rest = line.strip().partition(" ")
        words = rest.split()
        try:
            if keyword == "format":
                if words[:1] not in (["ascii"], ["binary_little_endian"], ["binary_big_endian"]):
                    raise ValueError("the format must be ascii, binary_little_endian or binary_big_endian")
                file_format = words[0]
            elif keyword in ("comment", "obj_info"):
                comments.append(rest)
            elif keyword == "element":
                name, count = words
                if not re.fullmatch(r"[0-9]{1,18}", count):
                    raise ValueError(f"{count[:40]!r} is no number of rows")
                tables.append((name, int(count), []))
            elif keyword == "property":
                if not tables:
                    raise ValueError("a property needs an element before it")
                tables[-1][2].append(_parse_property(words))
            elif keyword:
                raise ValueError(f"unknown keyword {keyword[:40]!r}")
        except ValueError as error:
            raise FlashWorldError(f"{where}: line {number} of the PLY header, {line[:80]!r}: {error}.") from None
    if file_format is None:
        raise FlashWorldError(f"{where}: the PLY header has no format line.")
    for name, _, properties in tables:
        twice, times = next(iter(Counter(p.name for p in properties).most_common(1)), ("", 1))
        if times > 1:
            raise FlashWorldError(f"{where}: element {name!r} has the property {twice!r} more than once.")
    elements = tuple(PlyElement(name, count, tuple(properties)) for name, count, properties in tables)
    if len({e.name for e in elements}) < len(elements):
        raise FlashWorldError(f"{where}: the PLY header declares an element twice.")
    return PlyHeader(file_format, elements, tuple(comments), data_offset)


def metadata_comments(metadata: dict, where: str) -> list[str]:
    """Scene metadata as comment texts: pure ASCII, one line each, short lines, `METADATA_LIMIT` in all.

    Each entry becomes a small JSON object, cut into lines where it is long. Entries that no longer fit are left
    out with a warning, so a long prompt cannot make a file that viewers refuse.

    Raises:
        FlashWorldError: an entry that JSON cannot hold (NaN, objects).
    """
    lines, used = [], 0
    for key, value in metadata.items():
        try:
            text = json.dumps({key: value}, allow_nan=False, separators=(",", ":"), default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise FlashWorldError(
                f"{where}: metadata {key!r} cannot be written as JSON ({error}); use numbers, text, lists and dicts."
            ) from None
        # Outside of strings this JSON has no spaces; escaped they survive tools that strip line ends.
        text = text.replace(" ", "\\u0020")
        pieces = [text[i : i + _METADATA_LINE] for i in range(0, len(text), _METADATA_LINE)]
        size = sum(len(f"comment {_METADATA_PREFIX}\n") + len(piece) for piece in pieces)
        if used + size > METADATA_LIMIT:
            log.warning("%s: metadata %r is too long for the file header and is left out.", where, key)
            continue
        used += size
        lines += [_METADATA_PREFIX + piece for piece in pieces]
    return lines


def metadata_from_comments(comments: tuple[str, ...], where: str) -> dict:
    """The dict `metadata_comments` was given; {} for other writers' files, what is readable from damaged ones."""
    text = "".join(c[len(_METADATA_PREFIX) :].strip() for c in comments if c.startswith(_METADATA_PREFIX))
    metadata, decoder, position = {}, json.JSONDecoder(parse_constant=lambda name: None), 0
    try:
        while position < len(text):
            entry, position = decoder.raw_decode(text, position)
            metadata.update(entry)
    except (ValueError, TypeError, RecursionError):
        log.warning("%s: the metadata in the header comments is damaged; kept %s.", where, sorted(metadata) or "none")
    return metadata


def _header_lines(stream: BinaryIO, where: str) -> tuple[list[str], int]:
    """The lines before ``end_header`` and the offset of the first byte after it."""
    stream.seek(0)
    head = stream.read(HEADER_LIMIT)
    # The first line decides how lines end, since the rows may begin with any byte.
    first = re.match(rb"ply[ \t]*(\r\n|\r|\n)", head)
    if first is None:
        raise FlashWorldError(f"{where}: not a PLY file (byte 0 is not the word 'ply').")
    ending = first.group(1)
    end = re.search(rb"%s[ \t]*end_header[ \t]*(%s|\Z)" % (re.escape(ending), re.escape(ending)), head)
    if end is None:
        raise FlashWorldError(f"{where}: the PLY header has no end_header line in its first {len(head)} bytes.")
    text = head[: end.start()].decode("utf-8", errors="replace")
    return text.split(ending.decode()), end.end()


def _parse_property(words: list[str]) -> PlyProperty:
    if len(words) == 4 and words[0] == "list" and words[1] in _TYPES and words[2] in _TYPES:
        return PlyProperty(words[3], _TYPES[words[2]], is_list=True)
    if len(words) != 2:
        raise ValueError("a property is a type and a name")
    if words[0] not in _TYPES:
        raise ValueError(f"unknown type {words[0][:40]!r}")
    return PlyProperty(words[1], _TYPES[words[0]])


def _plain(value):
    """JSON stand-in for numpy and torch numbers and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")


MEANS = ["x", "y", "z"]
SCALES = [f"scale_{i}" for i in range(3)]
QUATS = [f"rot_{i}" for i in range(4)]
_COLORS = ["red", "green", "blue"]
_FILTER_3D = "filter_3D"
_MIP_WORDS = {"splatrendermode:mip", "antialiased1", "antialiased:1"}  # comments without spaces, lower case
_DISC_WORDS = {"splatrendermode:2dgs"}


@dataclasses.dataclass(frozen=True)
class PlyLayout:
    """The columns that matter, in the order the reader wants them: means, color, opacity, scales, quats, filter.

    Attributes:
        kind: "3dgs": f_dc_0..2 and channel-major f_rest_*, what all tools share. "flashworld": the official
            exporter's f_dc_{3k+c} for coefficient k and color c, in an OpenGL world (y up, z backward).
            "rgb": plain red, green, blue instead of coefficients.
        names: property names in canonical order.
        coefficients: K = (degree + 1)^2.
        color_scale: only for "rgb": factor from the stored number to 0..1.
        scales: how many there are: 3, or 2 for discs (2DGS), or 1 for spheres.
        quats: whether there are any; spheres need none.
        filter_3d: whether the last column is mip-splatting's 3D smoothing filter, a standard deviation that every
            Gaussian is still to be convolved with.
    """

    kind: Literal["3dgs", "flashworld", "rgb"]
    names: tuple[str, ...]
    coefficients: int
    color_scale: float = 1.0
    scales: int = 3
    quats: bool = True
    filter_3d: bool = False

    @property
    def shape(self) -> str:
        """What the Gaussians are: "3dgs", "2dgs" (discs) or "isotropic" (spheres)."""
        return {3: "3dgs", 2: "2dgs", 1: "isotropic"}[self.scales]

    @property
    def sh_degree(self) -> int:
        return SH_COEFFICIENTS.index(self.coefficients)


def written_names(coefficients: int, normals: bool = False) -> list[str]:
    """The properties `write_ply` writes, all float, in file order."""
    middle = ["nx", "ny", "nz"] if normals else []
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    return [*MEANS, *middle, "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity", *SCALES, *QUATS]


def gaussian_layout(vertex: PlyElement, where: str) -> PlyLayout:
    """Recognize the layout of a vertex element.

    Raises:
        FlashWorldError: the element holds no Gaussians, or color coefficients in an impossible number.
    """
    present = set(vertex.names)
    if "packed_position" in present:
        raise FlashWorldError(f"{where}: this is a compressed PLY (packed_position); read it with read_scene.")
    scales = next((n for n in (1, 2) if SCALES[n - 1] in present and SCALES[n] not in present), 3)
    if SCALES[2] in present:
        scales = 3
    quats = scales > 1 or any(name in present for name in QUATS)
    shape = [*SCALES[:scales], *(QUATS if quats else [])]
    missing = [n for n in [*MEANS, "opacity", *shape] if n not in present]
    if missing:
        raise FlashWorldError(
            f"{where}: not a Gaussian scene: the vertex element lacks {', '.join(missing)}. "
            f"A point cloud or mesh cannot be read as one."
        )
    dc, rest = _count(vertex, "f_dc_", where), _count(vertex, "f_rest_", where)
    color_scale = 1.0
    if dc == 0 and rest == 0 and present.issuperset(_COLORS):
        kind, color, coefficients = "rgb", _COLORS, 1
        types = {p.type for p in vertex.properties if p.name in _COLORS}
        integer = np.dtype(types.pop()) if len(types) == 1 else np.dtype("f4")
        color_scale = 1.0 / np.iinfo(integer).max if integer.kind in "iu" else 1.0
    elif rest == 0 and dc > 3 and dc in [3 * k for k in SH_COEFFICIENTS]:
        kind, color, coefficients = "flashworld", [f"f_dc_{i}" for i in range(dc)], dc // 3
    elif dc == 3 and rest in [3 * (k - 1) for k in SH_COEFFICIENTS]:
        kind, coefficients = "3dgs", rest // 3 + 1
        color = [*(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(rest))]
    else:
        raise FlashWorldError(
            f"{where}: {dc} f_dc_* and {rest} f_rest_* properties fit no spherical-harmonics degree; "
            f"expected 3 f_dc_* with 0, 9, 24 or 45 f_rest_*, or 12, 27 or 48 f_dc_* alone."
        )
    filter_3d = _FILTER_3D in present
    names = (*MEANS, *color, "opacity", *shape, *([_FILTER_3D] if filter_3d else []))
    lists = [p.name for p in vertex.properties if p.is_list and p.name in names]
    if lists:
        raise FlashWorldError(f"{where}: vertex property {lists[0]!r} is a list; expected one number per vertex.")
    return PlyLayout(kind, names, coefficients, color_scale, scales, quats, filter_3d)


def told_by_comments(comments: tuple[str, ...]) -> dict[str, str]:
    """What comments of other writers say: ``filter`` ("antialiased"), ``kind`` ("2dgs"), ``up`` ("y", "-z", ...),
    each only if they do."""
    told = {}
    for comment in comments:
        words = "".join(comment.split()).lower()
        if words in _MIP_WORDS:
            told["filter"] = "antialiased"
        elif words in _DISC_WORDS:
            told["kind"] = "2dgs"
        elif (up := re.fullmatch(r"vertical ?axis\s*[:=]?\s*([+-]?[xyz])", comment.strip().lower())) is not None:
            told["up"] = up.group(1)
    return told


def _count(vertex: PlyElement, prefix: str, where: str) -> int:
    """How many properties prefix0, prefix1, ... there are; they must be numbered without gaps."""
    found = {n for n in vertex.names if re.fullmatch(re.escape(prefix) + "[0-9]+", n)}
    gap = next((f"{prefix}{i}" for i in range(len(found)) if f"{prefix}{i}" not in found), None)
    if gap is not None:
        raise FlashWorldError(f"{where}: the vertex element has {len(found)} {prefix}* properties but no {gap}.")
    return len(found)
