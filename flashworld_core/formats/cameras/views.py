"""From what a camera file holds to `Cameras`: order, one image size, and the world of a scene."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...cameras import Cameras
from ...geometry import pose
from ...ops.transform import upright_rotation
from . import dataparser
from .parse import by_name


@dataclasses.dataclass
class FileViews:
    """V views as a file has them.

    Attributes:
        camera_to_world: [V, 4, 4] float64, the camera in OpenCV axes, the world the file's own.
        lenses: [V, 4] float64, fx fy cx cy in pixels.
        sizes: width and height of each view's images.
        names: of the images, which give the order; None keeps the order of the file.
        up: the world's axis that points up, where the format defines it ("z"), else None.
        applied: (4x4 matrix, scale) its writer applied to the world of the reconstruction, if it says so.
        trained: the world is that of a scene trained by nerfstudio already, so no dataparser transforms apply.
        distortion: of each view, as `lens.Lenses.check` answers; None: pinholes all. `Cameras` have none.
    """

    camera_to_world: Tensor
    lenses: Tensor
    sizes: list[tuple[int, int]]
    names: list | None = None
    up: str | None = None
    applied: tuple[Tensor, float] | None = None
    distortion: list[tuple[str, dict[str, float]] | None] | None = None
    trained: bool = False


def to_cameras(
    views: FileViews,
    where: str,
    *,
    view_size: tuple[int, int] | None,
    up: str | None,
    dataparser_file: Path | None,
    notify: Callable[[str], None],
) -> Cameras:
    """`Cameras` in our world, in the order of their names, of one image size.

    Args:
        where: the file, for messages.
        view_size: width and height every view is fitted to where the file's sizes differ; None keeps only the views
            of the commonest size, and says which are left out.
        up: the axis that points up in the file's world, where its format does not say; "z", "y", or None for -y.
        dataparser_file: nerfstudio's ``dataparser_transforms.json``: the cameras move to the world of the scene
            trained with it, whose z points up.
        notify: told what is left out.
    """
    poses = views.camera_to_world
    if views.trained and dataparser_file is not None:
        notify(f"{where} is in the world of the trained scene already; {dataparser.NAME} is not used.")
        dataparser_file = None
    if dataparser_file is not None:
        poses = _moved(poses, *dataparser.read(dataparser_file, views.applied))
        up = dataparser.UP
    elif views.applied is not None and up is None:
        # Back to the world of the reconstruction, which scenes trained without nerfstudio are in.
        poses = _moved(poses, *dataparser.inverse(*views.applied))
    else:
        up = views.up or up
    rotation = upright_rotation(up)
    if rotation is not None:
        poses = _moved(poses, rotation, 1.0, rotation.new_zeros(3))
    order = list(range(len(poses))) if views.names is None else by_name(views.names)
    poses, lenses = poses[order], views.lenses[order]
    sizes = [views.sizes[i] for i in order]

    size, count = Counter(sizes).most_common(1)[0]
    if count == len(sizes):
        return _cameras(poses, lenses, *size)
    names = [f"view {i}" if views.names is None else str(views.names[i]) for i in order]
    if view_size is None:
        kept = [i for i, one in enumerate(sizes) if one == size]
        others = [i for i, one in enumerate(sizes) if one != size]
        shown = ", ".join(f"{names[i][:60]} ({sizes[i][0]}x{sizes[i][1]})" for i in others[:3])
        notify(
            f"{where}: images of several sizes; the {count} of {len(sizes)} views of {size[0]}x{size[1]} are used, "
            f"{len(others)} are left out: {shown}{', ...' if len(others) > 3 else ''}. Give a size to keep all views, "
            "each cropped in the middle to that shape."
        )
        return _cameras(poses[kept], lenses[kept], *size)
    notify(
        f"{where}: images of {len(set(sizes))} sizes; all {len(sizes)} views are cropped in the middle and scaled to "
        f"{view_size[0]}x{view_size[1]}."
    )
    intrinsics = torch.empty(len(poses), 3, 3, dtype=torch.float64)
    for one in set(sizes):
        of_size = [i for i, other in enumerate(sizes) if other == one]
        intrinsics[of_size] = (
            _cameras(poses[of_size], lenses[of_size], *one, dtype=torch.float64).fitted(*view_size).intrinsics
        )
    return Cameras(poses.float(), intrinsics.float(), *view_size)


def _moved(poses: Tensor, rotation: Tensor, scale: float, shift: Tensor) -> Tensor:
    """Poses after the similarity x -> scale * (rotation @ x) + shift of the world."""
    return pose(rotation @ poses[:, :3, :3], scale * (poses[:, :3, 3] @ rotation.T) + shift)


def _cameras(poses: Tensor, lenses: Tensor, width: int, height: int, dtype=torch.float32) -> Cameras:
    intrinsics = torch.zeros(len(poses), 3, 3, dtype=torch.float64)
    intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = lenses
    intrinsics[:, 2, 2] = 1
    return Cameras(poses.to(dtype), intrinsics.to(dtype), width, height)
