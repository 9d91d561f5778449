"""Choose Gaussians of a scene: by value, box, importance, or what a camera path sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError, check_stop
from ..gaussians import Gaussians
from .measure import extent, finite_mask

_MAX_VIEWPOINTS = 64  # of a path; more would change little
_SAMPLE = 100_000  # Gaussians that shares and middles are measured on
_REACH = 3.0  # standard deviations: beyond, a Gaussian shows nowhere
FEW = 0.03  # of a scene; cameras that see less are said to


def seen_in_views(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Return how much of a scene each camera shows: the share of its Gaussians in the picture, times its size there.

    The size is twice the scene's extent as a share of the picture's height, at most 1: a scene that is a dot in the
    distance is in the picture, but nothing of it can be seen. Faint Gaussians (opacity below a tenth) do not count,
    unless all are.

    Returns:
        [P] in 0..1 for at most `_MAX_VIEWPOINTS` cameras spread over the path, measured on at most `_SAMPLE` Gaussians.
    """
    few, views = _sample(gaussians, cameras)
    if not len(few) or not len(views):
        return torch.zeros(len(views))
    shares = torch.stack([near_path_mask(few, views[i], reach=0.0).double().mean() for i in range(len(views))]).cpu()
    middle = few.means.detach().double().median(dim=0).values.cpu()
    distance = (views.positions.double().cpu() - middle).norm(dim=1).clamp_min(1e-12)
    diameter = 2 * extent(few) or math.inf
    sizes = diameter * views.intrinsics[:, 1, 1].double().cpu() / distance / views.height
    return shares * sizes.clamp_max(1.0)


def few_seen(gaussians: Gaussians, cameras: Cameras, remedy: str) -> str | None:
    """Return a sentence where no camera sees more than `FEW` of a scene (`seen_in_views`), else None.

    Args:
        remedy: sentences that say what may be missing and how to give it.
    """
    seen = seen_in_views(gaussians, cameras)
    most = float(seen.max()) if len(seen) else 0.0
    if most >= FEW:
        return None
    seen = "nothing" if most < 1e-4 else f"at most {100 * most:.2g} %"
    return f"These cameras see {seen} of the scene: the two may not share a world. {remedy}"


def _sample(gaussians: Gaussians, cameras: Cameras) -> tuple[Gaussians, Cameras]:
    kept = finite_mask(gaussians)
    solid = kept & (gaussians.opacities >= 0.1)
    chosen = (solid if bool(solid.any()) else kept).nonzero()[:, 0]
    chosen = chosen[:: max(1, -(-len(chosen) // _SAMPLE))]
    return gaussians[chosen], cameras[slice(None, None, max(1, -(-len(cameras) // _MAX_VIEWPOINTS)))]


def drop_far(gaussians: Gaussians, extents: float) -> Gaussians:
    """Drop Gaussians farther from the scene's middle than ``extents`` times its extent (`measure.extent`)."""
    means = gaussians.means.detach().double()
    middle = means[:: max(1, len(means) // _SAMPLE)].nanmedian(dim=0).values
    distance = (means - middle).norm(dim=1)
    reach = extents * extent(gaussians)
    return gaussians if not reach > 0 else _select(gaussians, ~(distance > reach))


def prune(
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    min_size: float = 0.0,
    max_size: float = math.inf,
) -> Gaussians:
    """Drop Gaussians that are invalid, too transparent, too small or too large; order is kept.

    Gaussians with a NaN or infinity anywhere always go. The FlashWorld web app prunes at ``min_opacity=0.00025``.

    Args:
        gaussians: N Gaussians.
        min_opacity: keep opacities >= this, in [0, 1].
        min_size: keep those whose largest scale is >= this, in world units.
        max_size: keep those whose largest scale is <= this, in world units.
    """
    size = gaussians.scales.amax(dim=1)
    keep = finite_mask(gaussians) & (gaussians.opacities >= min_opacity) & (size >= min_size) & (size <= max_size)
    return _select(gaussians, keep)


def crop(
    gaussians: Gaussians, minimum: Tensor | Sequence[float], maximum: Tensor | Sequence[float], *, invert: bool = False
) -> Gaussians:
    """Keep the Gaussians whose center lies in an axis-aligned box, faces included (``invert``: outside of it).

    Args:
        gaussians: N Gaussians.
        minimum: 3 numbers, the corner with the smallest coordinates, in world units.
        maximum: 3 numbers, the corner with the largest; infinities leave a side open.

    Raises:
        FlashWorldError: corners that are not 3 numbers each, or a minimum above its maximum.
    """
    low, high = (_vector(name, v) for name, v in (("minimum", minimum), ("maximum", maximum)))
    if (low > high).any() or low.isnan().any() or high.isnan().any():
        raise FlashWorldError(f"minimum {low.tolist()} must not exceed maximum {high.tolist()} on any axis.")
    means = gaussians.means
    inside = ((means >= low.to(means)) & (means <= high.to(means))).all(dim=1)
    return _select(gaussians, ~inside if invert else inside)


def importance(gaussians: Gaussians, viewpoints: Tensor | None = None) -> Tensor:
    """[N] how much of a picture a Gaussian can cover at most: opacity times mean projected area.

    The area is that of the scales' ellipsoid averaged over its three axes, so flat and needle-like
    Gaussians count for what they show, not for their volume (0).

    Args:
        viewpoints: [P, 3] where the scene is looked at from. The area is then divided by the squared distance to the
            nearest of them, for what is near looks large. Without, it is in world units squared.
    """
    a, b, c = gaussians.scales.unbind(1)
    area = gaussians.opacities * (a * b + b * c + c * a)
    if viewpoints is None or not len(viewpoints):
        return area
    viewpoints = viewpoints.to(gaussians.means)[:: -(-len(viewpoints) // _MAX_VIEWPOINTS)]
    squared = torch.full_like(area, math.inf)
    for point in viewpoints:  # one at a time: N numbers of memory, not N times P
        squared = torch.minimum(squared, (gaussians.means - point).square().sum(dim=1))
    # From inside of a Gaussian the formula would give infinity; there it fills the picture.
    return area / torch.maximum(squared, gaussians.scales.amax(dim=1).square()).clamp_min(1e-30)


def budget(gaussians: Gaussians, maximum: int, viewpoints: Tensor | None = None) -> Gaussians:
    """Keep at most ``maximum`` Gaussians, the most important ones (`importance`); order is kept, ties go to the first.

    Args:
        viewpoints: [P, 3] where the scene is looked at from, if that is known.

    Raises:
        FlashWorldError: a negative maximum.
    """
    if maximum < 0:
        raise FlashWorldError(f"maximum must be 0 or more, got {maximum}.")
    if len(gaussians) <= maximum:
        return gaussians
    # Invalid ones (NaN) rank last, so they cannot displace a visible one.
    rank = importance(gaussians, viewpoints).nan_to_num(nan=-1.0)
    kept = rank.argsort(descending=True, stable=True)[:maximum].sort().values
    return gaussians[kept]


def _select(gaussians: Gaussians, keep: Tensor) -> Gaussians:
    kept = int(keep.sum())
    return gaussians if kept == len(gaussians) else gaussians[keep]


def _vector(name: str, values: Tensor | Sequence[float]) -> Tensor:
    vector = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if tuple(vector.shape) != (3,):
        raise FlashWorldError(f"{name} must be 3 numbers, got {list(vector.shape)}.")
    return vector


def near_path_mask(
    gaussians: Gaussians,
    cameras: Cameras,
    surroundings: float = 0.0,
    *,
    reach: float = _REACH,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Tensor:
    """[N] bool: the Gaussians in sight of at least one camera, at any distance, or around at least one.

    In sight is what reaches into the pyramid of the picture's edges within ``reach`` standard deviations (its largest,
    in all directions). What hides behind something else is in sight too.

    Args:
        surroundings: world units; a Gaussian whose center is at most this far from a camera's stays, also behind it.
        progress: called as ``progress(done, total)`` in cameras, after each.
        should_stop: asked before each camera.

    Raises:
        FlashWorldError: no cameras, or surroundings below 0.
        Cancelled: ``should_stop`` answered True.
    """
    if len(cameras) == 0:
        raise FlashWorldError("the camera path is empty.")
    if not surroundings >= 0:
        raise FlashWorldError(f"surroundings must be 0 or more, got {surroundings}.")
    keep = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    left = torch.arange(len(gaussians), device=gaussians.device)  # not kept by any camera so far
    points = gaussians.means.detach().float()
    radius = reach * gaussians.scales.detach().float().amax(dim=1)
    cameras = cameras.to(gaussians.device, torch.float32)
    world_to_camera = cameras.world_to_camera
    for view in range(len(cameras)):
        check_stop(should_stop)
        local = points @ world_to_camera[view, :3, :3].T + world_to_camera[view, :3, 3]
        near = local.norm(dim=1) <= surroundings
        near |= _in_sight(local, radius, cameras.intrinsics[view], cameras.width, cameras.height)
        keep[left[near]] = True
        left, points, radius = left[~near], points[~near], radius[~near]
        if progress is not None:
            progress(view + 1, len(cameras))
    return keep


def _in_sight(local: Tensor, reach: Tensor, intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Whether points [N, 3] in camera axes lie in front and at most ``reach`` [N] outside of the picture's edges."""
    x, y, z = local.unbind(dim=1)
    fx, fy, cx, cy = intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    inside = z > -reach
    for along, focal, edge in ((x, fx, cx), (-x, fx, width - cx), (y, fy, cy), (-y, fy, height - cy)):
        # The plane through the camera's center and one edge of the picture; positive on the picture's side.
        inside &= (along * focal + z * edge) / (focal**2 + edge**2) ** 0.5 > -reach
    return inside
