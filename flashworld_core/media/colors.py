"""What an image file says about its colors, and those colors as sRGB.

An ICC profile, in any container, goes through Pillow's ImageCms (relative colorimetric, so that colors sRGB has stay
what they are). PNG's own chunks and AVIF's color box name primaries and a transfer function: ITU-T H.273 and, for
gAMA and cHRM, the PNG specification. Where several speak, PNG's order counts: cICP, ICC, sRGB, gAMA and cHRM.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import FlashWorldError
from ..text import get_logger

if TYPE_CHECKING:
    from PIL.Image import Image

logger = get_logger(__name__)
_STRIP = 1 << 20  # pixels computed with at once
_D65 = (0.3127, 0.3290)
_BT709 = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
# By H.273's number of the primaries: red, green, blue x and y, white x and y, and a name.
_PRIMARIES = {
    1: (*_BT709, *_D65, "BT.709"),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316, "BT.470 M"),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65, "BT.601 (625 lines)"),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65, "BT.601 (525 lines)"),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65, "SMPTE 240M"),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65, "BT.2020"),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351, "DCI P3"),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65, "Display P3"),
}
_ADOBE_RGB = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060, *_D65)
_ADOBE_GAMMA = 563 / 256
_HDR = {16: "PQ (HDR)", 18: "HLG (HDR)"}
_SRGB_GAMMA = 1 / 0.45455  # what PNG writers state when they mean sRGB


def _srgb_to_linear(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055)


def _bt709_to_linear(v: np.ndarray) -> np.ndarray:
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


# By H.273's number of the transfer function.
_TRANSFERS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709_to_linear),
    4: lambda v: v**2.2,
    5: lambda v: v**2.8,
    8: lambda v: v,
    13: _srgb_to_linear,
}


@dataclasses.dataclass(frozen=True)
class ColorTags:
    """What a container says beside an ICC profile.

    Attributes:
        cicp: H.273's numbers of primaries and transfer function.
        gamma: PNG's gAMA as the exponent from samples to light.
        primaries: red, green, blue and white x, y.
        srgb: the file says that it is sRGB.
    """

    cicp: tuple[int, int] | None = None
    gamma: float | None = None
    primaries: tuple[float, ...] | None = None
    srgb: bool = False


def read_color_tags(stream: BinaryIO, picture: Image) -> ColorTags:
    """The tags of an opened picture; the stream's position is kept."""
    cicp, position = None, stream.tell()
    try:
        if picture.format == "PNG":
            cicp = _png_cicp(stream)
        elif picture.format == "AVIF":
            cicp = _avif_cicp(stream)
    finally:
        stream.seek(position)
    return dataclasses.replace(tags_of(picture), cicp=cicp)


def tags_of(picture: Image) -> ColorTags:
    """What Pillow itself knows of a picture's tags."""
    gamma, white_first = picture.info.get("gamma"), picture.info.get("chromaticity")
    usable = isinstance(gamma, (int, float)) and gamma > 0
    primaries = (*white_first[2:], *white_first[:2]) if white_first and len(white_first) == 8 else None
    if primaries is None and _exif_says_adobe_rgb(picture):
        return ColorTags(gamma=_ADOBE_GAMMA, primaries=_ADOBE_RGB)
    return ColorTags(gamma=1 / gamma if usable else None, primaries=primaries, srgb="srgb" in picture.info)


def _exif_says_adobe_rgb(picture: Image) -> bool:
    """Cameras name Adobe RGB without a profile: color space "uncalibrated" and the index R03 (DCF 2.0)."""
    if picture.format not in ("JPEG", "MPO", "TIFF", "WEBP"):
        return False
    try:
        exif = picture.getexif()
        return exif.get_ifd(0x8769).get(0xA001) in (2, 0xFFFF) and exif.get_ifd(0xA005).get(1, "")[:3] == "R03"
    except Exception:  # a damaged Exif block says nothing
        return False


def _png_cicp(stream: BinaryIO) -> tuple[int, int] | None:
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind == b"cICP" and length == 4:
            primaries, transfer = stream.read(2)
            return primaries, transfer
        stream.seek(length + 4, 1)
    return None


def _avif_cicp(stream: BinaryIO) -> tuple[int, int] | None:
    """The first nclx color box of the file's head."""
    stream.seek(0)
    head = stream.read(1 << 16)
    at = head.find(b"colrnclx")
    return struct.unpack(">HH", head[at + 8 : at + 12]) if 0 <= at <= len(head) - 12 else None


def to_srgb(
    picture: Image, tags: ColorTags, name: str, pixels16: Callable[[], np.ndarray | None] | None = None
) -> Image:
    """A picture's colors as sRGB: mode "RGB", or "RGBA" where it is transparent.

    Args:
        picture: any mode; its ``icc_profile`` is in ``info``.
        tags: what else the file says.
        name: for messages.
        pixels16: the picture once more as uint16 [H, W, 3], where it has so many bits: linear samples need them.

    Raises:
        FlashWorldError: an HDR picture, or one whose numbers mean something this does not know.
    """
    profile = picture.info.get("icc_profile")
    if tags.cicp is not None and tags.cicp[1] in _HDR:
        raise FlashWorldError(f"{name} is an {_HDR[tags.cicp[1]]} picture; save it as sRGB (SDR).")
    if profile and (tags.cicp is None or tags.cicp[0] == 2):
        return _through_profile(picture, profile, name)
    plain = _plain(picture, name)
    conversion = _conversion(tags, name)
    if conversion is None:
        return plain
    deep = pixels16() if pixels16 is not None else None
    return _computed(plain, deep, *conversion)


def _plain(picture: Image, name: str) -> Image:
    """RGB or RGBA of a picture without a profile."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode == "CMYK":
        logger.warning(
            "%s is CMYK without a color profile: its colors are a guess. Save it as RGB, or with its profile.", name
        )
    if picture.mode == "LAB":
        return _through_lab(picture)
    transparent = picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info
    return picture.convert("RGBA" if transparent else "RGB")


def _through_lab(picture: Image) -> Image:
    from PIL import ImageCms

    return ImageCms.profileToProfile(
        picture, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )  # fmt: skip


def _through_profile(picture: Image, profile: bytes, name: str) -> Image:
    """By the picture's ICC profile. One that cannot be used is named, and the colors are taken as they are."""
    try:
        from PIL import ImageCms

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        title = (source.profile.profile_description or "unnamed").strip()[:80]
        space = source.profile.xcolor_space.strip()
    except Exception as error:  # no littlecms in this Pillow, or no profile
        logger.warning("%s: its color profile cannot be read (%s); its colors are taken as sRGB.", name, error)
        return _plain(picture, name)
    mode, alpha = picture.mode, None
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        picture = picture.convert("L" if space == "GRAY" else "RGB")
    elif mode in ("P", "1", "YCbCr", "HSV"):
        picture = picture.convert("L" if space == "GRAY" else "RGB")
    elif space == "RGB" and mode == "L":  # gray numbers of an RGB profile
        picture = picture.convert("RGB")
    if picture.mode != {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}.get(space):
        logger.warning(
            "%s: its color profile %r is for %s, the picture is %s; its colors are taken as they are.",
            *(name, title, space, mode),
        )
        return _plain(picture, name)
    try:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, srgb, picture.mode, "RGB", intent)
        if picture.mode != "RGB" or not _changes_nothing(transform):
            picture = ImageCms.applyTransform(picture, transform)
    except Exception as error:
        logger.warning("%s: its color profile %r cannot be used (%s); its colors stay as they are.", name, title, error)
        picture = _plain(picture, name)
    if alpha is not None:
        picture.putalpha(alpha)
    return picture


def _changes_nothing(transform) -> bool:
    """Whether a transform is from sRGB but for rounding: then the file's own numbers are better than computed ones."""
    from PIL import Image, ImageCms

    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    after = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
    return int(np.abs(after.astype(int) - grid).max()) <= 1


def _conversion(tags: ColorTags, name: str):
    """(samples to light, 3x3 to BT.709's primaries or None), or None if the numbers are sRGB's."""
    if tags.cicp is not None and tags.cicp[0] != 2:
        primaries, transfer = tags.cicp
        if primaries not in _PRIMARIES or (transfer not in _TRANSFERS and transfer != 2):
            raise FlashWorldError(
                f"{name} has colors of a kind this does not know (H.273 primaries {primaries}, transfer {transfer}); "
                "save it as sRGB."
            )
        matrix = _to_bt709(_PRIMARIES[primaries][:8])
        if matrix is None and transfer in (1, 2, 6, 13, 14, 15):
            return None  # BT.709's camera curve is shown as sRGB everywhere
        return _TRANSFERS.get(transfer, _srgb_to_linear), matrix
    if tags.srgb or (tags.gamma is None and tags.primaries is None):
        return None
    matrix = None if tags.primaries is None else _to_bt709(tags.primaries)
    gamma = tags.gamma
    if gamma is None or (matrix is None and abs(gamma / _SRGB_GAMMA - 1) < 0.01):
        return None if matrix is None else (_srgb_to_linear, matrix)
    return (lambda v: v**gamma), matrix


def _to_bt709(primaries: tuple[float, ...]) -> np.ndarray | None:
    """3x3 from linear values of these primaries to BT.709's, white adapted (Bradford); None if they are BT.709's."""
    if np.abs(np.subtract(primaries, (*_BT709, *_D65))).max() < 2e-3:
        return None
    try:
        ours, theirs = _rgb_to_xyz((*_BT709, *_D65)), _rgb_to_xyz(primaries)
        bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        gain = (bradford @ ours.sum(1)) / (bradford @ theirs.sum(1))
        matrix = np.linalg.inv(ours) @ np.linalg.inv(bradford) @ np.diag(gain) @ bradford @ theirs
    except np.linalg.LinAlgError:
        return None
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 100 else None


def _rgb_to_xyz(primaries: tuple[float, ...]) -> np.ndarray:
    """Columns: XYZ of red, green, blue, scaled so that they add up to the white point."""
    x, y = np.array(primaries[0::2]), np.array(primaries[1::2])
    if (y <= 0).any():
        raise np.linalg.LinAlgError("no color has y = 0")
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def _computed(plain: Image, deep: np.ndarray | None, to_light, matrix: np.ndarray | None) -> Image:
    """The picture through a transfer function and primaries, a strip of rows at a time."""
    from PIL import Image

    alpha = plain.getchannel("A") if plain.mode == "RGBA" else None
    pixels = np.array(plain.convert("RGB"))
    source, top = (pixels, 255) if deep is None or deep.shape != pixels.shape else (deep, 65535)
    curve = to_light(np.arange(top + 1) / top).astype(np.float32)
    rows = max(1, _STRIP // pixels.shape[1])
    for begin in range(0, len(pixels), rows):
        light = curve[source[begin : begin + rows]]
        if matrix is not None:
            light = np.clip(light @ matrix.T.astype(np.float32), 0, 1)
        pixels[begin : begin + rows] = np.rint(np.clip(_linear_to_srgb(light), 0, 1) * 255)
    result = Image.fromarray(pixels)
    if alpha is not None:
        result.putalpha(alpha)
    return result
