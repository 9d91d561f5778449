"""Lens models of camera files: which of them a pinhole camera stands for, by one rule for every format.

Coefficients that are all zero are a pinhole. Small ones are read as the pinhole of the same focal lengths, and the
largest displacement in the image is said. Fisheye and panorama models, and displacements above `LARGE` of the image's
diagonal, are refused by name: views rendered with a pinhole would not lie over such images.

Models and parameter orders are COLMAP's (its documentation, "Camera Models"); nerfstudio uses the same names.
"""

from __future__ import annotations

import math

import numpy as np

from ...errors import FlashWorldError

LARGE = 0.05  # of the image's diagonal; a displacement above it is no small correction any more
_BORDER = 33  # points along each side of the image at which the displacement is measured

_TWO_FOCALS = ("fx", "fy", "cx", "cy")
# COLMAP's number of a model -> (name, parameters in the order of its files)
COLMAP_MODELS: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("SIMPLE_PINHOLE", ("f", "cx", "cy")),
    1: ("PINHOLE", _TWO_FOCALS),
    2: ("SIMPLE_RADIAL", ("f", "cx", "cy", "k1")),
    3: ("RADIAL", ("f", "cx", "cy", "k1", "k2")),
    4: ("OPENCV", (*_TWO_FOCALS, "k1", "k2", "p1", "p2")),
    5: ("OPENCV_FISHEYE", (*_TWO_FOCALS, "k1", "k2", "k3", "k4")),
    6: ("FULL_OPENCV", (*_TWO_FOCALS, "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
    7: ("FOV", (*_TWO_FOCALS, "omega")),
    8: ("SIMPLE_RADIAL_FISHEYE", ("f", "cx", "cy", "k1")),
    9: ("RADIAL_FISHEYE", ("f", "cx", "cy", "k1", "k2")),
    10: ("THIN_PRISM_FISHEYE", (*_TWO_FOCALS, "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1")),
    11: (
        "RAD_TAN_THIN_PRISM_FISHEYE",
        (*_TWO_FOCALS, *(f"k{i}" for i in range(1, 7)), "p1", "p2", "s1", "s2", "s3", "s4"),
    ),
    12: ("SIMPLE_DIVISION", ("f", "cx", "cy", "division")),
    13: ("DIVISION", (*_TWO_FOCALS, "division")),
    14: ("SIMPLE_FISHEYE", ("f", "cx", "cy")),
    15: ("FISHEYE", _TWO_FOCALS),
}
COLMAP_PARAMETERS = dict(COLMAP_MODELS.values())
_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE", "PERSPECTIVE")  # coefficients beside these names count all the same
_RADIAL = ("SIMPLE_RADIAL", "RADIAL", "OPENCV")  # nerfstudio: any of k1 to k4, p1, p2 beside any of these names
_RATIONAL = ("FULL_OPENCV",)  # here k4 to k6 stand in a denominator
_OTHERS = ("FOV", "SIMPLE_DIVISION", "DIVISION")
COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "omega", "division")


class Lenses:
    """The lens models of one file; collects what is ignored, to be said once."""

    def __init__(self, where: str):
        self.where, self.largest, self.model = where, 0.0, ""
        self._known: dict[tuple, float] = {}

    def check(self, model: str, coefficients: dict[str, float], lens, size: tuple[int, int], here: str):
        """Accept one camera as a pinhole; answer what is ignored: its model's name and coefficients, or None.

        Args:
            model: its name, in any case.
            coefficients: by the names of `COEFFICIENTS`; missing ones are zero.
            lens: fx, fy, cx, cy in pixels.
            size: width and height in pixels.
            here: where it stands in the file, for the message.

        Raises:
            FlashWorldError: a fisheye, panorama or unknown model, or a large distortion.
        """
        name = model.upper() if isinstance(model, str) else ""
        if name not in (*_PINHOLES, *_RADIAL, *_RATIONAL, *_OTHERS):
            raise FlashWorldError(
                f"{here}: the camera model {str(model)[:40]!r} is no pinhole camera; undistort the images first "
                "(colmap image_undistorter, or ns-process-data for nerfstudio)."
            )
        values = tuple(coefficients.get(key, 0.0) for key in COEFFICIENTS)
        if not any(values):
            return None
        key = (name, values, *(round(float(v), 3) for v in lens), size)
        if key not in self._known:
            self._known[key] = displacement(name, coefficients, lens, size)
        moved = self._known[key]
        if not moved <= LARGE * math.hypot(*size):
            much = f"by up to {moved:.0f} pixels" if math.isfinite(moved) else "without bound"
            raise FlashWorldError(
                f"{here}: the lens ({name}) distorts {much} in images of {size[0]}x{size[1]}, "
                "too much for a pinhole camera; undistort the images first (colmap image_undistorter)."
            )
        if moved > self.largest:
            self.largest, self.model = moved, name
        return name, {key: value for key, value in zip(COEFFICIENTS, values, strict=True) if value}

    def report(self, notify) -> None:
        """Say what was ignored, if anything was."""
        if self.largest > 0:
            notify(
                f"{self.where}: lens distortion ({self.model}) is ignored; points of its images lie up to "
                f"{self.largest:.2g} pixels from where the pinhole cameras used here see them."
            )


def displacement(model: str, coefficients: dict[str, float], lens, size: tuple[int, int]) -> float:
    """The largest distance in pixels, along the image's border, between a pinhole's and the distorted point."""
    fx, fy, cx, cy = (float(v) for v in lens)
    along = np.linspace(0.0, 1.0, _BORDER)
    u = np.concatenate([along, along, np.zeros(_BORDER), np.ones(_BORDER)]) * size[0]
    v = np.concatenate([np.zeros(_BORDER), np.ones(_BORDER), along, along]) * size[1]
    x, y = (u - cx) / fx, (v - cy) / fy
    with np.errstate(all="ignore"):
        dx, dy = distorted(model, coefficients, x, y)
        moved = np.hypot((dx - x) * fx, (dy - y) * fy)
    return float(moved.max()) if np.isfinite(moved).all() else math.inf


def distorted(model: str, c: dict[str, float], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalized image points (x / z, y / z) after the lens.

    Args:
        model: a name of `COLMAP_MODELS`, upper case.
        c: its coefficients, by the names of `COEFFICIENTS`; missing ones are zero.
        x, y: points as a pinhole sees them.
    """
    k1, k2, k3, k4, k5, k6, p1, p2, omega, division = (c.get(key, 0.0) for key in COEFFICIENTS)
    rr = x * x + y * y
    if omega:  # Devernay and Faugeras 2001
        r = np.sqrt(rr)
        factor = np.where(r > 0, np.arctan(2 * r * math.tan(omega / 2)) / (omega * np.maximum(r, 1e-12)), 1.0)
        return x * factor, y * factor
    if division:  # Fitzgibbon 2001: undistorted = distorted / (1 + k r^2)
        inverse = np.sqrt(1 - 4 * division * rr)
        factor = 2 / (1 + inverse)
        return x * factor, y * factor
    if model in _RATIONAL:
        radial = (1 + rr * (k1 + rr * (k2 + rr * k3))) / (1 + rr * (k4 + rr * (k5 + rr * k6)))
    else:
        radial = 1 + rr * (k1 + rr * (k2 + rr * (k3 + rr * k4)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (rr + 2 * x * x),
        y * radial + p1 * (rr + 2 * y * y) + 2 * p2 * x * y,
    )
