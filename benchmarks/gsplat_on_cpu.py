"""gsplat's own torch implementation of rasterization, made to run without CUDA.

`gsplat.rendering._rasterization` leaves torch in four places, for CUDA kernels that a CPU machine does not have. They
get stand-ins here, vectorized in torch, and nothing else of gsplat changes:

- `isect_tiles` and `isect_offset_encode`: the tile lists (the second is gsplat's own torch version);
- `spherical_harmonics`: gsplat's own torch version;
- `rasterize_to_indices_in_range`: which (pixel, Gaussian) pairs contribute;
- `nerfacc.render_weight_from_alpha`: weights along rays.

Time spent in the stand-ins is counted in `seam_seconds`, so that a benchmark can report it apart.
"""

from __future__ import annotations

import contextlib
import functools
import time

import torch
from torch import Tensor

ALPHA_MIN, ALPHA_MAX, TRANSMITTANCE_MIN = 1.0 / 255.0, 0.999, 1e-4

clock = time.perf_counter
seam_seconds = 0.0


def _counted(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        global seam_seconds
        begin = clock()
        try:
            return function(*args, **kwargs)
        finally:
            seam_seconds += clock() - begin

    return wrapper


@_counted
@torch.no_grad()
def isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height, **_):
    """gsplat's tile lists of one image: tiles per Gaussian [1, N], sorted keys (tile << 32 | depth bits), Gaussians."""
    center, radius = means2d[0] / tile_size, radii[0] / tile_size
    limit = torch.tensor([tile_width, tile_height])
    first = torch.minimum((center - radius).floor().int().clamp_min(0), limit)
    last = torch.minimum((center + radius).ceil().int().clamp_min(0), limit)
    size = (last - first) * (radii[0] > 0).all(-1, keepdim=True)
    count = size.prod(-1)
    owner = torch.repeat_interleave(count)
    local = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
    tile = (first[owner, 1] + local // size[owner, 0]) * tile_width + first[owner, 0] + local % size[owner, 0]
    keys = (tile.long() << 32) | depths[0].contiguous().view(torch.int32)[owner].long()
    keys, order = torch.sort(keys, stable=True)
    return count[None].int(), keys, owner[order].int()


@_counted
@torch.no_grad()
def rasterize_to_indices_in_range(
    range_start,
    range_end,
    transmittances,
    means2d,
    conics,
    opacities,
    width,
    height,
    tile_size,
    isect_offsets,
    flatten_ids,
):
    """The contributing pairs of list blocks range_start..range_end, pixel by pixel and front to back.

    Each list entry is expanded into the pixels of its tile that its ellipse of alpha 1/255 can reach.
    """
    tiles_x = isect_offsets.shape[-1]
    starts = isect_offsets.flatten().long()
    lengths = torch.cat([starts[1:], torch.tensor([len(flatten_ids)])]) - starts
    tile = torch.repeat_interleave(lengths)
    block = (torch.arange(len(tile)) - starts[tile]) // (tile_size * tile_size)
    chosen = (block >= range_start) & (block < range_end)
    tile, gaussian = tile[chosen], flatten_ids[chosen].long()
    center, (a, b, c), opacity = means2d[0, gaussian], conics[0, gaussian].unbind(-1), opacities[0, gaussian]
    reach = 2 * (opacity / ALPHA_MIN).log().clamp_min(0) / (a * c - b * b)
    extent = torch.stack([reach * c, reach * a], -1).sqrt() + 0.02
    corner = torch.stack([tile % tiles_x, tile // tiles_x], -1) * tile_size
    limit = torch.minimum(corner + tile_size, torch.tensor([width, height]))
    first = torch.maximum((center - extent - 0.5).ceil().int(), corner.int())
    size = (torch.minimum((center + extent + 0.5).floor().int(), limit.int()) - first).clamp_min(0)
    count = size.prod(-1)
    owner = torch.repeat_interleave(count)
    local = torch.arange(len(owner), dtype=torch.int32) - (count.cumsum(0) - count).int()[owner]
    columns = size[:, 0][owner]
    row = local // columns
    column = first[:, 0][owner] + (local - row * columns)
    row = first[:, 1][owner] + row
    dx, dy = column + 0.5 - center[:, 0][owner], row + 0.5 - center[:, 1][owner]
    sigma = 0.5 * (a[owner] * dx * dx + c[owner] * dy * dy) + b[owner] * dx * dy
    alpha = (opacity[owner] * torch.exp(-sigma)).clamp_max(ALPHA_MAX)
    seen = ((alpha >= ALPHA_MIN) & (sigma >= 0)).nonzero()[:, 0]
    pixel, order = torch.sort((row * width + column)[seen], stable=True)  # lists are front to back already
    alpha, gaussian = alpha[seen][order], gaussian[owner[seen]][order]
    log_pass, first_of_ray = torch.log1p(-alpha.double()), _ray_starts(pixel)
    passed = log_pass.cumsum(0)
    after = transmittances.flatten()[pixel] * torch.exp(passed - (passed - log_pass)[first_of_ray])
    kept = after > TRANSMITTANCE_MIN
    gaussian, pixel = gaussian[kept], pixel[kept].long()
    return gaussian, pixel, torch.zeros_like(pixel)


def _ray_starts(rays: Tensor) -> Tensor:
    """For each sample, the position of its ray's first sample; equal rays are neighbors."""
    first = torch.ones_like(rays, dtype=torch.bool)
    first[1:] = rays[1:] != rays[:-1]
    return first.nonzero()[:, 0][first.cumsum(0) - 1]


@_counted
def render_weight_from_alpha(alphas: Tensor, ray_indices: Tensor, n_rays: int):
    """weights and transmittances of samples that are grouped by ray, front to back."""
    log_pass = torch.log1p(-alphas.double())
    passed = log_pass.cumsum(0) - log_pass
    transmittance = torch.exp(passed - passed[_ray_starts(ray_indices)]).float()
    return alphas * transmittance, transmittance


@contextlib.contextmanager
def patched_gsplat():
    """gsplat with the stand-ins in place."""
    import gsplat.cuda._torch_impl as torch_impl
    import gsplat.cuda._wrapper as wrapper
    import gsplat.rendering as rendering
    import nerfacc

    def spherical_harmonics(degree, dirs, coeffs, masks=None):
        return torch_impl._spherical_harmonics(degree, dirs, coeffs)

    replacements = [
        (rendering, "isect_tiles", isect_tiles),
        (rendering, "isect_offset_encode", torch_impl._isect_offset_encode),
        (rendering, "spherical_harmonics", spherical_harmonics),
        (wrapper, "rasterize_to_indices_in_range", rasterize_to_indices_in_range),
        (nerfacc, "render_weight_from_alpha", render_weight_from_alpha),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in replacements]
    try:
        for module, name, function in replacements:
            setattr(module, name, function)
        yield rendering
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


def rasterize(
    means, quats, scales, opacities, sh, w2c, k, width, height, *, background, near, far, sh_degree, eps2d=0.3
):
    """One view through gsplat's torch implementation, with our backends' signature."""
    with patched_gsplat() as rendering:
        images, alpha, _ = rendering._rasterization(
            *(means, quats, scales, opacities, sh, w2c, k, width, height),
            near_plane=near,
            far_plane=far,
            eps2d=eps2d,
            sh_degree=sh_degree,
            backgrounds=background,
            render_mode="RGB+D",
        )
    return images[..., :3], images[..., 3], alpha[..., 0]
