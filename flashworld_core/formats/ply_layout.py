"""Which vertex properties of a PLY file make up Gaussians, and how they are to be read."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

import numpy as np

from ..errors import FlashWorldError
from ..gaussians import SH_COEFFICIENTS
from .ply_header import PlyElement

MEANS = ["x", "y", "z"]
SCALES = [f"scale_{i}" for i in range(3)]
QUATS = [f"rot_{i}" for i in range(4)]
_COLOURS = ["red", "green", "blue"]


@dataclasses.dataclass(frozen=True)
class PlyLayout:
    """The columns that matter, in the order the reader wants them: means, colour, opacity, scales, quats.

    Attributes:
        kind: "3dgs": f_dc_0..2 and channel-major f_rest_*, what all tools share. "flashworld": the official
            exporter's f_dc_{3k+c} for coefficient k and colour c, in an OpenGL world (y up, z backward).
            "rgb": plain red, green, blue instead of coefficients.
        names: property names in canonical order.
        coefficients: K = (degree + 1)^2.
        colour_scale: only for "rgb": factor from the stored number to 0..1.
    """

    kind: Literal["3dgs", "flashworld", "rgb"]
    names: tuple[str, ...]
    coefficients: int
    colour_scale: float = 1.0

    @property
    def sh_degree(self) -> int:
        return SH_COEFFICIENTS.index(self.coefficients)


def written_names(coefficients: int, normals: bool = False) -> list[str]:
    """The properties `write_ply` writes, all float, in file order."""
    middle = ["nx", "ny", "nz"] if normals else []
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    return [*MEANS, *middle, "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity", *SCALES, *QUATS]


def gaussian_layout(vertex: PlyElement, where: str) -> PlyLayout:
    """Recognise the layout of a vertex element.

    Raises:
        FlashWorldError: the element holds no Gaussians, or colour coefficients in an impossible number.
    """
    present = set(vertex.names)
    if "packed_position" in present:
        raise FlashWorldError(
            f"{where}: this is a compressed PLY (packed_position); convert it to a standard 3DGS PLY first."
        )
    missing = [n for n in [*MEANS, "opacity", *SCALES, *QUATS] if n not in present]
    if missing:
        raise FlashWorldError(
            f"{where}: not a Gaussian scene: the vertex element lacks {', '.join(missing)}. "
            f"A point cloud or mesh cannot be read as one."
        )
    dc, rest = _count(vertex, "f_dc_", where), _count(vertex, "f_rest_", where)
    colour_scale = 1.0
    if dc == 0 and rest == 0 and present.issuperset(_COLOURS):
        kind, colour, coefficients = "rgb", _COLOURS, 1
        types = {p.type for p in vertex.properties if p.name in _COLOURS}
        integer = np.dtype(types.pop()) if len(types) == 1 else np.dtype("f4")
        colour_scale = 1.0 / np.iinfo(integer).max if integer.kind in "iu" else 1.0
    elif rest == 0 and dc > 3 and dc in [3 * k for k in SH_COEFFICIENTS]:
        kind, colour, coefficients = "flashworld", [f"f_dc_{i}" for i in range(dc)], dc // 3
    elif dc == 3 and rest in [3 * (k - 1) for k in SH_COEFFICIENTS]:
        kind, coefficients = "3dgs", rest // 3 + 1
        colour = [*(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(rest))]
    else:
        raise FlashWorldError(
            f"{where}: {dc} f_dc_* and {rest} f_rest_* properties fit no spherical-harmonics degree; "
            f"expected 3 f_dc_* with 0, 9, 24 or 45 f_rest_*, or 12, 27 or 48 f_dc_* alone."
        )
    names = (*MEANS, *colour, "opacity", *SCALES, *QUATS)
    lists = [p.name for p in vertex.properties if p.is_list and p.name in names]
    if lists:
        raise FlashWorldError(f"{where}: vertex property {lists[0]!r} is a list; expected one number per vertex.")
    return PlyLayout(kind, names, coefficients, colour_scale)


def _count(vertex: PlyElement, prefix: str, where: str) -> int:
    """How many properties prefix0, prefix1, ... there are; they must be numbered without gaps."""
    found = {n for n in vertex.names if re.fullmatch(re.escape(prefix) + "[0-9]+", n)}
    gap = next((f"{prefix}{i}" for i in range(len(found)) if f"{prefix}{i}" not in found), None)
    if gap is not None:
        raise FlashWorldError(f"{where}: the vertex element has {len(found)} {prefix}* properties but no {gap}.")
    return len(found)
