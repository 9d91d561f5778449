"""The camera path document: what is read, what is refused, and the path that comes out."""

import dataclasses
import json
import math
import random
import time
from pathlib import Path

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.geometry import vertical_fov_degrees
from flashworld_core.trajectories import document as d
from flashworld_core.trajectories.document import (
    KeyPose,
    PathDocument,
    document_from_cameras,
    parse_document,
    sample_document,
    write_document,
)
from flashworld_core.trajectories.presets import make_trajectory

CASES = json.loads((Path(__file__).parents[1] / "data" / "path_documents.json").read_text(encoding="utf-8"))
GOLDENS = Path(__file__).parents[1] / "web" / "goldens" / "paths.json"
SIZE = {"width": 64, "height": 48}
H = math.sqrt(0.5)
STRAIGHT = (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("text", CASES["read"])
def test_what_is_read_survives_writing(text):
    document = parse_document(text)
    assert parse_document(write_document(document)) == document


REFUSED = [(key, text) for key, texts in CASES["refuse"].items() for text in texts]


@pytest.mark.parametrize(("key", "text"), REFUSED, ids=[f"{key} {i}" for i, (key, _) in enumerate(REFUSED)])
def test_what_is_refused_is_named(key, text):
    with pytest.raises(FlashWorldError, match=f"^camera path: .*{key}"):
        parse_document(text)


def test_the_message_says_which_keyframe():
    key = '{"position":[0,0,0],"quaternion":[1,0,0,0]}'
    bad = '{"position":[0,"x",0],"quaternion":[1,0,0,0]}'
    with pytest.raises(FlashWorldError, match=r"keyframes\[2\]\.position\[1\] must be a number, got 'x'"):
        parse_document(f'{{"version":1,"keyframes":[{key},{key},{bad}]}}')


def test_hostile_sizes_are_refused_quickly():
    key = '{"position":[0,0,0],"quaternion":[1,0,0,0]}'
    too_many = '{"version":1,"keyframes":[' + ",".join([key] * (d.MAX_KEYFRAMES + 1)) + "]}"
    begin = time.monotonic()
    for text, says in (
        (" " * d.MAX_TEXT + "1", "characters"),
        ("[" * 1_000_000, "JSON"),
        ('{"version":' + "9" * 1_000_000 + "}", "JSON|version"),
        (too_many, "keyframes has 10001"),
    ):
        with pytest.raises(FlashWorldError, match=says) as error:
            parse_document(text)
        assert len(str(error.value)) < 300
    with pytest.raises(FlashWorldError, match="expected a text"):
        parse_document(None)
    assert time.monotonic() - begin < 5


def random_document(draw, **given):
    def key(i):
        quaternion = tuple(draw.gauss(0, draw.choice([1, 5])) for _ in range(4))
        position = tuple(draw.uniform(-5, 5) for _ in range(3))
        return KeyPose(position, quaternion, draw.choice([None, draw.uniform(10, 120)]), i + draw.random() / 2)

    choices = {"spline": draw.choice(d.SPLINES), "timing": draw.choice(d.TIMINGS), "loop": draw.random() < 0.5}
    return PathDocument(**{**choices, "keyframes": tuple(key(i) for i in range(draw.randint(1, 6)))} | given)


def test_random_documents_survive_writing_exactly():
    draw = random.Random(1)
    for _ in range(100):
        document = random_document(draw)
        assert parse_document(write_document(document)) == document
    assert write_document(PathDocument()) == ""


def test_an_empty_document_is_a_camera_that_stands_still():
    cameras = sample_document(PathDocument(), frames=3, vertical_fov_degrees=90, **SIZE)
    assert torch.equal(cameras.camera_to_world, torch.eye(4).expand(3, 4, 4))
    assert cameras.intrinsics[2].tolist() == [[24, 0, 32], [0, 24, 24], [0, 0, 1]]


def test_the_path_passes_through_the_keys_with_their_lenses():
    keys = (
        KeyPose((0.0, 0.0, 0.0), STRAIGHT),
        KeyPose((1.0, 0.0, 0.0), (2.0, 0.0, 2.0, 0.0), 90.0),  # a quarter turn about y: looks along +x
        KeyPose((1.0, -1.0, 0.0), (-H, 0.0, -H, 0.0), 30.0),
    )
    document = PathDocument(timing="even", keyframes=keys)
    cameras = sample_document(document, frames=5, vertical_fov_degrees=50, **SIZE)
    torch.testing.assert_close(cameras.positions[::2], torch.tensor([k.position for k in keys]))
    torch.testing.assert_close(cameras.camera_to_world[2, :3, 2], torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-6)
    fovs = vertical_fov_degrees(cameras.intrinsics[::2], 48)
    torch.testing.assert_close(fovs, torch.tensor([50.0, 90, 30]), rtol=0, atol=1e-4)


def test_a_loop_ends_where_it_began():
    corners = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 1.0))
    keys = tuple(KeyPose(p, STRAIGHT, time=t) for p, t in zip(corners, (1.0, 2.0, 5.0), strict=True))
    loop = PathDocument("linear", "times", True, keyframes=keys)
    cameras = sample_document(loop, frames=13, **SIZE)  # times 1 .. 7: the way back takes the mean, 2
    torch.testing.assert_close(cameras.camera_to_world[0], cameras.camera_to_world[-1])
    torch.testing.assert_close(cameras.positions[2], torch.tensor(corners[1]))  # half a second a frame
    torch.testing.assert_close(cameras.positions[8], torch.tensor(corners[2]))
    untimed = dataclasses.replace(loop, keyframes=(*keys[:2], dataclasses.replace(keys[2], time=None)))
    with pytest.raises(FlashWorldError, match="time in every keyframe"):
        sample_document(untimed, frames=13, **SIZE)
    single = dataclasses.replace(loop, keyframes=keys[:1])
    assert len(sample_document(single, frames=4, **SIZE)) == 4


def test_the_goldens_of_the_browser_come_out():
    """The same cameras as the ones JavaScript is held to."""
    checked = 0
    for case in json.loads(GOLDENS.read_text(encoding="utf-8")):
        values = case["values"]
        if values["source"] != "keyframes":
            continue
        cameras = sample_document(
            parse_document(values["keyframes"]),
            frames=values["frames"],
            width=704,
            height=480,
            vertical_fov_degrees=values["field_of_view"],
            easing=values["easing"],
        )
        rows = torch.tensor(case["cameras"])
        torch.testing.assert_close(cameras.camera_to_world[:, :3].flatten(1), rows[:, :12], rtol=0, atol=1e-5)
        fovs = vertical_fov_degrees(cameras.intrinsics.double(), 480).float()
        torch.testing.assert_close(fovs, rows[:, 12], rtol=0, atol=1e-4)
        checked += 1
    assert checked > 40


def test_cameras_become_key_poses_and_back():
    path = make_trajectory("orbit:80+crane:0.4", views=7, vertical_fov_degrees=41.5, **SIZE)
    document = document_from_cameras(path, timing="even", spline="linear")
    again = sample_document(parse_document(write_document(document)), frames=7, **SIZE)
    torch.testing.assert_close(again.camera_to_world, path.camera_to_world, rtol=0, atol=1e-6)
    torch.testing.assert_close(again.intrinsics, path.intrinsics, rtol=0, atol=1e-4)


def test_the_largest_document_is_sampled_in_seconds():
    path = make_trajectory("spiral", views=d.MAX_KEYFRAMES, **SIZE)
    begin = time.monotonic()
    text = write_document(document_from_cameras(path))
    assert len(text) < d.MAX_TEXT
    cameras = sample_document(parse_document(text), frames=100, **SIZE)
    assert time.monotonic() - begin < 30
    torch.testing.assert_close(cameras.camera_to_world[[0, -1]], path.camera_to_world[[0, -1]], rtol=0, atol=1e-5)
