"""Camera files: known values written by hand, round trips, detection, damaged and hostile input."""

import base64
import io
import json
import logging
import os
import random

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.formats import cameras as files
from flashworld_core.formats.cameras import colmap, detect_format, read_cameras, write_cameras
from flashworld_core.formats.cameras import parse as order
from flashworld_core.formats.cameras import parse as text
from flashworld_core.formats.cameras.flashworld_json import FlashWorldRequest
from flashworld_core.geometry import look_at
from flashworld_core.trajectories.presets import make_trajectory

H = 0.7071067811865476

# One camera, 1 unit to the right of the origin, level, looking at the origin; fx 60, fy 50, center (33, 21), 64x48.
KNOWN_POSE = [[0, 0, -1, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
KNOWN_LENS = [[60, 0, 33], [0, 50, 21], [0, 0, 1]]

REQUEST = {
    "cameras": [{"quaternion": [H, 0, H, 0], "position": [1, 0, 0], "fx": 60, "fy": 50, "cx": 33, "cy": 21}],
    "resolution": [24, 48, 64],
    "text_prompt": "a house",
    "image_index": 3,
}
TRANSFORMS = {
    "w": 64,
    "h": 48,
    "fl_x": 60,
    "fl_y": 50,
    "cx": 33,
    "cy": 21,
    "frames": [{"file_path": "a.png", "transform_matrix": [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]}],
}
REALESTATE = "https://example.org/watch?v=1\n40000 0.9375 1.0416666667 0.515625 0.4375 0 0 0 0 1 0 0 1 0 0 -1 0 0 1\n"
INRIA = [
    {
        "id": 0, "img_name": "a", "width": 64, "height": 48, "position": [1, 0, 0],
        "rotation": [[0, 0, -1], [0, 1, 0], [1, 0, 0]], "fx": 60, "fy": 50, "cx": 33, "cy": 21,
    }
]  # fmt: skip
COLMAP_CAMERAS = "# cameras\n7 PINHOLE 64 48 60 50 33 21\n"
COLMAP_IMAGES = f"# images\n12 {H} 0 {H} 0 0 0 1 7 a picture.png\n10.5 20 -1 30 40.25 17\n"


def save(folder, kind, **replaced):
    """The known camera as a file of one kind."""
    if kind == "flashworld":
        path = folder / "request.json"
        path.write_text(json.dumps({**REQUEST, **replaced}))
    elif kind == "nerfstudio":
        path = folder / "transforms.json"
        path.write_text(json.dumps({**TRANSFORMS, **replaced}))
    elif kind == "inria":
        path = folder / "cameras.json"
        path.write_text(json.dumps(INRIA))
    elif kind == "realestate10k":
        path = folder / "clip.txt"
        path.write_text(replaced.get("text", REALESTATE))
    else:
        path = folder / "model"
        path.mkdir(exist_ok=True)
        (path / "cameras.txt").write_text(replaced.get("cameras", COLMAP_CAMERAS))
        (path / "images.txt").write_text(replaced.get("images", COLMAP_IMAGES))
    return path


KINDS = list(files.FORMATS)
NAMES = {
    "flashworld": "p.json",
    "inria": "cameras.json",
    "nerfstudio": "transforms.json",
    "realestate10k": "p.txt",
    "colmap": "model",
}


def varied_cameras(views=12, seed=0, dtype=torch.float32):
    """Random poses far from the origin and a lens of its own for every view."""
    generator = torch.Generator().manual_seed(seed)
    position, target = 5 * torch.randn(2, views, 3, generator=generator, dtype=torch.float64)
    up = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    c2w = torch.stack([look_at(p, t, u) for p, t, u in zip(position, target, up, strict=True)])
    k = torch.eye(3, dtype=torch.float64).repeat(views, 1, 1)
    k[:, 0, 0], k[:, 1, 1] = 300 + 100 * torch.rand(2, views, generator=generator, dtype=torch.float64)
    k[:, 0, 2], k[:, 1, 2] = 320.25, 231.5
    return Cameras(c2w.to(dtype), k.to(dtype), 704, 480)


@pytest.mark.parametrize("kind", KINDS)
def test_known_values_are_read(tmp_path, kind):
    path = save(tmp_path, kind)
    assert detect_format(path) == kind
    cameras = read_cameras(path, *((64, 48) if kind == "realestate10k" else ()))
    assert (len(cameras), cameras.width, cameras.height) == (1, 64, 48)
    torch.testing.assert_close(cameras.camera_to_world[0], torch.tensor(KNOWN_POSE).float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(cameras.intrinsics[0], torch.tensor(KNOWN_LENS).float(), rtol=0, atol=1e-5)
    assert cameras.camera_to_world.dtype == cameras.intrinsics.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_known_values_are_written(tmp_path, kind):
    cameras = Cameras(torch.tensor([KNOWN_POSE]).double(), torch.tensor([KNOWN_LENS]).double(), 64, 48)
    path = tmp_path / NAMES[kind]
    write_cameras(path, cameras, kind)
    assert detect_format(path) == kind
    if kind == "flashworld":
        data = json.loads(path.read_text())
        entry = data["cameras"][0]
        assert entry["quaternion"] == pytest.approx([H, 0, H, 0]) and entry["position"] == [1, 0, 0]
        assert [entry[key] for key in ("fx", "fy", "cx", "cy")] == [60, 50, 33, 21]
        assert data["resolution"] == [1, 48, 64]
    elif kind == "nerfstudio":
        data = json.loads(path.read_text())
        assert data["frames"][0]["transform_matrix"] == TRANSFORMS["frames"][0]["transform_matrix"]
        assert {key: data[key] for key in TRANSFORMS if key != "frames"} == {
            key: value for key, value in TRANSFORMS.items() if key != "frames"
        }
        assert data["applied_transform"] == [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
    elif kind == "inria":
        assert json.loads(path.read_text()) == [{**INRIA[0], "img_name": "view_0000"}]
    elif kind == "realestate10k":
        remark, line = path.read_text().splitlines()
        assert not remark[0].isdigit()
        expected = [0, 60 / 64, 50 / 48, 33 / 64, 21 / 48, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 1]
        assert [float(word) for word in line.split()] == pytest.approx(expected)
    else:
        lines = [line for line in (path / "images.txt").read_text().splitlines() if not line.startswith("#")]
        assert len(lines) == 2 and lines[1] == ""  # an image always has its line of points
        assert [float(word) for word in lines[0].split()[:9]] == pytest.approx([1, H, 0, H, 0, 0, 0, 1, 1])
        models = (path / "cameras.txt").read_text().splitlines()
        assert models[-1].split()[:4] == ["1", "PINHOLE", "64", "48"]
        assert [float(word) for word in models[-1].split()[4:]] == [60, 50, 33, 21]
        assert (path / "points3D.txt").is_file()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tmp_path, kind, dtype):
    cameras = varied_cameras(dtype=dtype)
    path = tmp_path / "deeper" / "still" / NAMES[kind]
    write_cameras(path, cameras, kind)
    again = read_cameras(path)
    assert (again.width, again.height) == (704, 480)
    torch.testing.assert_close(again.camera_to_world, cameras.camera_to_world.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(again.intrinsics, cameras.intrinsics.float(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_every_format_says_the_same(tmp_path, source, target):
    """Format to format and back to memory: the conventions agree with each other, not only with themselves."""
    cameras = varied_cameras(views=3)
    write_cameras(tmp_path / "a" / NAMES[source], cameras)
    write_cameras(tmp_path / "b" / NAMES[target], read_cameras(tmp_path / "a" / NAMES[source]))
    again = read_cameras(tmp_path / "b" / NAMES[target])
    torch.testing.assert_close(again.camera_to_world, cameras.camera_to_world, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_writing_replaces_and_leaves_nothing_beside(tmp_path, kind):
    for views in (5, 2):
        write_cameras(tmp_path / NAMES[kind], varied_cameras(views))
        assert len(read_cameras(tmp_path / NAMES[kind])) == views
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == (
        ["model/cameras.txt", "model/images.txt", "model/points3D.txt"] if kind == "colmap" else [NAMES[kind]]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_write_keeps_what_existed(tmp_path, kind, monkeypatch):
    write_cameras(tmp_path / NAMES[kind], varied_cameras(5))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FlashWorldError, match="No space left"):
        write_cameras(tmp_path / NAMES[kind], varied_cameras(2))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_format_by_name(tmp_path):
    cameras = varied_cameras(2)
    for name, kind in {
        "my.json": "flashworld",
        "transforms_train.json": "nerfstudio",
        "x.txt": "realestate10k",
        "sub/images.txt": "colmap",
        "folder": "colmap",
    }.items():
        write_cameras(tmp_path / name, cameras)
        assert detect_format(tmp_path / name) == kind
    write_cameras(tmp_path / "odd.dat", cameras, "nerfstudio")
    assert detect_format(tmp_path / "odd.dat") == "nerfstudio"
    with pytest.raises(FlashWorldError, match="format goes by the name path.xyz"):
        write_cameras(tmp_path / "path.xyz", cameras)
    with pytest.raises(FlashWorldError, match="file format 'obj'"):
        write_cameras(tmp_path / "path.json", cameras, "obj")


def test_what_cannot_be_written_is_refused(tmp_path):
    cameras = varied_cameras(2)
    skewed = cameras.intrinsics.clone()
    skewed[1, 0, 1] = 0.5
    scaled = cameras.camera_to_world.clone()
    scaled[1, :3, :3] *= 2
    for broken, message in (
        (Cameras(cameras.camera_to_world, skewed, 704, 480), "skew"),
        (Cameras(scaled, cameras.intrinsics, 704, 480), r"\[1\] is no rotation"),
        (cameras[2:], "1 to 100000 cameras, not 0"),
    ):
        for kind in KINDS:
            with pytest.raises(FlashWorldError, match=message):
                write_cameras(tmp_path / NAMES[kind], broken)
        with pytest.raises(FlashWorldError, match=message):
            FlashWorldRequest(broken, 2, 480, 704).write(tmp_path / "request.json")
    (tmp_path / "p.json").mkdir()
    with pytest.raises(FlashWorldError, match="is a folder"):
        write_cameras(tmp_path / "p.json", cameras, "flashworld")
    (tmp_path / "file").write_text("")
    with pytest.raises(FlashWorldError, match="is a file"):
        write_cameras(tmp_path / "file", cameras, "colmap")
    with pytest.raises(FlashWorldError, match="cannot be made"):
        write_cameras(tmp_path / "file" / "p.json", cameras)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "p.json"]


# --- FlashWorld request ---------------------------------------------------------------------------------------------


def png(width, height, orientation=None, kind="PNG"):
    from PIL import Image

    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (width, height), "red").save(buffer, kind, exif=exif)
    return buffer.getvalue()


def data_url(data, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def test_request_in_words(tmp_path):
    request = FlashWorldRequest.read(save(tmp_path, "flashworld"))
    assert (request.views, request.height, request.width) == (24, 48, 64)
    assert (request.image_prompt, request.text_prompt, request.image_index) == (None, "a house", 3)
    request.write(tmp_path / "again.json")
    again = FlashWorldRequest.read(tmp_path / "again.json")
    assert (again.views, again.text_prompt, again.image_index) == (24, "a house", 3)
    torch.testing.assert_close(again.cameras.camera_to_world, request.cameras.camera_to_world)


def test_request_with_a_picture_has_cameras_in_its_pixels(tmp_path):
    """Not in those of the resolution: the picture is cropped and scaled later, and its intrinsics with it."""
    (tmp_path / "photo.png").write_bytes(png(150, 90))
    bare = base64.b64encode(png(150, 90)).decode()
    for image in ("photo.png", str(tmp_path / "photo.png"), data_url(png(150, 90)), bare):
        request = FlashWorldRequest.read(save(tmp_path, "flashworld", image_prompt=image))
        assert (request.cameras.width, request.cameras.height) == (150, 90)
        assert (request.width, request.height) == (64, 48)
        torch.testing.assert_close(request.cameras.intrinsics[0], torch.tensor(KNOWN_LENS).float())
        assert request.image_prompt == (str(tmp_path / "photo.png") if "photo" in image else data_url(png(150, 90)))
        path = save(tmp_path, "flashworld", image_prompt=image)
        assert read_cameras(path, 64, 48).width == 150  # a size the file tells is not overruled


def test_pictures_outside_a_root_are_not_opened(tmp_path, monkeypatch):
    """A request from a stranger cannot ask what pictures there are on the disk."""
    inside, outside = tmp_path / "input" / "paths", tmp_path / "secret"
    inside.mkdir(parents=True)
    outside.mkdir()
    for folder in (inside, inside.parent, outside):
        (folder / "photo.png").write_bytes(png(150, 90))
    (inside / "link.png").symlink_to(outside / "photo.png")
    monkeypatch.chdir(outside)
    for image in ("photo.png", "../photo.png", data_url(png(150, 90))):
        path = save(inside, "flashworld", image_prompt=image)
        assert read_cameras(path, root=tmp_path / "input").width == 150
    for image in (str(outside / "photo.png"), "../../secret/photo.png", "link.png", "\\\\server\\share\\photo.png"):
        path = save(inside, "flashworld", image_prompt=image)
        with pytest.raises(FlashWorldError, match="names no file"):
            read_cameras(path, root=tmp_path / "input")
    (inside / "photo.png").unlink()
    with pytest.raises(FlashWorldError, match="names no file"):  # not the working folder's either
        read_cameras(save(inside, "flashworld", image_prompt="photo.png"), root=tmp_path / "input")


def test_request_picture_on_its_side(tmp_path):
    """A phone's photograph: stored as 150x90, shown as 90x150."""
    image = data_url(png(150, 90, orientation=6, kind="JPEG"), "jpeg")
    cameras = read_cameras(save(tmp_path, "flashworld", image_prompt=image))
    assert (cameras.width, cameras.height) == (90, 150)


def test_request_without_resolution(tmp_path):
    path, told = save(tmp_path, "flashworld", resolution=None, image_index=0), []
    cameras = read_cameras(path, view_size=(704, 480), notify=told.append)
    assert (cameras.width, cameras.height) == (66, 42) and "66x42" in told[0]  # twice the principal point
    cameras = read_cameras(path, 64, 48)
    assert (cameras.width, cameras.height) == (64, 48)


CAMERA = REQUEST["cameras"][0]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"cameras": {}}, "cameras must be a list"),
        ({"cameras": []}, "no cameras"),
        ({"cameras": [CAMERA, 3]}, r"cameras\[1\] must be an object"),
        (
            {"cameras": [{**CAMERA, "quaternion": [0, 0, 0, 0]}]},
            r"cameras\[0\].quaternion is a quaternion of length zero",
        ),
        ({"cameras": [{**CAMERA, "quaternion": [1, 0, 0]}]}, r"cameras\[0\].quaternion must be a list of 4 numbers"),
        ({"cameras": [{**CAMERA, "position": [0, "x", 0]}]}, r"cameras\[0\].position\[1\] must be a number, got 'x'"),
        ({"cameras": [{**CAMERA, "position": [0, float("nan"), 0]}]}, r"position\[1\] must be finite"),
        ({"cameras": [{**CAMERA, "position": [0, 10**400, 0]}]}, r"position\[1\] must be a number"),
        ({"cameras": [{**CAMERA, "position": [0, 1e300, 0]}]}, "sensible size"),
        ({"cameras": [{**CAMERA, "fx": True}]}, r"cameras\[0\].fx must be a number"),
        ({"cameras": [{**CAMERA, "fx": 0}]}, "focal lengths must be positive"),
        ({"cameras": [{"quaternion": [1, 0, 0, 0]}]}, r"cameras\[0\].position is missing"),
        ({"resolution": [24, 48]}, "list of 3 numbers"),
        ({"resolution": [24, 0, 64]}, r"resolution\[1\] \(height\)"),
        ({"resolution": [24.5, 48, 64]}, r"resolution\[0\] \(views\) must be a whole number"),
        ({"resolution": [24, 48, 1e9]}, r"resolution\[2\] \(width\)"),
        ({"image_index": 24}, "image_index must be a whole number from 0 to 23, got 24"),
        ({"image_index": -1}, "image_index"),
        ({"text_prompt": 5}, "text_prompt must be a string"),
        ({"image_prompt": 5}, "image_prompt must be a path"),
        ({"image_prompt": "missing.png"}, "names no file: 'missing.png'"),
        ({"image_prompt": "data:image/png;base64,AAAA"}, "not a picture that can be read"),
        ({"image_prompt": "data:image/png;base64," + base64.b64encode(png(9, 9)[:20]).decode()}, "not a picture"),
        ({"image_prompt": "x\0y"}, "names no file"),
    ],
)
def test_damaged_requests(tmp_path, replaced, message):
    with pytest.raises(FlashWorldError, match=message):
        read_cameras(save(tmp_path, "flashworld", **replaced))


# --- nerfstudio -----------------------------------------------------------------------------------------------------


def frame(name, x, **extra):
    return {"file_path": name, "transform_matrix": [[1, 0, 0, x], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], **extra}


def test_nerfstudio_frames_in_natural_order(tmp_path):
    frames = [frame("f/10.png", 10), frame("f/9.png", 9), frame("f/2b.png", 3), frame("f/2a.png", 2)]
    cameras = read_cameras(save(tmp_path, "nerfstudio", frames=frames))
    assert cameras.positions[:, 0].tolist() == [2, 3, 9, 10]
    unnamed = [{key: value for key, value in f.items() if key != "file_path"} for f in frames]
    cameras = read_cameras(save(tmp_path, "nerfstudio", frames=unnamed))
    assert cameras.positions[:, 0].tolist() == [10, 9, 3, 2]


def test_nerfstudio_intrinsics_per_frame_come_first(tmp_path):
    frames = [frame("1", 0), frame("2", 0, fl_x=70, cx=30)]
    cameras = read_cameras(save(tmp_path, "nerfstudio", frames=frames))
    assert cameras.intrinsics[:, 0, 0].tolist() == [60, 70] and cameras.intrinsics[:, 0, 2].tolist() == [33, 30]


def test_nerfstudio_field_of_view_instead_of_focal_lengths(tmp_path):
    """The blender style: only camera_angle_x; size from the caller, center in the middle."""
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"camera_angle_x": 1.5707963267948966, "frames": TRANSFORMS["frames"]}))
    with pytest.raises(FlashWorldError, match="does not say how large its images are"):
        read_cameras(path)
    cameras = read_cameras(path, 64, 48)
    torch.testing.assert_close(cameras.intrinsics[0], torch.tensor([[32.0, 0, 32], [0, 32, 24], [0, 0, 1]]))


def test_nerfstudio_camera_file_of_three_rows(tmp_path):
    frames = [{"transform_matrix": TRANSFORMS["frames"][0]["transform_matrix"][:3]}]
    cameras = read_cameras(save(tmp_path, "nerfstudio", frames=frames))
    torch.testing.assert_close(cameras.camera_to_world[0], torch.tensor(KNOWN_POSE).float())


def test_nerfstudio_distortion_is_ignored_aloud(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_cameras(save(tmp_path, "nerfstudio", k1=0.0, k2=0))
        assert not caplog.records
        cameras = read_cameras(save(tmp_path, "nerfstudio", k1=0.1, k2=0))
    assert len(caplog.records) == 1 and "distortion" in caplog.text
    assert cameras.intrinsics[0, 0, 0] == 60


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"frames": 3}, "frames must be a list"),
        ({"frames": [3]}, "frames must be a list of objects"),
        ({"frames": []}, "no cameras"),
        ({"frames": [{}]}, r"frames\[0\].transform_matrix must be"),
        (
            {"frames": [frame("a", 0), {"transform_matrix": [[1, 2]] * 4}]},
            r"frames\[1\].transform_matrix\[0\] must be a",
        ),
        ({"frames": [{"transform_matrix": [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]}]}, "no rotation"),
        ({"frames": [{"transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]}]}, "mirrored"),
        ({"frames": [{"transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 0, 0, 1]]}]}, "transposed"),
        ({"frames": [frame("a", float("inf"))]}, r"\[0\]\[3\] must be finite"),
        ({"w": 0}, "width must be a whole number"),
        ({"fl_x": -5}, "focal lengths must be positive"),
        ({"camera_model": "OPENCV_FISHEYE"}, "'OPENCV_FISHEYE' is no pinhole camera"),
        ({"camera_model": ["x"]}, "no pinhole camera"),
        ({"k1": "much"}, "k1 must be a number"),
    ],
)
def test_damaged_transforms(tmp_path, replaced, message):
    with pytest.raises(FlashWorldError, match=message):
        read_cameras(save(tmp_path, "nerfstudio", **replaced))


@pytest.mark.parametrize(("angle", "message"), [(4.0, "radians"), (None, "no focal length")])
def test_transforms_without_a_usable_lens(tmp_path, angle, message):
    path = tmp_path / "transforms.json"
    lens = {} if angle is None else {"camera_angle_x": angle}
    path.write_text(json.dumps({"w": 64, "h": 48, **lens, "frames": TRANSFORMS["frames"]}))
    with pytest.raises(FlashWorldError, match=message):
        read_cameras(path)


# --- RealEstate10K --------------------------------------------------------------------------------------------------


def test_realestate_size(tmp_path):
    """From the caller where the file is silent, from our own remark where it is not."""
    with pytest.raises(FlashWorldError, match="does not say how large its images are"):
        read_cameras(save(tmp_path, "realestate10k"))
    assert read_cameras(save(tmp_path, "realestate10k"), 128, 48).intrinsics[0, 0, 0] == 120
    path = save(tmp_path, "realestate10k", text="width=64 height=48 " + REALESTATE)
    assert read_cameras(path, 128, 48).width == 64


def test_realestate_without_a_first_line_remark_and_with_gaps(tmp_path):
    line = REALESTATE.splitlines()[1]
    path = save(tmp_path, "realestate10k", text=f"{line}\r\n\r\n# pause\r\n{line}\r\n")
    assert detect_format(path) == "realestate10k" and len(read_cameras(path, 64, 48)) == 2


def test_realestate_distortion_is_ignored_aloud(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_cameras(save(tmp_path, "realestate10k", text=REALESTATE.replace("0.4375 0 0", "0.4375 0.1 0")), 64, 48)
    assert "line 2: lens distortion" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0 0 1\n", "0 0\n", r"line 3: expected 19 numbers .* got 18"),
        ("40000 0.9375", "40000 abc", "line 3, column 2 must be a number, got 'abc'"),
        ("40000 0.9375", "40000 nan", "line 3, column 2 must be finite"),
        ("40000 0.9375", "40000 -1", "line 3: focal lengths"),
        ("0 0 1 0 0 1 0 0", "0 0 2 0 0 1 0 0", "line 3: the 3x3 matrix is no rotation"),
    ],
)
def test_damaged_realestate_lines(tmp_path, old, new, message):
    url, line = REALESTATE.splitlines(keepends=True)
    assert old in line
    path = save(tmp_path, "realestate10k", text=url + line + line.replace(old, new, 1))
    with pytest.raises(FlashWorldError, match=message):
        read_cameras(path, 64, 48)


# --- COLMAP ---------------------------------------------------------------------------------------------------------


def image(number, x, name, camera=7):
    return f"{number} 1 0 0 0 {-x} 0 0 {camera} {name}\n"


def test_colmap_places(tmp_path):
    model = save(tmp_path, "colmap")
    project = tmp_path / "project"
    (project / "sparse").mkdir(parents=True)
    model.rename(project / "sparse" / "0")
    for path in (project, project / "sparse", project / "sparse/0", project / "sparse/0/images.txt"):
        assert detect_format(path) == "colmap" and len(read_cameras(path)) == 1


def test_colmap_order_names_and_points(tmp_path):
    images = image(5, 10, "v 10.png") + "\n" + image(9, 2, "v 2.png") + "1 2 3 4 5 6\n" + image(7, 9, "v 9.png") + "\n"
    cameras = read_cameras(save(tmp_path, "colmap", images=images))
    assert cameras.positions[:, 0].tolist() == [2, 9, 10]


def test_colmap_points_lines_left_out(tmp_path):
    images = image(1, 1, "1") + image(2, 2, "2") + image(3, 3, "3 b 1.png")
    cameras = read_cameras(save(tmp_path, "colmap", images=images))
    assert cameras.positions[:, 0].tolist() == [1, 2, 3]


def test_colmap_two_cameras_and_one_focal_length(tmp_path):
    path = save(
        tmp_path,
        "colmap",
        cameras="7 PINHOLE 64 48 60 50 33 21\n\n8 SIMPLE_PINHOLE 64 48 70 32 24\n",
        images=image(1, 0, "a") + "\n" + image(2, 0, "b", camera=8),
    )
    lenses = read_cameras(path).intrinsics
    assert lenses[0].tolist() == KNOWN_LENS and lenses[1].tolist() == [[70, 0, 32], [0, 70, 24], [0, 0, 1]]


def test_colmap_quaternion_of_any_length(tmp_path):
    images = COLMAP_IMAGES.replace(f"{H} 0 {H} 0", "-3 0 -3 0")
    cameras = read_cameras(save(tmp_path, "colmap", images=images))
    torch.testing.assert_close(cameras.camera_to_world[0], torch.tensor(KNOWN_POSE).float())


def test_colmap_keeps_the_points_of_a_model(tmp_path):
    write_cameras(tmp_path / "model", varied_cameras(2))
    (tmp_path / "model" / "points3D.txt").write_text("1 0 0 0 255 255 255 0.1\n")
    write_cameras(tmp_path / "model", varied_cameras(3))
    assert (tmp_path / "model" / "points3D.txt").read_text().startswith("1 0")


def test_colmap_shares_equal_lenses(tmp_path):
    write_cameras(tmp_path / "model", make_trajectory("orbit", views=9, width=64, height=48))
    lines = (tmp_path / "model" / "cameras.txt").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == 1


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"cameras": "7 OPENCV 64 48 60 50 33 21 0 0 0\n"}, r"OPENCV needs CAMERA_ID MODEL WIDTH HEIGHT and 8"),
        ({"cameras": "7 PINHOLE 64 48 60 50 33\n"}, "PINHOLE needs"),
        ({"cameras": "7\n"}, "no camera model ''"),
        ({"cameras": "7 PINHOLE 64 x 60 50 33 21\n"}, "height must be a number"),
        ({"cameras": "7 PINHOLE 64 48 60 0 33 21\n"}, "focal lengths"),
        ({"cameras": ""}, "camera 7 is not in cameras.txt"),
        ({"images": ""}, "no cameras"),
        ({"images": "1 1 0 0 0 0 0 0\n"}, "images.txt, line 1: expected IMAGE_ID"),
        ({"images": image(1, 0, "a").replace("1 0 0 0", "0 0 0 0", 1)}, "line 1 is a quaternion of length zero"),
        ({"images": image(1, 0, "a").replace("1 0 0 0", "1 0 0 nan", 1)}, "line 1, column 5 must be finite"),
    ],
)
def test_damaged_colmap_models(tmp_path, replaced, message):
    with pytest.raises(FlashWorldError, match=message):
        read_cameras(save(tmp_path, "colmap", **replaced))


def test_colmap_folders_without_a_model(tmp_path):
    with pytest.raises(FlashWorldError, match="no COLMAP model in"):
        read_cameras(tmp_path)
    (tmp_path / "cameras.txt").write_text(COLMAP_CAMERAS)
    with pytest.raises(FlashWorldError, match="images.txt cannot be read: there is no such file"):
        read_cameras(tmp_path / "cameras.txt")
    os.mkfifo(tmp_path / "images.txt")
    with pytest.raises(FlashWorldError, match="not an ordinary file"):
        read_cameras(tmp_path)


# --- any file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no camera path this program knows"),
        (b"hello\nworld\n", "no camera path this program knows"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "no camera path this program knows"),
        (b"{", "not valid JSON: .* line 1, column 2"),
        (b"[1, 2]", "must hold a JSON object, not a list"),
        (b'{"camera_paths": []}', "neither a FlashWorld request .* its keys: camera_paths"),
        (b"[" * 100_000, "not usable JSON"),
        (b'{"cameras": ' + b"9" * 10_000 + b"}", "not usable JSON|cameras must be a list"),
    ],
)
def test_files_that_are_no_camera_paths(tmp_path, content, message):
    path = tmp_path / "thing"
    path.write_bytes(content)
    for function in (read_cameras, detect_format) if b"9999" not in content else (read_cameras,):
        with pytest.raises(FlashWorldError, match=message):
            function(path)


def test_missing_and_special_files(tmp_path):
    with pytest.raises(FlashWorldError, match="no file or folder"):
        read_cameras(tmp_path / "nowhere.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(FlashWorldError, match="not an ordinary file"):
        read_cameras(tmp_path / "pipe.json")


def test_byte_order_mark(tmp_path):
    path = save(tmp_path, "flashworld")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_cameras(path)) == 1


def test_limits(tmp_path, monkeypatch):
    big = save(tmp_path, "flashworld")
    with big.open("r+b") as stream:  # a sparse file: large without filling the disk
        stream.truncate(text.MAX_BYTES + 1)
    with pytest.raises(FlashWorldError, match="more than the 100 MiB"):
        read_cameras(big)
    monkeypatch.setattr(text, "MAX_CAMERAS", 2)
    monkeypatch.setattr(colmap, "MAX_LINE", 1000)
    for kind in KINDS:
        path = tmp_path / "many" / NAMES[kind]
        cameras = varied_cameras(3)
        monkeypatch.setattr(text, "MAX_CAMERAS", 3)
        write_cameras(path, cameras, kind)
        assert len(read_cameras(path)) == 3
        monkeypatch.setattr(text, "MAX_CAMERAS", 2)
        with pytest.raises(FlashWorldError, match="more than 2"):
            read_cameras(path)
    with pytest.raises(FlashWorldError, match="line 2 is longer"):
        read_cameras(save(tmp_path, "colmap", images="\n" + "x" * 2000))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_gives_cameras_or_a_clear_error(tmp_path, kind):
    """Random damage to good files: whatever comes out, it is no other exception."""
    write_cameras(tmp_path / NAMES[kind], varied_cameras(3), kind)
    victims = [p for p in tmp_path.rglob("*") if p.name in (NAMES[kind], "images.txt", "cameras.txt")]
    victims = [p for p in victims if p.is_file()]
    source = random.Random(0)
    refused = 0
    for _ in range(150):
        victim = source.choice(victims)
        good = victim.read_bytes()
        bad = bytearray(good)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(bad))
            what = source.randrange(4)
            if what == 0:
                bad[at] = source.choice(b'09.-eE"[]{},: \nnul\x00\xff')
            elif what == 1:
                del bad[at : at + source.randint(1, 30)]
            elif what == 2:
                bad[at:at] = bad[: source.randint(1, 50)]
            else:
                del bad[at:]
            if not bad:
                break
        victim.write_bytes(bytes(bad))
        try:
            cameras = read_cameras(tmp_path / NAMES[kind], 704, 480)
            assert bool(torch.isfinite(cameras.camera_to_world).all())
        except FlashWorldError as error:
            refused += 1
            assert not str(error).startswith("read_cameras") and len(str(error)) < 600, error
        finally:
            victim.write_bytes(good)
    assert refused > 50


def test_natural_order():
    assert order.by_name(["b10", "b9", "b09x", "a", ""]) == [4, 3, 1, 2, 0]
    assert order.by_name(["2", "1", "2"]) == [0, 1, 2]
    assert order.by_name(["2", None]) == [0, 1]
    assert order.by_name(["9" * 10_000, "8" * 10_000]) == [1, 0]
