"""Measure scenes: validity, extent, clip planes, and a camera that frames one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError
from ..gaussians import SCENE_SCALE, Gaussians, positive_number
from ..geometry import intrinsics_from_vertical_fov, look_at


def finite_mask(gaussians: Gaussians) -> Tensor:
    """[N] bool: every number of the Gaussian is finite."""
    mask = torch.isfinite(gaussians.opacities)
    for tensor in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.sh.flatten(1)):
        mask &= torch.isfinite(tensor).all(dim=1)
    return mask


def extent(gaussians: Gaussians) -> float:
    """How far the scene reaches from its middle, in world units: the 90th percentile over its Gaussians, so that a few
    stray ones do not count. 0 for a scene in one point or without Gaussians."""
    means = gaussians.means.detach()
    if not len(means):
        return 0.0
    means = means[:: max(1, len(means) // 10_000)].double()  # every rendering asks: a share of its time, not a quarter
    return float((means - means.nanmedian(dim=0).values).norm(dim=1).nanquantile(0.9))


def oversized_warning(gaussians: Gaussians) -> str | None:
    """A sentence for a scene nearly all of whose Gaussians are larger than itself, as in no real one; else None.

    Files that store scales as lengths where logarithms belong come out like this.
    """
    size = extent(gaussians)
    if len(gaussians) < 100 or not size > 0:
        return None
    some = gaussians.scales.detach()[:: max(1, len(gaussians) // 100_000)].amax(dim=1)
    share = float((some > 0.5 * size).float().mean())
    if share < 0.9:
        return None
    return (
        f"{share:.0%} of the Gaussians are larger than the whole scene, so it shows as fog: its file seems to hold "
        "scales as lengths where the format wants their logarithms; export it anew, or take the logarithms of scale_*."
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
        ((g.quats.float().norm(dim=1) - 1).abs() <= 4e-3, "quats must have unit length", "normalize them"),
    ]
    for good, rule, remedy in rules:
        bad = int((~good).sum())
        if bad:
            first = int((~good).nonzero()[0, 0])
            raise FlashWorldError(f"{name}: {rule}; {bad} of {len(g)} are not, the first is number {first}. {remedy}.")


_NEAR, _FAR = 0.01, 1000.0  # of a scene about which nothing is known; near also per unit of a generated scene's scale
_FRAMING_TILT, _FRAMING_MARGIN = 15.0, 1.3  # degrees; times the distance that just takes nine tenths in


def clip_planes(gaussians: Gaussians, cameras: Cameras) -> tuple[float, float]:
    """Near and far planes, in world units, that suit a scene of any size.

    Near is a hundredth of a generated scene's scale, as it was trained, or a thousandth of the extent of any other
    scene; far is behind the last Gaussian.
    """
    if not len(gaussians) or not len(cameras):
        return _NEAR, _FAR
    low, high = (corner.double() for corner in gaussians.means.detach().aminmax(dim=0))
    corner = torch.maximum((cameras.positions.to(low) - low).abs(), (cameras.positions.to(low) - high).abs())
    farthest = float(corner.norm(dim=1).max())
    if not math.isfinite(farthest):
        return _NEAR, _FAR
    scale = positive_number(gaussians.metadata, SCENE_SCALE)
    near = 0.001 * extent(gaussians) if scale is None else _NEAR * scale
    near = near if near > 0 else _NEAR
    return near, max(1.01 * farthest, 2 * near)


def framing_camera(gaussians: Gaussians, width: int, height: int, vertical_fov_degrees: float = 40.0) -> Cameras:
    """One camera that takes in the scene, but for a few strays, from the front and a little above."""
    middle = gaussians.means.detach().double().nanmedian(dim=0).values.cpu()
    half = math.atan(math.tan(math.radians(vertical_fov_degrees) / 2) * min(1.0, width / height))
    distance = _FRAMING_MARGIN * max(extent(gaussians), 1e-6) / math.sin(half)
    above, ahead = math.sin(math.radians(_FRAMING_TILT)), math.cos(math.radians(_FRAMING_TILT))
    c2w = look_at(middle - distance * torch.tensor([0.0, above, ahead], dtype=torch.float64), middle)
    intrinsics = intrinsics_from_vertical_fov(vertical_fov_degrees, width, height)
    return Cameras(c2w[None].float(), intrinsics[None].float(), width, height)
