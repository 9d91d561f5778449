"""Cameras in the world of their scene, of one size, through the lenses of transforms.json, COLMAP and cameras.json."""

import json
import math
import struct

import pytest
import torch
from PIL import Image

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.cameras import detect_format, is_camera_folder, read_cameras, write_cameras
from flashworld_core.formats.cameras.lens import COLMAP_MODELS, displacement
from flashworld_core.ops.transform import upright_rotation
from flashworld_core.trajectories.presets import make_trajectory

R = torch.tensor([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]], dtype=torch.float64)
T, SCALE = torch.tensor([-20.0, -20.0, -6.0], dtype=torch.float64), 0.06


def ring(views=4):
    """[V, 4, 4] float64 poses of a transforms.json: around a point, z up."""
    poses = []
    for i in range(views):
        a = 2 * math.pi * i / views
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.tensor([[-math.sin(a), 0, math.cos(a)], [math.cos(a), 0, math.sin(a)], [0, 1, 0]])
        pose[:3, 3] = 3 * pose[:3, 2] + torch.tensor([28.0, 4, 6])
        poses.append(pose)
    return torch.stack(poses)


def transforms(path, poses, **more):
    frames = [{"file_path": f"images/{i}.jpg", "transform_matrix": pose.tolist()} for i, pose in enumerate(poses)]
    more = {"w": 640, "h": 480, "fl_x": 600.0, "cx": 320, "cy": 240} | more
    data = {key: value for key, value in more.items() if value is not None}
    path.write_text(json.dumps({**data, "frames": frames}))
    return path


def trained(poses):
    """The poses in the world of the trained scene."""
    out = poses.clone()
    out[:, :3, :3] = R @ poses[:, :3, :3]
    out[:, :3, 3] = SCALE * (poses[:, :3, 3] @ R.T + T)
    return out


@pytest.mark.parametrize(
    "applied", [None, [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]], [[0, 1, 0, 5], [1, 0, 0, 0], [0, 0, -1, 0]]]
)
def test_dataparser_transforms(tmp_path, applied):
    """nerfstudio stores the product with the applied transform; the poses of the file have that one already."""
    poses = ring()
    stored = torch.cat([R, T[:, None]], dim=1)
    if applied is not None:
        stored = stored @ torch.cat([torch.tensor(applied, dtype=torch.float64), torch.tensor([[0.0, 0, 0, 1]])])
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps({"transform": stored.tolist(), "scale": SCALE}))
    path = transforms(tmp_path / "transforms.json", poses, applied_transform=applied)
    moved = read_cameras(path, dataparser=tmp_path / "dataparser_transforms.json")
    expected = read_cameras(transforms(tmp_path / "trained.json", trained(poses)))
    torch.testing.assert_close(moved.camera_to_world, expected.camera_to_world, rtol=0, atol=1e-5)


def test_an_applied_transform_is_undone(tmp_path):
    """Whatever turn a file names, its cameras come out in the world of the reconstruction."""
    poses = ring()
    plain = read_cameras(transforms(tmp_path / "a.json", poses)).camera_to_world  # the usual turn is assumed
    other = torch.tensor([[0.0, 1, 0, 2], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    usual = torch.eye(4, dtype=torch.float64)
    usual[:3, :3] = upright_rotation("z").T
    turned = transforms(
        tmp_path / "b.json", other @ torch.linalg.inv(usual) @ poses, applied_transform=other[:3].tolist()
    )
    torch.testing.assert_close(read_cameras(turned).camera_to_world, plain, rtol=0, atol=1e-5)


def test_up_turns_formats_that_do_not_define_it(tmp_path):
    path = make_trajectory("orbit:40", views=3, width=64, height=48)
    write_cameras(tmp_path / "m", path)
    turned = read_cameras(tmp_path / "m", up="z")
    torch.testing.assert_close(turned.positions, path.positions @ upright_rotation("z").float().T, rtol=0, atol=1e-6)
    assert torch.equal(read_cameras(tmp_path / "m", up="-y").positions, read_cameras(tmp_path / "m").positions)
    with pytest.raises(FlashWorldError, match="axis that points up"):
        read_cameras(tmp_path / "m", up="w")


# --- sizes ----------------------------------------------------------------------------------------------------------


def fov(cameras):
    return math.degrees(2 * math.atan(cameras.height / 2 / float(cameras.intrinsics[0, 1, 1])))


def test_a_focal_length_in_pixels_never_takes_the_size_of_the_views(tmp_path):
    path, told = transforms(tmp_path / "t.json", ring(), w=None, h=None, cx=None, cy=None, fl_x=3000.0), []
    with pytest.raises(FlashWorldError, match="does not say how large its images are"):
        read_cameras(path, view_size=(704, 480))
    assert read_cameras(path, 4000, 3000).width == 4000
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.new("L", (4000, 3000)).save(tmp_path / "images" / f"{i}.jpg", quality=5)
    cameras = read_cameras(path, 704, 480, view_size=(704, 480), notify=told.append)
    assert fov(cameras) == pytest.approx(53.13, abs=0.01) and len(told) == 1 and "4000x3000" in told[0]
    with pytest.raises(FlashWorldError, match="does not say"):  # outside of the folder files may be opened in
        read_cameras(path, root=tmp_path / "other")


def test_the_size_of_images_from_the_principal_point(tmp_path):
    path, told = transforms(tmp_path / "t.json", ring(), w=None, h=None, cx=2000, cy=1500, fl_x=3000.0), []
    assert fov(read_cameras(path, view_size=(704, 480), notify=told.append)) == pytest.approx(53.13, abs=0.01)
    assert len(told) == 1 and "principal point" in told[0]
    assert read_cameras(path, 4032, 3024).width == 4032  # what the user says, where it agrees


def mixed(path):
    frames = []
    for i, pose in enumerate(ring(8)):
        w, h = (400, 300) if i % 4 else (300, 400)
        frames.append({"file_path": f"{i}.jpg", "transform_matrix": pose.tolist(), "w": w, "h": h, "fl_x": 300.0})
    path.write_text(json.dumps({"frames": frames}))
    return path


def test_mixed_sizes(tmp_path):
    told = []
    cameras = read_cameras(mixed(tmp_path / "t.json"), notify=told.append)
    assert (len(cameras), cameras.width, cameras.height) == (6, 400, 300)
    assert len(told) == 1 and "6 of 8 views" in told[0] and "0.jpg (300x400)" in told[0]
    cameras = read_cameras(tmp_path / "t.json", view_size=(200, 100), notify=told.append)
    assert (len(cameras), cameras.width, cameras.height) == (8, 200, 100)
    assert float(cameras.intrinsics[1, 0, 0]) == 150 and float(cameras.intrinsics[0, 0, 0]) == 200  # scaled to cover


# --- lenses ---------------------------------------------------------------------------------------------------------


def colmap(folder, model, parameters):
    folder.mkdir(exist_ok=True)
    (folder / "images.txt").write_text("".join(f"{i} 1 0 0 0 {i} 0 4 1 IMG_{i}.jpg\n\n" for i in range(3)))
    (folder / "cameras.txt").write_text(f"1 {model} 1600 1200 {' '.join(map(str, parameters))}\n")
    return folder


@pytest.mark.parametrize(("model", "names"), COLMAP_MODELS.values())
def test_every_colmap_model_by_one_rule(tmp_path, model, names):
    """Zero is a pinhole in silence, small is said with pixels, large and fisheye are refused by name."""
    place = {"f": 1400, "fx": 1400, "fy": 1400, "cx": 800, "cy": 600}
    lens = [place.get(name, 0) for name in names]
    if "FISHEYE" in model:
        with pytest.raises(FlashWorldError, match=model):
            read_cameras(colmap(tmp_path / "m", model, lens))
        return
    told = []
    cameras = read_cameras(colmap(tmp_path / "m", model, lens), notify=told.append)
    assert not told and cameras.intrinsics[0, 0, 0] == 1400
    if len(names) > 4 or "RADIAL" in model or "DIVISION" in model:
        small = [0.3 if name == "omega" else place.get(name, 0.01) for name in names]
        read_cameras(colmap(tmp_path / "m", model, small), notify=told.append)
        assert len(told) == 1 and "pixels" in told[0] and model in told[0]
        with pytest.raises(FlashWorldError, match=rf"{model}\) distorts (by up to|without bound)"):
            read_cameras(
                colmap(tmp_path / "m", model, [place.get(name, 2.5 if name == "omega" else 0.9) for name in names])
            )


def test_the_largest_displacement_is_in_the_corner():
    moved = displacement("SIMPLE_RADIAL", {"k1": 0.01}, (1400, 1400, 800, 600), (1600, 1200))
    r = math.hypot(800, 600) / 1400
    assert moved == pytest.approx(1400 * 0.01 * r**3)


def test_transforms_follow_the_same_rule(tmp_path):
    told = []
    read_cameras(transforms(tmp_path / "t.json", ring(), camera_model="opencv", k1=0.0), notify=told.append)
    assert not told
    read_cameras(transforms(tmp_path / "t.json", ring(), k1=0.01), notify=told.append)
    assert len(told) == 1 and "distortion" in told[0]
    for more in ({"k1": 2.0}, {"is_fisheye": True}, {"camera_model": "OPENCV_FISHEYE"}):
        with pytest.raises(FlashWorldError, match="undistort"):
            read_cameras(transforms(tmp_path / "t.json", ring(), **more))


def test_what_is_ignored_is_said_once(tmp_path):
    told = []
    read_cameras(transforms(tmp_path / "t.json", ring(), scale=0.3, offset=[0.5, 0.5, 0.5]), notify=told.append)
    assert len(told) == 1 and "offset and scale are ignored" in told[0]


# --- COLMAP as it comes ----------------------------------------------------------------------------------------------


def binary(folder, path):
    """The model `write_cameras` writes as text, in COLMAP's binary form."""
    write_cameras(folder / "text", path, "colmap")
    lines = [line for line in (folder / "text" / "images.txt").read_text().splitlines() if line and line[0] != "#"]
    images = struct.pack("<Q", len(lines))
    for line in lines:
        number, *values, camera, name = line.split()
        images += struct.pack("<I7dI", int(number), *map(float, values), int(camera)) + name.encode() + b"\0"
        images += struct.pack("<Q", 2) + bytes(48)
    cameras = struct.pack("<Q", 1)
    fx, fy, cx, cy = (float(path.intrinsics[0][i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    cameras += struct.pack("<IiQQ4d", 1, 1, path.width, path.height, fx, fy, cx, cy)
    target = folder / "dataset" / "sparse" / "0"
    target.mkdir(parents=True)
    (target / "images.bin").write_bytes(images)
    (target / "cameras.bin").write_bytes(cameras)
    return target


def test_binary_models(tmp_path):
    path = make_trajectory("orbit:90", views=5, width=704, height=480)
    target = binary(tmp_path, path)
    for place in (tmp_path / "dataset", target, target / "images.bin"):
        assert detect_format(place) == "colmap"
        again = read_cameras(place)
        torch.testing.assert_close(again.camera_to_world, path.camera_to_world, rtol=0, atol=1e-6)
        assert torch.equal(again.intrinsics, path.intrinsics)
    assert is_camera_folder(tmp_path / "dataset") and not is_camera_folder(tmp_path)
    good = (target / "images.bin").read_bytes()
    for end in (4, 30, 75, 100, len(good) - 8):
        (target / "images.bin").write_bytes(good[:end])
        with pytest.raises(FlashWorldError, match="ends in the middle|without end|more points|more than"):
            read_cameras(target)


def test_names_that_are_not_utf8(tmp_path):
    images = b"1 1 0 0 0 0 0 4 1 stra\xdfe_2.jpg\n\n2 1 0 0 0 9 0 4 1 stra\xdfe_10.jpg\n"
    colmap(tmp_path / "m", "PINHOLE", (500, 500, 800, 600))
    (tmp_path / "m" / "images.txt").write_bytes(images)
    assert read_cameras(tmp_path / "m").positions[:, 0].tolist() == [0, -9]
    path = transforms(tmp_path / "t.json", ring())
    path.write_bytes(path.read_bytes().replace(b"images/", b"stra\xdfe/"))
    assert len(read_cameras(path)) == 4


def test_the_trainers_cameras_are_those_of_its_colmap_model(tmp_path):
    path = make_trajectory("orbit:90", views=12, width=704, height=480)
    write_cameras(tmp_path / "cameras.json", path, "inria")
    entries = json.loads((tmp_path / "cameras.json").read_text())
    (tmp_path / "cameras.json").write_text(json.dumps(entries[::-1]))  # the trainer lists them in no order
    again = read_cameras(tmp_path / "cameras.json")
    assert detect_format(tmp_path / "cameras.json") == "inria"
    torch.testing.assert_close(again.camera_to_world, path.camera_to_world, rtol=0, atol=1e-6)
    entries[1].pop("rotation")
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    with pytest.raises(FlashWorldError, match=r"\[1\].rotation is missing"):
        read_cameras(tmp_path / "cameras.json")


@pytest.mark.parametrize("name", ["\ud800", "x" * 300, "x" * 5000, "a\0b"])
def test_impossible_image_names(tmp_path, name):
    entry = {"quaternion": [1, 0, 0, 0], "position": [0, 0, 0], "fx": 50, "fy": 50, "cx": 32, "cy": 24}
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"cameras": [entry], "resolution": [1, 48, 64], "image_prompt": name}))
    with pytest.raises(FlashWorldError, match="names no file") as error:
        read_cameras(path, root=tmp_path)
    assert len(str(error.value)) < 600
    str(error.value).encode()
