"""COLMAP's models: ``images`` and ``cameras`` in one folder, as text (.txt) or binary (.bin, see `colmap_binary`).

An image's pose is a unit quaternion wxyz and a translation, world-to-camera, in OpenCV axes. Intrinsics are pixels;
(0.5, 0.5) is the center of the first pixel, as in `Cameras`. In text, each image has a second line with its 2D points,
which is skipped. Which lens models are read: `lens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ...cameras import Cameras
from ...errors import FlashWorldError
from ...geometry import invert_pose, matrices_to_quats, pose
from . import colmap_binary
from .lens import COLMAP_PARAMETERS, Lenses
from .parse import (
    check_count,
    check_focal,
    check_size,
    columns_to_numbers,
    decode,
    line_of,
    open_file,
    read_text,
    rotations_from_quaternions,
    short,
    write_texts,
)
from .views import FileViews

FILES = ("images.txt", "cameras.txt", "images.bin", "cameras.bin")
# Where the models of datasets lie below the folder people name.
_USUAL = ("", "sparse/0", "sparse", "0", "colmap/sparse/0", "colmap/sparse", "colmap")
# Lists of 2D points make images.txt far larger than any path; they are passed over line by line.
MAX_IMAGES_BYTES = 4 * 2**30
MAX_LINE = 64 * 2**20


def find_model(path: Path) -> tuple[Path, str] | None:
    """(folder, "txt" or "bin") of the model at ``path``: the folder itself, its usual subfolders, or a named file's.

    Text comes first where a folder has both, as it is what people edit.
    """
    if path.name in FILES and not path.is_dir():
        return path.parent, path.suffix[1:]
    for name in _USUAL if path.is_dir() else ():
        for kind in ("txt", "bin"):
            if (path / name / f"images.{kind}").exists():
                return path / name, kind
    return None


def read(path: Path, notify: Callable[[str], None]) -> FileViews:
    """The views of the model at ``path``.

    Args:
        path: the folder, one above it (``sparse/0``), or one of `FILES`.
        notify: told which distortion is ignored, and that other models lie beside this one.

    Raises:
        FlashWorldError: no model, a lens that is no pinhole, damaged lines or bytes.
    """
    found = find_model(path)
    if found is None:
        raise FlashWorldError(
            f"There is no COLMAP model in {path}: no images.txt or images.bin in it or in its sparse/0; other files "
            "must be named themselves."
        )
    folder, kind = found
    if folder.name == "0" and (others := [p.name for p in folder.parent.iterdir() if p.name.isdigit() and p != folder]):
        notify(f"{folder.parent} holds {len(others) + 1} models that share no world; {folder.name} is used.")
    models = Lenses(str(folder))
    if kind == "bin":
        lenses = colmap_binary.read_lenses(folder / "cameras.bin")
        images = colmap_binary.read_images(folder / "images.bin")
    else:
        lenses = _read_lenses(folder / "cameras.txt")
        images = _text_images(folder / "images.txt")
    where = str(folder / f"images.{kind}")
    quaternions, translations, views, names, places, checked = [], [], [], [], [], {}
    for here, values, camera, name in images:
        if camera not in lenses:
            raise FlashWorldError(f"{where}{here}: camera {camera[:40]} is not in cameras.{kind}.")
        if camera not in checked:  # cameras that no image uses may be of any kind
            checked[camera] = _pinhole(*lenses[camera], models)
        quaternions.append(values[:4])
        translations.append(values[4:])
        views.append(checked[camera])
        names.append(name)
        places.append(here)
        check_count(len(names), where)
    check_count(len(names), where)
    models.report(notify)
    rotations = rotations_from_quaternions(quaternions, lambda i: f"{where}{places[i]}")
    poses = invert_pose(pose(rotations, torch.tensor(translations, dtype=torch.float64)))
    return FileViews(
        poses,
        torch.tensor([lens for lens, _, _ in views], dtype=torch.float64),
        [size for _, size, _ in views],
        names,
        distortion=[distortion for _, _, distortion in views],
    )


def _pinhole(here: str, model: str, size: tuple[int, int], parameters: dict[str, float], models: Lenses):
    """(fx, fy, cx, cy), the size and the distortion of one camera of the model."""
    fx, fy = parameters.get("fx", parameters.get("f")), parameters.get("fy", parameters.get("f"))
    lens = [fx, fy, parameters["cx"], parameters["cy"]]
    check_focal(fx, fy, here)
    return lens, size, models.check(model, parameters, lens, size, here)


def _text_images(path: Path) -> Iterator[tuple[str, list[float], str, str]]:
    """(", line N", quaternion and translation, camera id, name) of every image."""
    for line_number, line in _pose_lines(path):
        columns = line.split(None, 9)
        values = columns_to_numbers(columns[:9], f"{path}, line {line_number}")
        yield f", line {line_number}", values[1:8], columns[8], columns[9].strip()


def _pose_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of the lines that hold poses."""
    with open_file(path, MAX_IMAGES_BYTES) as stream:
        expect_points = False
        line_number = 0
        try:
            while raw := stream.readline(MAX_LINE):
                line_number += 1
                if len(raw) == MAX_LINE:
                    raise FlashWorldError(f"{path}, line {line_number} is longer than {MAX_LINE >> 20} MiB.")
                if raw.startswith(b"#"):
                    continue
                if expect_points and _is_points(raw):
                    expect_points = False
                    continue
                if not raw.strip():
                    continue
                line = decode(raw)
                if len(line.split(None, 9)) != 10:
                    raise FlashWorldError(
                        f"{path}, line {line_number}: expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME."
                    )
                expect_points = True
                yield line_number, line
        except OSError as error:
            raise FlashWorldError(f"{path} cannot be read: {error.strerror or error}.") from error


def _is_points(line: bytes) -> bool:
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


def _read_lenses(path: Path) -> dict[str, tuple[str, str, tuple[int, int], dict[str, float]]]:
    """(place, model, image size, parameters by name) by camera id."""
    lenses = {}
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        here = f"{path}, line {line_number}"
        model = columns[1] if len(columns) > 1 else ""
        names = COLMAP_PARAMETERS.get(model)
        if names is None:
            raise FlashWorldError(f"{here}: there is no camera model {short(model)} in COLMAP.")
        if len(columns) != 4 + len(names):
            raise FlashWorldError(
                f"{here}: {model} needs CAMERA_ID MODEL WIDTH HEIGHT and {len(names)} parameters ({', '.join(names)})."
            )
        size = check_size(columns[2], columns[3], here)
        parameters = columns_to_numbers(columns[4:], here)
        lenses[columns[0]] = (here, model, size, dict(zip(names, parameters, strict=True)))
    return lenses


def write(path: Path, cameras: Cameras) -> None:
    """Write ``cameras.txt`` and ``images.txt``, and an empty ``points3D.txt``, which readers expect, if there is none.

    Args:
        path: the folder, or a file in it named ``images.txt`` or ``cameras.txt``.
    """
    folder = path.parent if path.name in FILES else path
    if folder.is_file():
        raise FlashWorldError(f"{folder} is a file; a COLMAP model needs a folder.")
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
