"""COLMAP's text model: ``images.txt`` and ``cameras.txt`` in one folder.

An image's pose is a unit quaternion wxyz and a translation, world-to-camera, in OpenCV axes. Intrinsics are pixels;
(0.5, 0.5) is the center of the first pixel, as in `Cameras`. Each image has a second line with its 2D points, which
is skipped.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import invert_pose, matrices_to_quats, pose
from .parse import (
    by_name,
    check_count,
    check_size,
    line_of,
    number,
    pinhole,
    read_text,
    rotation_from_quaternion,
    write_texts,
)

# Lists of 2D points make images.txt far larger than any path; they are passed over line by line.
MAX_IMAGES_BYTES = 4 * 2**30
MAX_LINE = 64 * 2**20
MODELS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}  # number of parameters


def find_folder(path: Path) -> Path | None:
    """The folder of a text model at ``path``: the folder itself, its usual subfolders, or that of a named file."""
    if path.is_dir():
        return next((folder for folder in _usual_folders(path) if (folder / "images.txt").is_file()), None)
    return path.parent if path.name in ("images.txt", "cameras.txt") else None


def _usual_folders(path: Path) -> list[Path]:
    return [path, path / "sparse" / "0", path / "sparse", path / "0"]


def read(path: Path) -> Cameras:
    """`Cameras` of the model at ``path``, in the natural order of the images' names.

    Args:
        path: the folder, one above it (``sparse/0``), or ``images.txt``.

    Raises:
        FlashWorldError: missing or binary model, distorted cameras, different image sizes, damaged lines.
    """
    folder = find_folder(path)
    if folder is None:
        binary = next((f for f in _usual_folders(path) if (f / "images.bin").is_file()), None)
        hint = (
            f"only COLMAP's binary model was found; run: colmap model_converter --input_path {binary} "
            f"--output_path {binary} --output_type TXT"
            if binary
            else "COLMAP's text model has images.txt and cameras.txt"
        )
        raise FlashWorldError(f"read_cameras: no images.txt in {path}; {hint}.")
    lenses = _read_lenses(folder / "cameras.txt")
    poses, intrinsics, names, sizes = [], [], [], set()
    for line_number, line in _pose_lines(folder / "images.txt"):
        here = f"{folder / 'images.txt'}, line {line_number}"
        columns = line.split(None, 9)
        values = [number(column, f"{here}, column {i}") for i, column in enumerate(columns[:9], start=1)]
        if columns[8] not in lenses:
            raise FlashWorldError(f"read_cameras: {here}: camera {columns[8][:40]} is not in cameras.txt.")
        lens, size = lenses[columns[8]]
        sizes.add(size)
        if len(sizes) > 1:
            raise FlashWorldError(
                f"read_cameras: {here} has images of {size[0]}x{size[1]}, others differ; a camera path needs one size."
            )
        rotation = rotation_from_quaternion(values[1:5], here)
        poses.append(pose(rotation, torch.tensor(values[5:8], dtype=torch.float64)))
        intrinsics.append(lens)
        names.append(columns[9].strip())
        check_count(len(poses), here)
    check_count(len(poses), str(folder / "images.txt"))
    order = by_name(names)
    return Cameras(invert_pose(torch.stack(poses))[order].float(), torch.stack(intrinsics)[order].float(), *size)


def _pose_lines(path: Path):
    """(line number, text) of the lines that hold poses."""
    try:
        if path.stat().st_size > MAX_IMAGES_BYTES:
            raise FlashWorldError(f"read_cameras: {path} has more than {MAX_IMAGES_BYTES >> 30} GiB.")
        with path.open(encoding="utf-8", errors="replace") as stream:
            expect_points = False
            line_number = 0
            while line := stream.readline(MAX_LINE):
                line_number += 1
                if len(line) == MAX_LINE:
                    raise FlashWorldError(
                        f"read_cameras: {path}, line {line_number} is longer than {MAX_LINE >> 20} MiB."
                    )
                if line.startswith("#"):
                    continue
                if expect_points and _is_points(line):
                    expect_points = False
                    continue
                if not line.strip():
                    continue
                if len(line.split(None, 9)) != 10:
                    raise FlashWorldError(
                        f"read_cameras: {path}, line {line_number}: expected IMAGE_ID QW QX QY QZ "
                        "TX TY TZ CAMERA_ID NAME."
                    )
                expect_points = True
                yield line_number, line
    except OSError as error:
        raise FlashWorldError(f"read_cameras: {path} cannot be read: {error.strerror or error}.") from error


def _is_points(line: str) -> bool:
    """Whether the line after a pose is its list of points: triples of numbers, maybe none.

    Hand-written files often leave these lines out; what follows is then the next pose, and ten columns are no triples.
    """
    columns = line.split()
    if len(columns) % 3:
        return False
    try:
        [float(column) for column in columns[:12]]
    except ValueError:
        return False
    return True


def _read_lenses(path: Path) -> dict[str, tuple[torch.Tensor, tuple[int, int]]]:
    """Intrinsics [3, 3] and image size by camera id."""
    lenses = {}
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        here = f"{path}, line {line_number}"
        model = columns[1] if len(columns) > 1 else ""
        if model not in MODELS:
            raise FlashWorldError(
                f"read_cameras: {here}: camera model {model[:40]!r} is not supported, only {' and '.join(MODELS)}; "
                "undistort the pictures first (colmap image_undistorter)."
            )
        if len(columns) != 4 + MODELS[model]:
            raise FlashWorldError(
                f"read_cameras: {here}: {model} needs CAMERA_ID MODEL WIDTH HEIGHT and {MODELS[model]} parameters."
            )
        size = check_size(columns[2], columns[3], here)
        parameters = [number(column, f"{here}, column {i}") for i, column in enumerate(columns[4:], start=5)]
        if model == "SIMPLE_PINHOLE":
            parameters = [parameters[0], *parameters]
        lenses[columns[0]] = (pinhole(*parameters, here), size)
    return lenses


def write(path: Path, cameras: Cameras) -> None:
    """Write ``cameras.txt`` and ``images.txt``, and an empty ``points3D.txt``, which readers expect, if there is none.

    Args:
        path: the folder, or a file in it named ``images.txt`` or ``cameras.txt``.
    """
    folder = path.parent if path.name in ("images.txt", "cameras.txt") else path
    if folder.is_file():
        raise FlashWorldError(f"write_cameras: {folder} is a file; a COLMAP model needs a folder.")
    world_to_camera = invert_pose(cameras.camera_to_world.double())
    quaternions = matrices_to_quats(world_to_camera[:, :3, :3]).to(cameras.camera_to_world.dtype)
    translations = world_to_camera[:, :3, 3].to(cameras.camera_to_world.dtype)
    camera_ids: dict[str, int] = {}
    images = [
        "# Image list with two lines of data per image:",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "#   POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    digits = max(4, len(str(len(cameras) - 1)))
    for i, k in enumerate(cameras.intrinsics):
        lens = line_of(torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]))
        camera = camera_ids.setdefault(lens, len(camera_ids) + 1)
        name = f"view_{i:0{digits}d}.png"
        images += [f"{i + 1} {line_of(quaternions[i])} {line_of(translations[i])} {camera} {name}", ""]
    models = ["# Camera list with one line of data per camera:", "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    models += [f"{n} PINHOLE {cameras.width} {cameras.height} {lens}" for lens, n in camera_ids.items()]
    texts = {folder / "cameras.txt": "\n".join(models) + "\n", folder / "images.txt": "\n".join(images) + "\n"}
    if not (folder / "points3D.txt").exists():
        texts[folder / "points3D.txt"] = "# 3D point list with one line of data per point: none\n"
    write_texts(texts)
