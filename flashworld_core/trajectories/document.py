"""The camera path document: key poses as JSON text, the value of the path editor and of the Camera Path node.

    {"version": 1, "spline": "catmull_rom" or "linear", "timing": "constant_speed", "even" or "times", "loop": false,
     "keyframes": [{"position": [x, y, z], "quaternion": [w, x, y, z], "vertical_fov_degrees": 60 or null,
                    "time": seconds or null}, ...]}

World and poses as in CONVENTIONS.md: y down, camera-to-world. ``web/path/document.mjs`` is its twin in the browser:
what one refuses the other refuses, and both sample the same path.
"""

from __future__ import annotations

import dataclasses
import json
import math

import torch

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..formats.files import exact
from ..geometry import (
    checked_rotations,
    intrinsics_from_vertical_fov,
    matrices_to_quats,
    pose,
    quats_to_matrices,
    vertical_fov_degrees,
)
from .keyframes import Keyframe, interpolate

VERSION = 1
SPLINES = ("catmull_rom", "linear")
TIMINGS = ("constant_speed", "even", "times")
MAX_TEXT = 4_000_000  # characters
MAX_KEYFRAMES = 10_000
MAX_NUMBER = 1e9  # of positions (world units) and times (seconds)
FOV_LIMITS = (0.01, 179.9)  # degrees

_SAME_VIEW = 1e-9  # numbers of two keys that differ by less are the same
_WHERE = "camera path"


@dataclasses.dataclass(frozen=True)
class KeyPose:
    """One entry of ``keyframes``.

    Attributes:
        position: world units.
        quaternion: wxyz, camera-to-world, of any length but zero.
        vertical_fov_degrees: None takes the path's.
        time: seconds, or None.
    """

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    vertical_fov_degrees: float | None = None
    time: float | None = None


@dataclasses.dataclass(frozen=True)
class PathDocument:
    """A parsed document; the default is the empty one, a camera that stands still at the origin."""

    spline: str = "catmull_rom"
    timing: str = "constant_speed"
    loop: bool = False
    keyframes: tuple[KeyPose, ...] = ()


def parse_document(text: str) -> PathDocument:
    """The document of a text from anywhere; a blank text is the empty document.

    Raises:
        FlashWorldError: the message names the key that is wrong, in the form ``keyframes[3].position[0]``.
    """
    if not isinstance(text, str):
        raise FlashWorldError(f"{_WHERE}: expected a text, got {type(text).__name__}.")
    if not text.strip():
        return PathDocument()
    if len(text) > MAX_TEXT:
        raise FlashWorldError(f"{_WHERE}: the text has {len(text)} characters; at most {MAX_TEXT} are read.")
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise FlashWorldError(
            f"{_WHERE}: not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except (ValueError, RecursionError) as error:  # integers of thousands of digits, nesting without end
        raise FlashWorldError(f"{_WHERE}: not usable JSON: {str(error)[:100]}.") from error

    _check_keys(data, "the document", ("version", "spline", "timing", "loop", "keyframes"))
    version = data.get("version")
    if isinstance(version, bool) or version != VERSION:
        raise FlashWorldError(f"{_WHERE}: version must be {VERSION}, got {_short(version)}.")
    loop = False if data.get("loop") is None else data["loop"]
    if not isinstance(loop, bool):
        raise FlashWorldError(f"{_WHERE}: loop must be true or false, got {_short(loop)}.")
    entries = [] if data.get("keyframes") is None else data["keyframes"]
    if not isinstance(entries, list):
        raise FlashWorldError(f"{_WHERE}: keyframes must be a list, got {_short(entries)}.")
    if len(entries) > MAX_KEYFRAMES:
        raise FlashWorldError(f"{_WHERE}: keyframes has {len(entries)} entries; at most {MAX_KEYFRAMES} are allowed.")
    return PathDocument(
        _choice(data.get("spline"), SPLINES, "spline"),
        _choice(data.get("timing"), TIMINGS, "timing"),
        loop,
        tuple(_key_pose(entry, f"keyframes[{i}]") for i, entry in enumerate(entries)),
    )


def write_document(document: PathDocument) -> str:
    """The text of a document, which `parse_document` gives back exactly; "" for the default one."""
    if document == PathDocument():
        return ""
    return json.dumps({"version": VERSION, **dataclasses.asdict(document)}, allow_nan=False, separators=(",", ":"))


def sample_document(
    document: PathDocument,
    *,
    frames: int,
    width: int,
    height: int,
    vertical_fov_degrees: float = 60.0,
    easing: str = "linear",
) -> Cameras:
    """``frames`` cameras along the document's path (see `keyframes.interpolate`).

    A loop ends where it began, and passes there as smoothly as at any other key: its first key is repeated at the
    end, the mean spacing of the keys after the last, unless the last key stands there already.

    Args:
        width, height: image size in pixels.
        vertical_fov_degrees: for keys that name none.
        easing: over the whole path, see `ease`.

    Raises:
        FlashWorldError: frames out of range, a lens that is none, timing "times" without increasing times.
    """
    keys = [
        Keyframe(
            pose(
                quats_to_matrices(torch.tensor(key.quaternion, dtype=torch.float64)),
                torch.tensor(key.position, dtype=torch.float64),
            ),
            intrinsics_from_vertical_fov(
                vertical_fov_degrees if key.vertical_fov_degrees is None else key.vertical_fov_degrees, width, height
            ),
            key.time,
        )
        for key in document.keyframes or (KeyPose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)),)
    ]
    loop = document.loop and len(keys) > 1
    if loop and not _same_view(keys[0], keys[-1]):
        first, last, time = keys[0], keys[-1], None
        if all(key.time is not None for key in keys):
            time = last.time + (last.time - first.time) / (len(keys) - 1)
        keys.append(dataclasses.replace(first, time=time))
    return interpolate(
        keys,
        views=frames,
        width=width,
        height=height,
        spline=document.spline,
        timing=document.timing,
        easing=easing,
        loop=loop,
    )


def _same_view(a: Keyframe, b: Keyframe) -> bool:
    pairs = ((a.camera_to_world, b.camera_to_world), (a.intrinsics, b.intrinsics))
    return all(bool(((x - y).abs() <= _SAME_VIEW).all()) for x, y in pairs)


def document_from_cameras(
    cameras: Cameras, *, spline: str = "catmull_rom", timing: str = "constant_speed", loop: bool = False
) -> PathDocument:
    """Every view of a path as a key pose with its field of view; off-center principal points are lost.

    Raises:
        FlashWorldError: more than `MAX_KEYFRAMES` views, or poses that are not rigid.
    """
    if len(cameras) > MAX_KEYFRAMES:
        raise FlashWorldError(f"{_WHERE}: {len(cameras)} views are more than {MAX_KEYFRAMES} keyframes.")
    c2w = cameras.camera_to_world.cpu()
    rotations = checked_rotations(c2w[:, :3, :3].double(), f"{_WHERE}: the rotation of views")
    quaternions = matrices_to_quats(rotations).to(c2w.dtype)
    fovs = vertical_fov_degrees(cameras.intrinsics.cpu().double(), cameras.height).to(c2w.dtype)
    keys = (
        KeyPose(tuple(exact(c2w[i, :3, 3])), tuple(exact(quaternions[i])), exact(fovs[i])[0])
        for i in range(len(cameras))
    )
    return PathDocument(spline, timing, loop, tuple(keys))


def _key_pose(entry, here: str) -> KeyPose:
    _check_keys(entry, here, ("position", "quaternion", "vertical_fov_degrees", "time"))
    position = _numbers(entry.get("position"), 3, f"{here}.position")
    quaternion = _numbers(entry.get("quaternion"), 4, f"{here}.quaternion")
    if math.hypot(*quaternion) < 1e-8:
        raise FlashWorldError(f"{_WHERE}: {here}.quaternion has length zero, which is no rotation.")
    fov, time = entry.get("vertical_fov_degrees"), entry.get("time")
    if fov is not None:
        fov = _number(fov, f"{here}.vertical_fov_degrees")
        if not FOV_LIMITS[0] <= fov <= FOV_LIMITS[1]:
            raise FlashWorldError(
                f"{_WHERE}: {here}.vertical_fov_degrees must be {FOV_LIMITS[0]} to {FOV_LIMITS[1]}, got {fov}."
            )
    return KeyPose(position, quaternion, fov, None if time is None else _number(time, f"{here}.time"))


def _check_keys(value, here: str, known: tuple[str, ...]) -> None:
    """A misspelt key would otherwise be left out in silence."""
    if not isinstance(value, dict):
        raise FlashWorldError(f"{_WHERE}: {here} must be a JSON object, got {_short(value)}.")
    for key in value:
        if key not in known:
            raise FlashWorldError(f"{_WHERE}: {here} has the unknown key {_short(key)}; known are {', '.join(known)}.")


def _no_constant(name: str):
    raise ValueError(f"{name} is no number of JSON's")


def _choice(value, allowed: tuple[str, ...], here: str) -> str:
    if value is None:
        return allowed[0]
    if not isinstance(value, str) or value not in allowed:
        raise FlashWorldError(f"{_WHERE}: {here} must be {' or '.join(allowed)}, got {_short(value)}.")
    return value


def _numbers(value, count: int, here: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise FlashWorldError(f"{_WHERE}: {here} must be a list of {count} numbers, got {_short(value)}.")
    return tuple(_number(item, f"{here}[{i}]") for i, item in enumerate(value))


def _number(value, here: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FlashWorldError(f"{_WHERE}: {here} must be a number, got {_short(value)}.")
    if not abs(value) <= MAX_NUMBER:  # NaN fails too
        raise FlashWorldError(f"{_WHERE}: {here} must be a number within +-{MAX_NUMBER:g}, got {_short(value)}.")
    return float(value)


def _short(value) -> str:
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
