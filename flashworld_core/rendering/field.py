"""Rendering fields: rays through a cube, sampled evenly and then where something is.

The procedure is that of the EG3D family of renderers, as VFusion3D was trained with it. Its random draws are arguments:
the same draws give the same image, in chunks of any size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import Cameras
from ..errors import check_stop
from ..fields import OUTSIDE, Field

COARSE = FINE = 64  # samples of a ray
RAYS_PER_CHUNK = 2048
_FLOOR = 0.01  # of the weights that fine samples are drawn by: no part of a ray goes without
_TINY = 1e-5


@dataclasses.dataclass(frozen=True)
class FieldViews:
    """Images of a field.

    Attributes:
        rgb: [V, H, W, 3], on white, in display values.
        depth: [V, H, W], distance along the ray in the field's units.
        alpha: [V, H, W] in [0, 1].
    """

    rgb: Tensor
    depth: Tensor
    alpha: Tensor


@dataclasses.dataclass(frozen=True)
class RayDraws:
    """Uniform draws in [0, 1) that place the samples of R rays.

    Attributes:
        coarse: [R, coarse samples].
        fine: [R, fine samples].
    """

    coarse: Tensor
    fine: Tensor

    @classmethod
    def seeded(cls, rays: int, seed: int = 0, coarse: int = COARSE, fine: int = FINE) -> RayDraws:
        """Draw for ``rays`` rays, on the CPU: the same numbers on every device."""
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.rand(rays, coarse, generator=generator), torch.rand(rays, fine, generator=generator))


def render_field(
    field: Field,
    cameras: Cameras,
    *,
    draws: Callable[[int], RayDraws] | None = None,
    seed: int = 0,
    rays_per_chunk: int = RAYS_PER_CHUNK,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FieldViews:
    """Render a field from cameras in the world.

    Args:
        field: what to render.
        cameras: V views.
        draws: ``draws(view)``; None: `RayDraws.seeded` with ``seed``, alike for every view, so that what noise there is
            does not move in a video.
        rays_per_chunk: rays in work together; changes time and memory, not the image.
        progress: called as ``progress(chunks done, chunks)``.
        should_stop: asked before every chunk.

    Returns:
        The views on the CPU.

    Raises:
        Cancelled: ``should_stop`` answered True.
    """
    rotation = field.to_world.to("cpu", torch.float64).T
    rays = cameras.height * cameras.width
    per_view = -(-rays // rays_per_chunk)
    views = []
    for view in range(len(cameras)):
        origins, directions = camera_rays(cameras[view])
        drawn = RayDraws.seeded(rays, seed) if draws is None else draws(view)

        def advance(done: int, view: int = view) -> None:
            check_stop(should_stop)
            if progress is not None:
                progress(view * per_view + done, len(cameras) * per_view)

        views.append(
            render_rays(
                field,
                *((origins[0] @ rotation.T).float(), (directions[0] @ rotation.T).float()),
                drawn,
                rays_per_chunk=rays_per_chunk,
                advance=advance,
            )
        )
    size = (len(cameras), cameras.height, cameras.width)
    rgb, depth, alpha = (torch.stack(parts).cpu() for parts in zip(*views, strict=True))
    return FieldViews(rgb.view(*size, 3), depth.view(size), alpha.view(size))


def camera_rays(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Origins and unit directions, [V, H W, 3] float64, through the pixels' centers, row by row."""
    c2w, k = cameras.camera_to_world.double(), cameras.intrinsics.double()
    y, x = torch.meshgrid(
        torch.arange(cameras.height, dtype=torch.float64) + 0.5,
        torch.arange(cameras.width, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(-1, 3).to(k.device)
    in_camera = pixels @ torch.linalg.inv(k).transpose(1, 2)
    directions = F.normalize(in_camera @ c2w[:, :3, :3].transpose(1, 2), dim=-1)
    return c2w[:, None, :3, 3].expand_as(directions), directions


def render_rays(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    draws: RayDraws,
    *,
    rays_per_chunk: int = RAYS_PER_CHUNK,
    behind: bool = False,
    advance: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render rays in the field's axes.

    Rays rendered together share what rays that miss the cube get, and the range that depth is clamped to: both are
    the whole call's, whatever the chunks.

    Args:
        field: what to render.
        origins, directions: [R, 3] float32; unit directions.
        draws: of R rays.
        behind: cameras inside the cube also see what is behind them. Off, rays begin at the camera; on is how the
            published renderer has it, whose cameras all stand outside.
        advance: called with the number of chunks done, 0 first.

    Returns:
        rgb [R, 3] on white, depth [R], alpha [R], on the field's device.
    """
    device = field.device
    origins, directions = origins.to(device), directions.to(device)
    near, far = ray_limits(origins, directions, behind)
    parts, low, high = [], [], []
    for number, start in enumerate(range(0, len(origins), rays_per_chunk)):
        if advance is not None:
            advance(number)
        chunk = slice(start, start + rays_per_chunk)
        chunk_draws = RayDraws(draws.coarse[chunk].to(device), draws.fine[chunk].to(device))
        rgb, depth, alpha, t = _march(field, origins[chunk], directions[chunk], near[chunk], far[chunk], chunk_draws)
        parts.append((rgb, depth, alpha))
        low.append(t[:, 0].min())
        high.append(t[:, -1].max())
    if advance is not None:
        advance(len(parts))
    rgb, depth, alpha = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    depth = depth.nan_to_num(nan=float("inf")).clamp(torch.stack(low).min(), torch.stack(high).max())
    return rgb + (1 - alpha)[:, None], depth, alpha


def ray_limits(origins: Tensor, directions: Tensor, behind: bool = False) -> tuple[Tensor, Tensor]:
    """Where rays [R, 3] enter and leave the cube [-1, 1]^3, as distances [R].

    Those that miss it go from the nearest to the farthest entry of all others, which keeps their samples outside.
    """
    inverse = 1 / directions
    a, b = (-1 - origins) * inverse, (1 - origins) * inverse
    near, far = torch.minimum(a, b).amax(dim=1), torch.maximum(a, b).amin(dim=1)
    if not behind:
        near = near.clamp_min(0)
    hit = far > near
    if not bool(hit.any()):
        return torch.full_like(near, -1), torch.full_like(far, -2)
    entries = near[hit]
    return torch.where(hit, near, entries.min()), torch.where(hit, far, entries.max())


def _march(field: Field, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, draws: RayDraws):
    """rgb without background, depth (NaN where nothing is), alpha; and all samples' distances [R, S], rising."""
    count = draws.coarse.shape[1]
    step = ((far - near) / max(count - 1, 1))[:, None]
    t = near[:, None] + torch.arange(count, device=near.device) * step + draws.coarse * step
    raw, rgb = _query(field, origins, directions, t)
    weights = _weights(field, raw, t)[0]
    fine = importance_samples(t, weights, draws.fine)
    fine_raw, fine_rgb = _query(field, origins, directions, fine)
    t, order = torch.sort(torch.cat([t, fine], dim=1), dim=1)
    raw = torch.cat([raw, fine_raw], dim=1).gather(1, order)
    rgb = torch.cat([rgb, fine_rgb], dim=1).gather(1, order[..., None].expand(-1, -1, 3))
    weights, middles = _weights(field, raw, t)
    alpha = weights.sum(dim=1)
    # The color between two samples is their mean, so a sample counts with half of both weights beside it.
    half = 0.5 * (F.pad(weights, (1, 0)) + F.pad(weights, (0, 1)))
    color = (half[:, None] @ rgb)[:, 0]
    return color, (weights * middles).sum(dim=1) / alpha, alpha, t


def _query(field: Field, origins: Tensor, directions: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Raw density [R, S] and rgb [R, S, 3]; beyond the cube `OUTSIDE` and black, without asking the field."""
    points = (origins[:, None] + t[..., None] * directions[:, None]).flatten(0, 1)
    inside = (points.abs() <= 1).all(dim=1)
    raw, rgb = points.new_full((len(points),), OUTSIDE), torch.zeros_like(points)
    if bool(inside.all()):
        raw, rgb = field.query(points)
    elif bool(inside.any()):
        raw[inside], rgb[inside] = field.query(points[inside])
    return raw.view(t.shape), rgb.view(*t.shape, 3)


def _weights(field: Field, raw: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """[R, S - 1] share of each interval in a ray's color, and the intervals' middles."""
    density = field.activate(0.5 * (raw[:, :-1] + raw[:, 1:]))
    alpha = 1 - torch.exp(-density * (t[:, 1:] - t[:, :-1]))
    passed = torch.cumprod(1 - alpha + 1e-10, dim=1)
    return alpha * F.pad(passed[:, :-1], (1, 0), value=1.0), 0.5 * (t[:, :-1] + t[:, 1:])


def importance_samples(t: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Draw distances where weights are large.

    Args:
        t: [R, S] coarse samples, rising.
        weights: [R, S - 1] of the intervals between them.
        draws: [R, F] uniform.

    Returns:
        [R, F] by the inverse of the distribution of the widened weights over the middles of the intervals.
    """
    wide = F.max_pool1d(weights[:, None], 2, 1, padding=1)
    wide = F.avg_pool1d(wide, 2, 1)[:, 0] + _FLOOR
    wide = wide[:, 1:-1] + _TINY
    bins = 0.5 * (t[:, :-1] + t[:, 1:])
    shares = F.pad(torch.cumsum(wide / wide.sum(dim=1, keepdim=True), dim=1), (1, 0))
    above = torch.searchsorted(shares, draws.contiguous(), right=True)
    below, above = (above - 1).clamp_min(0), above.clamp_max(shares.shape[1] - 1)
    first, last = shares.gather(1, below), shares.gather(1, above)
    width = last - first
    width = torch.where(width < _TINY, torch.ones_like(width), width)
    start, end = bins.gather(1, below), bins.gather(1, above)
    return start + (draws - first) / width * (end - start)
