"""What the core gives, for the JavaScript twins to replay: ``python scripts/make_goldens.py``.

Each case of goldens/paths.json holds the widget values of a Camera Path node and the cameras that come out, one row of
13 numbers each: the top three rows of the camera-to-world matrix (world units) and the vertical field of view in
degrees. goldens/documents.json holds camera path documents, good and hostile, and whether the core reads them.
goldens/constants.json holds the renderer constants of web/viewer/constants.mjs.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.gaussians import Gaussians
from flashworld_core.geometry import vertical_fov_degrees
from flashworld_core.ops.measure import clip_planes
from flashworld_core.rendering.constants import ALPHA_MAX, ALPHA_MIN, JACOBIAN_MARGIN, LOW_PASS, matching_low_pass
from flashworld_core.rendering.maps import _DEPTH_RAMP as DEPTH_RAMP
from flashworld_core.trajectories.document import parse_document, sample_document
from flashworld_core.trajectories.names import EASINGS, PRESETS
from flashworld_core.trajectories.presets import make_trajectory

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "web" / "goldens"
WIDTH, HEIGHT = 704, 480


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, make in GOLDENS.items():
        lines = ",\n".join(json.dumps(case) for case in make())
        (FOLDER / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def make_cases() -> list[dict]:
    """Every case with its cameras, the same ones at every call."""
    draw = random.Random(20)
    settings = [*_preset_settings(draw), *_keyframe_settings(draw)]
    return [{"values": values, "cameras": _rows(cameras_of(values))} for values in settings]


def cameras_of(values: dict) -> Cameras:
    """The path of a node's widget values."""
    if values["source"] == "preset":
        moves = f"{values['preset']}:{values['amount']!r}" + (f"+{values['moves']}" if values["moves"] else "")
        return make_trajectory(
            moves,
            views=values["frames"],
            width=WIDTH,
            height=HEIGHT,
            vertical_fov_degrees=values["field_of_view"],
            easing=values["easing"],
            focus_distance=values["focus_distance"],
            turns=values["turns"],
        )
    return sample_document(
        parse_document(values["keyframes"]),
        frames=values["frames"],
        width=WIDTH,
        height=HEIGHT,
        vertical_fov_degrees=values["field_of_view"],
        easing=values["easing"],
    )


def _rows(cameras: Cameras) -> list[list[float]]:
    fov = vertical_fov_degrees(cameras.intrinsics.double(), cameras.height)
    rows = torch.cat([cameras.camera_to_world[:, :3].flatten(1).double(), fov[:, None]], dim=1)
    return [[round(number, 7) for number in row] for row in rows.tolist()]


def _values(draw: random.Random, **given) -> dict:
    values = {
        "source": "preset",
        "preset": "orbit",
        "amount": 30.0,
        "moves": "",
        "frames": draw.choice([1, 2, 5, 8]),
        "field_of_view": round(draw.uniform(20, 110), 3),
        "focus_distance": round(draw.uniform(0.2, 8), 3),
        "easing": draw.choice(list(EASINGS)),
        "turns": round(draw.uniform(0.3, 5), 2),
        "keyframes": "",
    }
    return values | given


def _preset_settings(draw: random.Random) -> list[dict]:
    settings = []
    for name, preset in PRESETS.items():
        settings.append(_values(draw, preset=name, amount=preset.default_amount, frames=8))
        for _ in range(3):
            amount = round(draw.uniform(-3, 3) * (preset.default_amount or 1), 4)
            settings.append(_values(draw, preset=name, amount=amount))
    for _ in range(20):
        moves = []
        for name in draw.choices(list(PRESETS), k=draw.randint(1, 4)):
            amount = draw.uniform(-2, 2) * PRESETS[name].default_amount
            moves.append(
                draw.choice([name, f"{name}:{amount:.3f}", f"{name}:{amount:.2e}", f" {name} : {amount:+.2f} "])
            )
        name = draw.choice(list(PRESETS))
        settings.append(
            _values(
                draw,
                preset=name,
                amount=PRESETS[name].default_amount,
                moves="+".join(moves),
                frames=draw.choice([5, 13]),
            )
        )
    return settings


def _keyframe_settings(draw: random.Random) -> list[dict]:
    settings = []
    for spline in ("catmull_rom", "linear"):
        for timing in ("constant_speed", "even", "times"):
            for loop in (False, True):
                for keys in (_wandering(draw, 4), _pausing(draw), _opposite(draw), _nearly_half_turns(draw)):
                    settings.append(_document(draw, keys, spline, timing, loop))
    settings.append(_document(draw, _wandering(draw, 1), "catmull_rom", "constant_speed", False))
    settings.append(_document(draw, _wandering(draw, 1), "linear", "constant_speed", True))
    settings.append(_document(draw, _wandering(draw, 2), "catmull_rom", "constant_speed", True))
    still = _wandering(draw, 1) * 3
    settings.append(_document(draw, still, "catmull_rom", "constant_speed", False))
    turning = [{**still[0], "quaternion": _quaternion(draw)} for _ in range(4)]
    settings.append(_document(draw, turning, "catmull_rom", "constant_speed", True))
    for timing in ("constant_speed", "even", "times"):
        settings += [_movement(draw, positions, timing, loop) for positions, loop in _MOVEMENTS]
    return settings


# Holds, keys close together, closed turns with and without the closing key: positions in world units, and whether the
# path is a loop.
_MOVEMENTS = [
    ([(0, 0, 0), (1, 0, 0), (1, 0, 0), (2, 0, 0)], False),
    ([(0, 0, 0), (1, 0, 0), (1, 1e-3, 0), (2, 0, 0)], False),
    ([(0, 0, 0), (1, 0, 0), (1, 0, 1e-9), (1, 1, 0)], False),
    ([(2, 0, 0), (0, 0, 2), (-2, 0, 0), (0, 0, -2)], True),
    ([(2, 0, 0), (0, 0, 2), (-2, 0, 0), (0, 0, -2), (2, 0, 0)], True),
    ([(2, 0, 0), (2, 0, 0), (0, 0, 2), (-2, 0, 0)], True),
]


def _movement(draw: random.Random, positions: list[tuple], timing: str, loop: bool) -> dict:
    """Key poses that all look ahead; with times that give the third move most of the time."""
    keys = [
        {
            "position": list(p),
            "quaternion": [1.0, 0.0, 0.0, 0.0],
            "vertical_fov_degrees": None,
            "time": i + 2.0 * (i > 2),
        }
        for i, p in enumerate(positions)
    ]
    document = {"version": 1, "spline": "catmull_rom", "timing": timing, "loop": loop, "keyframes": keys}
    return _values(draw, source="keyframes", keyframes=json.dumps(document), frames=13)


def _document(draw: random.Random, keys: list[dict], spline: str, timing: str, loop: bool) -> dict:
    time = round(draw.uniform(-2, 2), 3)
    timed = []
    for key in keys:
        timed.append({**key, "time": time if timing == "times" else draw.choice([None, time])})
        time = round(time + draw.uniform(0.05, 3), 3)
    if any(key["time"] is None for key in timed):
        timed = [{**key, "time": None} for key in timed]
    document = {"version": 1, "spline": spline, "timing": timing, "loop": loop, "keyframes": timed}
    return _values(draw, source="keyframes", keyframes=json.dumps(document), frames=draw.choice([5, 9]))


def _quaternion(draw: random.Random) -> list[float]:
    """A random rotation; some are not of unit length, some have w below zero."""
    size = draw.choice([1.0, 0.3, 7.0])
    return [round(size * draw.gauss(0, 1), 6) for _ in range(4)]


def _wandering(draw: random.Random, count: int) -> list[dict]:
    return [
        {
            "position": [round(draw.uniform(-5, 5), 4) for _ in range(3)],
            "quaternion": _quaternion(draw),
            "vertical_fov_degrees": draw.choice([None, round(draw.uniform(15, 120), 2)]),
        }
        for _ in range(count)
    ]


def _pausing(draw: random.Random) -> list[dict]:
    """Repeated positions, with and without a turn, in the middle and at an end."""
    a, b, c = _wandering(draw, 3)
    turned = {**b, "quaternion": _quaternion(draw)}
    return [a, b, turned, c, {**c, "quaternion": _quaternion(draw)}]


def _opposite(draw: random.Random) -> list[dict]:
    """q and -q: one rotation, written in two ways."""
    a, b = _wandering(draw, 2)
    return [a, {**b, "quaternion": [-number for number in a["quaternion"]]}, b]


def _nearly_half_turns(draw: random.Random) -> list[dict]:
    """Neighbors 179.9 and 180.1 degrees apart (and half a degree), about an axis that is none of the world's."""
    axis = [0.36, 0.48, 0.8]
    keys = _wandering(draw, 4)
    for key, degrees in zip(keys, (10.0, 189.9, 10.0, 10.5), strict=True):
        half = math.radians(degrees) / 2
        key["quaternion"] = [math.cos(half), *(math.sin(half) * number for number in axis)]
    return keys


def make_documents() -> list[dict]:
    """Texts of camera path documents, and whether the core reads each."""
    key = {"position": [0, 0, 1], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 60, "time": None}
    good = {"version": 1, "spline": "linear", "timing": "even", "loop": True, "keyframes": [key]}
    texts = [
        "",
        "  \n",
        "[]",
        "null",
        "1",
        '"text"',
        "{",
        "{}",
        '{"version": 1}',
        '{"version": 1.0}',
        '{"version": true}',
    ]
    texts += ['{"version": 2}', '{"version": "1"}', '{"version": 1, "keyframes": null, "loop": null, "spline": null}']
    texts += [
        '{"version": 1, "keyframes": {}}',
        '{"version": 1, "keyframes": [null]}',
        '{"version": 1, "keyframes": [[]]}',
    ]
    texts += ['{"version": 1, "__proto__": {"loop": true}}', '{"version": 1, "constructor": 1}', "[" * 500 + "]" * 500]
    texts += [json.dumps(good), json.dumps(good | {"Loop": False})]
    for name, values in {
        "loop": [0, "true", None],
        "spline": ["bezier", "__proto__", "toString", 1, ["linear"], None],
        "timing": ["constant speed", "times", 0, None],
    }.items():
        texts += [json.dumps(good | {name: value}) for value in values]
    for name, values in {
        "position": [
            None,
            [0, 0],
            [0, 0, 0, 0],
            "abc",
            {"0": 1},
            [0, 0, "1"],
            [0, True, 0],
            [0, 0, 1e9],
            [0, 0, 1.1e9],
        ],
        "quaternion": [
            None,
            [0, 0, 0, 0],
            [1e-9, 0, 0, 0],
            [1e-7, 0, 0, 0],
            [1, 0, 0],
            [-2, 5, 1, 1],
            [1e9] * 4,
            [None] * 4,
        ],
        "vertical_fov_degrees": [None, 0, 0.01, 0.009, 179.9, 179.91, -60, "60", True, [60]],
        "time": [None, 0, -3.5, 1e9, -1.1e9, "1", False, {}],
        "name": ["a key of its own"],
    }.items():
        texts += [json.dumps(good | {"keyframes": [key, key | {name: value}]}) for value in values]
    for number in ("NaN", "Infinity", "-Infinity", "1e400", "-0.0", "0x10", "1.", "01", "1e-400"):
        texts.append(json.dumps(good).replace("[0, 0, 1]", f"[0, 0, {number}]"))
    return [{"text": text, "read": _is_read(text)} for text in texts]


def _is_read(text: str) -> bool:
    try:
        parse_document(text)
    except FlashWorldError:
        return False
    return True


def make_constants() -> list[dict]:
    """One record: the constants by their names in JavaScript, and `matching_low_pass` of some focal lengths."""
    cameras = cameras_of(_values(random.Random(0), frames=1, focus_distance=1.0))
    fx, fy = cameras.intrinsics[0, 0, 0], cameras.intrinsics[0, 1, 1]
    focal = float(fx + fy) / 2
    constants = {
        "LOW_PASS": LOW_PASS,
        "ALPHA_MIN": ALPHA_MIN,
        "ALPHA_MAX": ALPHA_MAX,
        "TANGENT_LIMIT": 1 + 2 * JACOBIAN_MARGIN,
        "NEAR_OF_SCALE": _near({"scene_scale": 1.0}, cameras),
        "NEAR_OF_EXTENT": _near({}, cameras),
        "DEPTH_RAMP": DEPTH_RAMP.tolist(),
    }
    soft = [{}, {"focal_px": 2 * focal}, {"focal_px": focal / 3}, {"focal_px": "wide"}, {"focal_px": 0}]
    cases = [{"metadata": m, "focal": focal, "low_pass": matching_low_pass(m, cameras)} for m in soft]
    return [{"constants": constants, "low_pass": cases}]


def _near(metadata: dict, cameras: Cameras) -> float:
    """The near plane of a scene whose extent is 1."""
    means = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    means = torch.cat([means, -means, torch.zeros(1, 3)])
    n = len(means)
    look = torch.ones(n, 4), torch.full((n, 3), 0.01), torch.ones(n), torch.zeros(n, 1, 3)
    return round(clip_planes(Gaussians(means, *look, metadata), cameras)[0], 7)


GOLDENS = {"paths.json": make_cases, "documents.json": make_documents, "constants.json": make_constants}

if __name__ == "__main__":
    main()
