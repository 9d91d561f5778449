"""Operations on whole scenes: move, select, join, thin out and check `Gaussians`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import FlashWorldError
from .gaussians import Gaussians
from .sh import with_sh_degree
from .similarity import SCENE_SCALE, similarity_from_matrix, transform, transform_cameras

__all__ = [
    "MERGED_FROM",
    "SCENE_SCALE",
    "budget",
    "crop",
    "extent",
    "finite_mask",
    "importance",
    "merge",
    "prune",
    "similarity_from_matrix",
    "transform",
    "transform_cameras",
    "validate",
]

_MAX_VIEWPOINTS = 64  # of a path; more would change little
MERGED_FROM = "merged_from"  # metadata key: list of the metadata of the scenes that were joined


def finite_mask(gaussians: Gaussians) -> Tensor:
    """[N] bool: every number of the Gaussian is finite."""
    mask = torch.isfinite(gaussians.opacities)
    for tensor in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.sh.flatten(1)):
        mask &= torch.isfinite(tensor).all(dim=1)
    return mask


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
    """Keep the Gaussians whose centre lies in an axis-aligned box, faces included (``invert``: outside of it).

    Args:
        gaussians: N Gaussians.
        minimum: 3 numbers, the corner with the smallest coordinates, in world units.
        maximum: 3 numbers, the corner with the largest; infinities leave a side open.

    Raises:
        FlashWorldError: corners that are not 3 numbers each, or a minimum above its maximum.
    """
    low, high = (_vector("crop", name, v) for name, v in (("minimum", minimum), ("maximum", maximum)))
    if (low > high).any() or low.isnan().any() or high.isnan().any():
        raise FlashWorldError(f"crop: minimum {low.tolist()} must not exceed maximum {high.tolist()} on any axis.")
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


def extent(gaussians: Gaussians) -> float:
    """How far the scene reaches from its middle, in world units: the 90th percentile over its Gaussians, so that a few
    stray ones do not count. 0 for a scene in one point or without Gaussians."""
    means = gaussians.means.detach()
    if not len(means):
        return 0.0
    means = means[:: max(1, len(means) // 100_000)].double()
    return float((means - means.nanmedian(dim=0).values).norm(dim=1).nanquantile(0.9))


def budget(gaussians: Gaussians, maximum: int, viewpoints: Tensor | None = None) -> Gaussians:
    """Keep at most ``maximum`` Gaussians, the most important ones (`importance`); order is kept, ties go to the first.

    Args:
        viewpoints: [P, 3] where the scene is looked at from, if that is known.

    Raises:
        FlashWorldError: a negative maximum.
    """
    if maximum < 0:
        raise FlashWorldError(f"budget: maximum must be 0 or more, got {maximum}.")
    if len(gaussians) <= maximum:
        return gaussians
    # Invalid ones (NaN) rank last, so they cannot displace a visible one.
    rank = importance(gaussians, viewpoints).nan_to_num(nan=-1.0)
    kept = rank.argsort(descending=True, stable=True)[:maximum].sort().values
    return gaussians[kept]


def merge(scenes: Sequence[Gaussians]) -> Gaussians:
    """Join scenes into one, in the order given.

    The lower spherical-harmonics degrees are filled up with zeros. Tensors come out on the first scene's device in
    the widest dtype. Metadata entries that all scenes share stay; the rest would be wrong for the whole, so each
    scene's own metadata goes to the list ``merged_from``.

    Raises:
        FlashWorldError: no scenes at all.
    """
    scenes = list(scenes)
    if not scenes:
        raise FlashWorldError("merge: give at least one scene.")
    degree = max(scene.sh_degree for scene in scenes)
    device = scenes[0].device

    def join(tensors):
        tensors = list(tensors)
        dtype = tensors[0].dtype
        for tensor in tensors[1:]:
            dtype = torch.promote_types(dtype, tensor.dtype)
        return torch.cat([t.to(device, dtype) for t in tensors])

    return Gaussians(
        join(s.means for s in scenes),
        join(s.quats for s in scenes),
        join(s.scales for s in scenes),
        join(s.opacities for s in scenes),
        join(with_sh_degree(s.sh, degree) for s in scenes),
        _merged_metadata([s.metadata for s in scenes]),
    )


def validate(gaussians: Gaussians, name: str = "validate") -> None:
    """Check what the shapes cannot: finite values, unit quaternions, scales >= 0, opacities in [0, 1].

    Args:
        gaussians: N Gaussians.
        name: whose input it is; opens the message.

    Raises:
        FlashWorldError: the first rule that is broken, with how many Gaussians break it and the first of them.
    """
    g = gaussians
    rules = [
        (torch.isfinite(g.means).all(1), "means must be finite", "prune(...) drops such Gaussians"),
        (torch.isfinite(g.sh.flatten(1)).all(1), "sh must be finite", "prune(...) drops such Gaussians"),
        (
            (g.scales >= 0).all(1) & torch.isfinite(g.scales).all(1),
            "scales must be finite and >= 0",
            "give no logarithms",
        ),
        ((g.opacities >= 0) & (g.opacities <= 1), "opacities must lie in [0, 1]", "give no logits"),
        # NaN fails the comparison. The tolerance lets half precision pass.
        ((g.quats.float().norm(dim=1) - 1).abs() <= 4e-3, "quats must have unit length", "normalise them"),
    ]
    for good, rule, remedy in rules:
        bad = int((~good).sum())
        if bad:
            first = int((~good).nonzero()[0, 0])
            raise FlashWorldError(f"{name}: {rule}; {bad} of {len(g)} are not, the first is number {first}. {remedy}.")


def _select(gaussians: Gaussians, keep: Tensor) -> Gaussians:
    kept = int(keep.sum())
    return gaussians if kept == len(gaussians) else gaussians[keep]


def _vector(function: str, name: str, values: Tensor | Sequence[float]) -> Tensor:
    vector = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if tuple(vector.shape) != (3,):
        raise FlashWorldError(f"{function}: {name} must be 3 numbers, got {list(vector.shape)}.")
    return vector


def _merged_metadata(sources: list[dict]) -> dict:
    if all(source == sources[0] for source in sources):
        return dict(sources[0])
    origins = []
    for source in sources:  # a merge of merges stays one flat list
        origins += source[MERGED_FROM] if isinstance(source.get(MERGED_FROM), list) else [source]
    shared = {
        key: value
        for key, value in sources[0].items()
        if key != MERGED_FROM and all(key in source and source[key] == value for source in sources[1:])
    }
    return {**shared, MERGED_FROM: origins}
