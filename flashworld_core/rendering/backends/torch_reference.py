"""Reference rasterizer in plain torch: exact, differentiable, any device and float dtype.

The math every backend has to reproduce (3D Gaussian Splatting with gsplat's "classic" semantics):

- Sigma2D = J R S S^T R^T J^T + eps2d I. J is the Jacobian of the perspective projection at the mean; inside J only,
  x/z and y/z are clamped to the field of view widened by 0.15 image sizes on each side.
- color = max(0, 0.5 + SH(direction from the camera center to the mean)).
- front to back, by camera z, equal depths in index order: alpha = min(0.999, opacity * exp(-q)) with
  q = 1/2 d^T Sigma2D^-1 d at the pixel center; skipped below 1/255; a pixel stops before the Gaussian that would
  bring its transmittance to 1e-4 or less; what transmittance remains shows the background.

It composites dense [tiles, list, pixels] blocks of small tiles, so that it is also a bearable renderer on machines
without numba.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...sh import evaluate_sh
from ..constants import ALPHA_MAX, ALPHA_MIN, JACOBIAN_MARGIN, LOW_PASS, TRANSMITTANCE_MIN

_TILE = 8  # pixels; small tiles waste fewer pixel-Gaussian pairs
_SEGMENT = 128  # list entries composited at once; saturated tiles stop between segments
_BLOCK = 32  # tiles composited at once


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    *,
    background: Tensor,
    near: float,
    far: float,
    sh_degree: int,
    eps2d: float = LOW_PASS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render V views. Differentiable with respect to the five Gaussian tensors and the background.

    Args:
        means: [N, 3] world units.
        quats: [N, 4] wxyz, any length (a zero quaternion is the identity).
        scales: [N, 3] standard deviations, world units.
        opacities: [N] in [0, 1].
        sh: [N, K, 3] coefficients, K >= (sh_degree + 1)^2.
        world_to_camera: [V, 4, 4] rigid, OpenCV axes.
        intrinsics: [V, 3, 3] in pixels.
        width, height: image size in pixels.
        background: [V, 3].
        near, far: Gaussians outside near < z < far are dropped, world units.
        sh_degree: bands to use, 0..3.
        eps2d: added to the diagonal of the projected covariance, pixels^2.

    Returns:
        rgb [V, H, W, 3], depth [V, H, W] = sum of weight * z (background adds nothing), alpha [V, H, W].
    """
    views = [
        _rasterize_view(means, quats, scales, opacities, sh, view, k, width, height, bg, near, far, sh_degree, eps2d)
        for view, k, bg in zip(world_to_camera, intrinsics, background, strict=True)
    ]
    if not views:
        return (means.new_zeros(0, height, width, 3), *(means.new_zeros(0, height, width) for _ in range(2)))
    rgb, depth, alpha = zip(*views, strict=True)
    return torch.stack(rgb), torch.stack(depth), torch.stack(alpha)


def quats_to_rotations(quats: Tensor) -> Tensor:
    """[..., 3, 3] rotation matrices of quaternions [..., 4] wxyz of any length; zero gives the identity."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _project(means, quats, scales, view, k, width, height, eps2d):
    """Screen means [N, 2] in pixels, covariances (xx, xy, yy) [N, 3], inverses (a, b, c) [N, 3], camera z [N]."""
    camera = means @ view[:3, :3].T + view[:3, 3]
    x, y, z = camera.unbind(-1)
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    mx, my = JACOBIAN_MARGIN * width, JACOBIAN_MARGIN * height
    ux = (x / z).clamp(-(cx + mx) / fx, (width - cx + mx) / fx)
    uy = (y / z).clamp(-(cy + my) / fy, (height - cy + my) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * ux / z, zero, fy / z, -fy * uy / z], -1).unflatten(-1, (2, 3))
    root = jacobian @ view[:3, :3] @ (quats_to_rotations(quats) * scales[:, None, :])  # [N, 2, 3]
    covariance = root @ root.transpose(1, 2)
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    # The determinant without eps2d is |row0 x row1|^2: never negative, unlike xx * yy - xy^2 in float32.
    det = torch.linalg.cross(root[:, 0], root[:, 1]).square().sum(-1) + eps2d * (xx + yy) + eps2d * eps2d
    xx, yy = xx + eps2d, yy + eps2d
    screen = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return screen, torch.stack([xx, xy, yy], -1), torch.stack([yy, -xy, xx], -1) / det[:, None], z


def _rasterize_view(means, quats, scales, opacities, sh, view, k, width, height, bg, near, far, sh_degree, eps2d):
    view, k, bg = view.to(means.dtype), k.to(means.dtype), bg.to(means.dtype)
    with torch.no_grad():
        z = means @ view[2, :3] + view[2, 3]
        kept = ((z > near) & (z < far) & (opacities >= ALPHA_MIN)).nonzero()[:, 0]
        kept = kept[torch.argsort(z[kept], stable=True)]
    means, quats, scales, opacities, sh = (t[kept] for t in (means, quats, scales, opacities, sh))
    screen, covariance, conic, z = _project(means, quats, scales, view, k, width, height, eps2d)
    center = -(view[:3, :3].T @ view[:3, 3])
    colors = evaluate_sh(sh, torch.nn.functional.normalize(means - center, dim=-1), sh_degree)

    tiles_x, tiles_y = -(-width // _TILE), -(-height // _TILE)
    with torch.no_grad():
        entries, counts = _tile_lists(screen, covariance, opacities, tiles_x, tiles_y)
    # One row per Gaussian, and a last one of opacity 0 that pads the lists.
    table = torch.cat([screen, conic, opacities[:, None], colors, z[:, None]], -1)
    table = torch.cat([table, torch.zeros_like(table[:1]) if len(table) else table.new_zeros(1, 10)])
    tiles = _composite(table, entries, counts, tiles_x)  # [tiles, 5, pixels]: r, g, b, depth, alpha
    image = tiles.view(tiles_y, tiles_x, 5, _TILE, _TILE).permute(0, 3, 1, 4, 2)
    image = image.reshape(tiles_y * _TILE, tiles_x * _TILE, 5)[:height, :width]
    rgb, depth, alpha = image[..., :3], image[..., 3], image[..., 4]
    return rgb + (1 - alpha[..., None]) * bg, depth, alpha


def _tile_lists(screen, covariance, opacities, tiles_x, tiles_y):
    """For each tile the Gaussians that may reach alpha 1/255 in it, front to back: flat indices and counts [tiles]."""
    # alpha >= 1/255 needs q <= log(255 opacity): an ellipse of half extents sqrt(2 q Sigma_ii), plus rounding.
    q_max = (opacities * (1 / ALPHA_MIN)).log().clamp_min(0)
    extent = (2 * q_max[:, None] * covariance[:, [0, 2]]).sqrt() * 1.0001 + 0.01
    limit = torch.tensor([tiles_x, tiles_y], device=screen.device)
    first = torch.minimum(((screen - extent) / _TILE).floor().clamp_min(0), limit).long()
    last = torch.minimum(((screen + extent) / _TILE).floor().clamp_min(-1) + 1, limit).long()
    size = (last - first).clamp_min(0)
    per_gaussian = size.prod(-1)
    owner = torch.repeat_interleave(per_gaussian)
    local = torch.arange(len(owner), device=screen.device) - (per_gaussian.cumsum(0) - per_gaussian)[owner]
    tile = (first[owner, 1] + local // size[owner, 0]) * tiles_x + first[owner, 0] + local % size[owner, 0]
    order = torch.argsort(tile, stable=True)
    return owner[order], torch.bincount(tile, minlength=tiles_x * tiles_y)


def _composite(table, entries, counts, tiles_x):
    starts = counts.cumsum(0) - counts
    by_length = torch.argsort(counts, descending=True, stable=True)  # neighbors in a block pad little
    lengths = counts[by_length].tolist()
    differentiable = torch.is_grad_enabled() and table.requires_grad
    blocks = []
    for begin in range(0, len(lengths), _BLOCK):
        tiles = by_length[begin : begin + _BLOCK]
        longest = lengths[begin]
        if longest == 0:
            blocks.append(table.new_zeros(len(lengths) - begin, 5, _TILE * _TILE))
            break
        within = torch.arange(longest, device=table.device)
        index = (starts[tiles, None] + within).clamp_max(len(entries) - 1)
        index = torch.where(within < counts[tiles, None], entries[index], len(table) - 1)
        origin = torch.stack([tiles % tiles_x, tiles // tiles_x], -1) * _TILE
        arguments = (table, index, origin.to(table.dtype))
        # Checkpointing keeps one block's dense intermediates alive in the backward pass instead of all of them.
        block = (
            checkpoint(_composite_block, *arguments, use_reentrant=False)
            if differentiable
            else _composite_block(*arguments)
        )
        blocks.append(block)
    out = torch.cat(blocks)
    return out[torch.argsort(by_length)]


def _composite_block(table, index, origin):
    """[B, 5, pixels] (r, g, b, depth, alpha) of B tiles with lists ``index`` [B, L] and corners ``origin`` [B, 2]."""
    pixel = torch.arange(_TILE, device=table.device, dtype=table.dtype) + 0.5
    transmittance = table.new_ones(len(index), 1, _TILE * _TILE)
    out = table.new_zeros(len(index), 5, _TILE * _TILE)
    for begin in range(0, index.shape[1], _SEGMENT):
        rows = table[index[:, begin : begin + _SEGMENT]]  # [B, L, 10]
        x, y, a, b, c, opacity, red, green, blue, z = rows.unbind(-1)
        dx = (pixel + (origin[:, None, 0] - x)[..., None])[:, :, None, :]  # [B, L, 1, TILE]
        dy = (pixel + (origin[:, None, 1] - y)[..., None])[:, :, :, None]  # [B, L, TILE, 1]
        a, b, c, opacity = (t[:, :, None, None] for t in (a, b, c, opacity))
        negative_q = (-0.5 * a * dx * dx) + (-0.5 * c * dy * dy) - (b * dy) * dx
        alpha = (opacity * negative_q.exp()).clamp_max(ALPHA_MAX)
        alpha = torch.where((alpha >= ALPHA_MIN) & (negative_q <= 0), alpha, 0).flatten(2)
        after = transmittance * torch.cumprod(1 - alpha, 1)
        before = torch.cat([transmittance, after[:, :-1]], 1)
        # `after` never grows along the list: once it is at the limit, the pixel has stopped for good.
        weight = torch.where(after > TRANSMITTANCE_MIN, alpha * before, 0)
        out = out + torch.stack([red, green, blue, z, torch.ones_like(z)], 1) @ weight
        transmittance = after[:, -1:]
        if not torch.any(transmittance > TRANSMITTANCE_MIN):
            break
    return out


def bytes_per_view(gaussians: int, width: int, height: int, coefficients: int) -> int:
    """Rough peak of one view in bytes (float32), for planning."""
    per_gaussian = 4 * (14 + 3 * coefficients + 60)
    return gaussians * per_gaussian + 4 * 5 * width * height + 8 * 4 * _BLOCK * _SEGMENT * _TILE * _TILE
