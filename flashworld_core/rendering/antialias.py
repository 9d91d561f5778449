"""Opacities for scenes made with an antialiased filter: a footprint that is widened is thinned by as much.

The classic filter adds a constant to every footprint's covariance and leaves the opacity, so what is smaller than a
pixel grows and brightens. Scenes trained with mip-splatting's filter expect that the opacity shrinks by the ratio of
the areas ("Mip-Splatting", equation 10). It differs from view to view, so it cannot be part of the scene.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..gaussians import FILTER, Gaussians
from .backends.torch_reference import quats_to_rotations
from .constants import JACOBIAN_MARGIN


def is_antialiased(gaussians: Gaussians) -> bool:
    """Whether a scene's metadata say that its opacities belong to the antialiased filter."""
    return gaussians.metadata.get(FILTER) == "antialiased"


def thinning(
    means: Tensor, quats: Tensor, scales: Tensor, view: Tensor, k: Tensor, width: int, height: int, low_pass: float
) -> Tensor:
    """[N] factors in (0, 1] of the opacities in one view: sqrt(det S / det(S + low_pass I)),
    S the footprint's covariance.

    The projection is the rasterizers' own (`backends.torch_reference`). Differentiable. What lies behind the camera
    gets some finite number.

    Args:
        means, quats, scales: [N, 3], [N, 4] wxyz, [N, 3] float32.
        view: [4, 4] world to camera.
        k: [3, 3] intrinsics in pixels.
        width, height: pixels.
        low_pass: pixels squared.
    """
    x, y, z = (means @ view[:3, :3].T + view[:3, 3]).unbind(-1)
    z = torch.where(z.abs() < 1e-6, 1e-6, z)
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    mx, my = JACOBIAN_MARGIN * width, JACOBIAN_MARGIN * height
    ux = (x / z).clamp(-(cx + mx) / fx, (width - cx + mx) / fx)
    uy = (y / z).clamp(-(cy + my) / fy, (height - cy + my) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * ux / z, zero, fy / z, -fy * uy / z], -1).unflatten(-1, (2, 3))
    root = jacobian @ view[:3, :3] @ (quats_to_rotations(quats) * scales[:, None, :])  # [N, 2, 3]
    sharp = torch.linalg.cross(root[:, 0], root[:, 1]).square().sum(-1)  # det S, never negative
    trace = root.square().sum((-2, -1))
    # A disc seen from its edge has no area at all; the square root's slope there is infinite.
    return (sharp / (sharp + low_pass * (trace + low_pass))).clamp_min(1e-12).sqrt()
