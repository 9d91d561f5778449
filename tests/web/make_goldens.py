"""Camera paths as the core gives them, for the JavaScript twin to replay: ``python tests/web/make_goldens.py``.

Each case of goldens/paths.json holds the widget values of a Camera Path node and the cameras that come out, one row of
13 numbers each: the top three rows of the camera-to-world matrix (world units) and the vertical field of view in
degrees.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import torch

from flashworld_core import Cameras
from flashworld_core.rotations import quats_to_matrices
from flashworld_core.trajectories.easing import EASINGS
from flashworld_core.trajectories.keyframes import Keyframe, interpolate
from flashworld_core.trajectories.poses import intrinsics_from_vertical_fov, pose, vertical_fov_degrees
from flashworld_core.trajectories.presets import PRESETS, make_trajectory

FILE = Path(__file__).parent / "goldens" / "paths.json"
WIDTH, HEIGHT = 704, 480


def main() -> None:
    lines = ",\n".join(json.dumps(case) for case in make_cases())
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


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
    document = json.loads(values["keyframes"])
    keys = [
        Keyframe(
            pose(
                quats_to_matrices(torch.tensor(key["quaternion"], dtype=torch.float64)),
                torch.tensor(key["position"], dtype=torch.float64),
            ),
            intrinsics_from_vertical_fov(key["vertical_fov_degrees"] or values["field_of_view"], WIDTH, HEIGHT),
            key["time"],
        )
        for key in document["keyframes"]
    ]
    if document["loop"] and len(keys) > 1:
        first, last = keys[0], keys[-1]
        time = None if last.time is None else last.time + (last.time - first.time) / (len(keys) - 1)
        keys.append(Keyframe(first.camera_to_world, first.intrinsics, time))
    return interpolate(
        keys,
        views=values["frames"],
        width=WIDTH,
        height=HEIGHT,
        spline=document["spline"],
        timing=document["timing"],
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
    return settings


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
    """Neighbours 179.9 and 180.1 degrees apart (and half a degree), about an axis that is none of the world's."""
    axis = [0.36, 0.48, 0.8]
    keys = _wandering(draw, 4)
    for key, degrees in zip(keys, (10.0, 189.9, 10.0, 10.5), strict=True):
        half = math.radians(degrees) / 2
        key["quaternion"] = [math.cos(half), *(math.sin(half) * number for number in axis)]
    return keys


if __name__ == "__main__":
    main()
