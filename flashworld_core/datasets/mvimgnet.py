"""MVImgNet: object videos, ``CLASS/INSTANCE/images/*.jpg`` with COLMAP's binary model in ``sparse/0``.

Class folders have numbers; ``mvimgnet_category.txt`` in the set's folder ("number,name" a line) gives their names,
which stand in for missing captions. Some instances have an empty ``sparse`` folder and many lack images: these are
skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import FlashWorldError
from ..formats.cameras import colmap, colmap_binary
from ..formats.cameras.parse import read_text
from ..geometry import invert_pose
from .clips import BrokenClip, Clip, Reading, folders, multiview_clip

LAYOUT = "CLASS/INSTANCE/images/*.jpg and CLASS/INSTANCE/sparse/0/{cameras,images,points3D}.bin"
CATEGORIES = "mvimgnet_category.txt"


def clips(root: Path, reading: Reading) -> Iterator[Clip]:
    """All instances, in the order of their names."""
    names = _categories(root / CATEGORIES)
    for category in folders(root):
        for instance in folders(category):
            if not (instance / "images").is_dir() and not (instance / "sparse").is_dir():
                continue
            id = f"{category.name}/{instance.name}"
            try:
                yield _clip(instance, id, names.get(category.name, ""), reading)
            except FlashWorldError as error:
                reading.skip(id, error)


def _clip(instance: Path, id: str, name: str, reading: Reading) -> Clip:
    found = colmap.find_model(instance)
    if found is None:
        raise BrokenClip("there is no camera model in sparse/0")
    folder, kind = found
    views = colmap.read(folder, lambda text: None)  # distortion is kept, see `undistort`
    points = folder / "points3D.bin"
    depth = median_depth(colmap_binary.read_points(points), views.camera_to_world) if points.is_file() else 0.0
    names = [Path(name).name for name in views.names]  # only the last part is the file's
    return multiview_clip(
        reading, id, views, instance / "images", names, stamp=folder / f"images.{kind}", prompt=name, depth=depth
    )


def median_depth(points: torch.Tensor, camera_to_world: torch.Tensor) -> float:
    """The median, over views and points in front of them, of the depth of a cloud [N, 3]; 0 for an empty one."""
    if not len(points):
        return 0.0
    sampled = points[:: max(1, len(points) // 4096)]
    world_to_camera = invert_pose(camera_to_world[:: max(1, len(camera_to_world) // 16)])
    z = sampled @ world_to_camera[:, 2, :3].T + world_to_camera[:, 2, 3]
    ahead = z[z > 0]
    return float(ahead.median()) if len(ahead) else 0.0


def _categories(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.replace("\t", ",").partition(",") for line in read_text(path).splitlines())
    return {number.strip(): name.strip().replace("_", " ") for number, _, name in pairs if name.strip()}
