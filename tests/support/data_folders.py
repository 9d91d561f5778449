"""One small ToyWorld scene, seen along a path, written as a clip of every data set's layout."""

from __future__ import annotations

import functools
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.datasets.toyworld import render_scene, sample_cameras, sample_scene
from flashworld_core.formats.cameras import write_cameras
from flashworld_core.geometry import invert_pose, matrices_to_quats
from flashworld_core.media.export import save_png, save_video

FRAMES, WIDTH, HEIGHT = 30, 72, 48
SCENES = (3, 4)  # seeds of the two clips every set has


@functools.cache
def scene_and_views(seed: int, width: int = WIDTH, height: int = HEIGHT):
    """(scene, cameras of a path, its images [V, H, W, 3])."""
    scene = sample_scene(seed)
    cameras = sample_cameras(scene, FRAMES, width, height)
    images, _ = render_scene(scene, cameras, 1)
    return scene, cameras, images.permute(0, 2, 3, 1)


def save_images(folder: Path, names, seed: int, ending: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, scene_and_views(seed)[2], strict=True):
        save_png(folder / f"{name}.{ending}", image)


def mvimgnet(root: Path) -> None:
    root.mkdir(exist_ok=True)
    (root / "mvimgnet_category.txt").write_text("7,bottle\n")
    for number, seed in enumerate(SCENES):
        clip = root / "7" / f"instance{number}"
        names = [f"{i + 1:03d}" for i in range(FRAMES)]
        save_images(clip / "images", names, seed)
        write_colmap_binary(clip / "sparse" / "0", scene_and_views(seed)[1], [f"{name}.png" for name in names])


def write_colmap_binary(
    folder: Path, cameras: Cameras, names, distortion=(0.0, 0.0), points=((0.0, -0.5, 0.0),)
) -> None:
    """A model with one RADIAL camera, images listed backwards, each with two 2D points."""
    folder.mkdir(parents=True, exist_ok=True)
    k = cameras.intrinsics[0].double()
    lens = struct.pack("<5d", k[0, 0], k[0, 2], k[1, 2], *distortion)
    (folder / "cameras.bin").write_bytes(struct.pack("<QIiQQ", 1, 1, 3, cameras.width, cameras.height) + lens)
    world_to_camera = invert_pose(cameras.camera_to_world.double())
    quats = matrices_to_quats(world_to_camera[:, :3, :3])
    data = struct.pack("<Q", len(names))
    for i in reversed(range(len(names))):
        data += struct.pack("<I7dI", i + 1, *quats[i].tolist(), *world_to_camera[i, :3, 3].tolist(), 1)
        data += names[i].encode() + b"\0" + struct.pack("<Q", 2) + bytes(48)
    (folder / "images.bin").write_bytes(data)
    body = b"".join(struct.pack("<Q3d3BdQ", i, *p, 1, 2, 3, 0.5, 2) + bytes(16) for i, p in enumerate(points))
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", len(points)) + body)


def realestate10k(root: Path) -> None:
    for number, seed in enumerate(SCENES):
        text = root / "train" / f"clip{number}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        write_cameras(text, scene_and_views(seed)[1], "realestate10k")
        lines = text.read_text().splitlines()
        # As the set has it: an address in front, no image size, timestamps in microseconds.
        text.write_text("\n".join(["https://www.youtube.com/watch?v=none", *lines[1:]]) + "\n")
        stamps = [line.split()[0] for line in lines[1:]]
        save_images(root / "frames" / "train" / f"clip{number}", stamps, seed)


def realestate10k_videos(root: Path) -> None:
    entries = []
    for number, seed in enumerate(SCENES):
        text = root / "pose_files" / "train" / f"clip{number}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        write_cameras(text, scene_and_views(seed)[1], "realestate10k")
        save_video(root / "video_clips" / f"clip{number}.mp4", scene_and_views(seed)[2], 25)
        entries.append(
            {
                "clip_path": f"video_clips/clip{number}.mp4",
                "pose_file": f"pose_files/train/clip{number}.txt",
                "caption": [f"room {number}"],
            }
        )
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(entries))


def dl3dv(root: Path) -> None:
    for number, (seed, inner) in enumerate(zip(SCENES, ("", "nerfstudio"), strict=True)):
        clip = root / "1K" / f"hash{number}" / inner
        clip.mkdir(parents=True)
        big = scene_and_views(seed)[1].resized(4 * WIDTH, 4 * HEIGHT)  # the file speaks of the video's size
        write_cameras(clip / "transforms.json", big, "nerfstudio")
        data = json.loads((clip / "transforms.json").read_text())
        for i, frame in enumerate(data["frames"]):
            frame["file_path"] = f"images/frame_{i + 1:05d}.png"
        (clip / "transforms.json").write_text(json.dumps(data))
        save_images(clip / "images_4", [f"frame_{i + 1:05d}" for i in range(FRAMES)], seed)


def wildrgbd(root: Path) -> None:
    for number, seed in enumerate(SCENES):
        clip = root / "apple" / "scenes" / f"scenes_{number:04d}"
        save_images(clip / "rgb", [f"{i:05d}" for i in range(FRAMES)], seed)
        cameras = scene_and_views(seed)[1]
        k = cameras.intrinsics[0].double()
        metadata = {"w": WIDTH, "h": HEIGHT, "K": k.T.flatten().tolist()}
        (clip / "metadata").write_text(json.dumps(metadata))
        lines = [
            " ".join([str(i), *map(repr, pose.flatten().tolist())])
            for i, pose in enumerate(cameras.camera_to_world.double())
        ]
        (clip / "cam_poses.txt").write_text("\n".join(lines) + "\n")


MULTIVIEW = {
    "mvimgnet": ("mvimgnet", mvimgnet),
    "realestate10k": ("realestate10k", realestate10k),
    "realestate10k_videos": ("realestate10k", realestate10k_videos),
    "dl3dv": ("dl3dv", dl3dv),
    "wildrgbd": ("wildrgbd", wildrgbd),
}


def image_text(root: Path, count: int = 3) -> None:
    for i in range(count):
        save_png(root / "deep" / f"picture{i}.png", picture(i))
        (root / "deep" / f"picture{i}.txt").write_text(f"picture number {i}\n")


def picture(number: int) -> torch.Tensor:
    """[40, 60, 3], another one for each number."""
    return torch.linspace(0, 1, 40 * 60 * 3).view(40, 60, 3).roll(7 * number, 1)


def video(path: Path, frames: int = 40) -> None:
    """Frame i is i / frames bright."""
    levels = torch.arange(frames) / frames
    save_video(path, levels[:, None, None, None].expand(frames, 32, 48, 3), 25)


def shard(path: Path, count: int = 3, extra: dict[str, bytes] | None = None) -> None:
    """A tar of pictures with texts, the last with its caption in JSON."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    members: dict[str, bytes] = dict(extra or {})
    for i in range(count):
        stream = io.BytesIO()
        Image.fromarray((picture(i).numpy() * 255).astype(np.uint8)).save(stream, "PNG")
        members[f"{i:05d}.png"] = stream.getvalue()
        if i < count - 1:
            members[f"{i:05d}.txt"] = f"picture number {i}".encode()
        else:
            members[f"{i:05d}.json"] = json.dumps({"caption": f"picture number {i}"}).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
