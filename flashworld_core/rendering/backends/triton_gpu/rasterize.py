"""The rasterizer's entry: kernel launches in order, and what carries over to the backward pass.

Importing this module raises ImportError where there is no GPU, no Triton, or Triton cannot compile its kernels, which
is how `render` learns to take the next backend. With TRITON_INTERPRET=1 the kernels run on CPU tensors, slowly: that is
how they are tested.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_GPUS = [name for name in ("cuda", "xpu") if hasattr(torch, name) and getattr(torch, name).is_available()]
if not (_GPUS or INTERPRETED):
    raise ImportError("no GPU is available")

import triton  # noqa: E402

from ....errors import FlashWorldError, is_out_of_memory  # noqa: E402
from ...constants import LOW_PASS  # noqa: E402
from .. import BackendFailed  # noqa: E402
from .composite import composite  # noqa: E402
from .composite_gradients import composite_gradients  # noqa: E402
from .gaussian_gradients import FEW, color_gradients, shape_gradients, sum_few_rows, sum_many_rows  # noqa: E402
from .launch import (  # noqa: E402, F401
    BLOCK,
    BLOCK_WARPS,
    CHUNK,
    ROW_BLOCK,
    TILE,
    bytes_per_view,
    capability_of,
    compiler_options,
    current,
    tile_warps,
)
from .layout import RECORD, ROW  # noqa: E402
from .lists import Lists, build_lists, check_entries  # noqa: E402
from .project import project  # noqa: E402


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
    """As `torch_reference.rasterize`, in float32 on a GPU: the tensors' own, or the current one.

    Differentiable in the five Gaussian tensors; no gradient flows to cameras or background. The same input gives the
    same bits on every run.

    Raises:
        FlashWorldError: more list entries than 32-bit places can number (lower ``views_per_chunk``).
        BackendFailed: a kernel of this call cannot be compiled here. Each degree has kernels of its own, which are
            compiled when it first comes.
    """
    device = _device(means)
    gaussians = [t.to(device, torch.float32).contiguous() for t in (means, quats, scales, opacities, sh)]
    w2c = world_to_camera.detach().to(device, torch.float32)
    k = intrinsics.detach().to(device, torch.float32)
    cameras = torch.cat(
        [
            w2c[:, :3].reshape(-1, 12),
            torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], 1),
            -(w2c[:, :3, :3].transpose(1, 2) @ w2c[:, :3, 3:])[..., 0],
        ],
        1,
    )
    settings = _Settings(
        cameras=cameras,
        backgrounds=background.detach().to(device, torch.float32).contiguous(),
        size=(int(width), int(height)),
        planes=(float(near), float(far)),
        degree=int(sh_degree),
        eps2d=float(eps2d),
    )
    if torch.is_grad_enabled() and any(t.requires_grad for t in gaussians):
        if settings.degree not in _tried:
            _tried.add(settings.degree)
            with _compiling():
                draw_one_pixel(settings.degree)  # backward too, which could not be replaced once it is asked for
        return _Rasterize.apply(settings, *gaussians)
    with _compiling():
        return _forward(settings, gaussians, keep=False)[0]


_tried: set[int] = set()  # degrees whose kernels, those of gradients included, have run


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Turn whatever the compiler, the driver or the build of the launcher raises into `BackendFailed`."""
    try:
        yield
    except (FlashWorldError, BackendFailed):
        raise
    except Exception as error:
        # A shortage is for whoever manages memory; after an error of the device itself nothing there can be trusted.
        if is_out_of_memory(error) or type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error):
            raise
        raise BackendFailed(_reason(error)) from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclasses.dataclass(frozen=True)
class _Settings:
    cameras: Tensor  # [V, CAMERA]
    backgrounds: Tensor  # [V, 3]
    size: tuple[int, int]
    planes: tuple[float, float]
    degree: int
    eps2d: float

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles across and down."""
        return triton.cdiv(self.size[0], TILE), triton.cdiv(self.size[1], TILE)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What the backward pass needs besides inputs and images."""

    records: Tensor  # [V, N, RECORD]
    counts: Tensor  # [V, N]
    lists: Lists


def _forward(settings: _Settings, gaussians: list[Tensor], keep: bool):
    means, sh = gaussians[0], gaussians[4]
    device, n, views = means.device, len(means), len(settings.cameras)
    (width, height), (tiles_x, tiles_y) = settings.size, settings.grid
    rgb = torch.empty(views, height, width, 3, device=device)
    depth, alpha = torch.empty(2, views, height, width, device=device)
    if views == 0 or n == 0:
        rgb.copy_(settings.backgrounds[:, None, None, :].expand_as(rgb))
        return (rgb, depth.zero_(), alpha.zero_()), None
    check_entries(views, views * n)
    records = torch.empty(views, n, RECORD, device=device)
    depths = torch.empty(views, n, device=device)
    counts = torch.empty(views, n, dtype=torch.int32, device=device)
    capability = capability_of(device)
    wide = compiler_options(BLOCK_WARPS, capability)
    with current(device):
        project[(triton.cdiv(n, BLOCK),)](
            *(*gaussians, settings.cameras, records, depths, counts),
            *(n, views, width, height, sh.shape[1], *settings.planes, settings.eps2d),
            DEGREE=settings.degree, TILE=TILE, BLOCK=BLOCK, **wide,
        )  # fmt: skip
        lists = build_lists(records, depths, counts, width, height, wide, keep)
        del depths
        composite[(len(lists.ranges),)](
            *(lists.ranges, lists.ids, records, settings.backgrounds, rgb, depth, alpha),
            *(width, height, tiles_x, tiles_y),
            TILE=TILE, CHUNK=CHUNK, **compiler_options(tile_warps(capability), capability, tight=True),
        )  # fmt: skip
    return (rgb, depth, alpha), _Kept(records, counts, lists) if keep else None


def _backward(settings: _Settings, kept: _Kept, gaussians, images, gradients) -> list[Tensor]:
    means, quats, scales, opacities, sh = gaussians
    device, n, views = means.device, len(means), len(settings.cameras)
    (width, height), (tiles_x, tiles_y) = settings.size, settings.grid
    records, counts, lists = kept.records, kept.counts, kept.lists
    results = [torch.empty_like(t) for t in gaussians[:4]]
    d_sh = torch.zeros_like(sh)
    directions = torch.empty(3, n, 3, device=device)
    # A tile that stops early leaves the rest of its rows at 0.
    rows = torch.zeros(max(1, len(lists.ids)), ROW, device=device)
    starts = torch.empty_like(lists.first).scatter_(1, lists.order, lists.first)
    blocks = triton.cdiv(n, BLOCK)
    capability = capability_of(device)
    wide = compiler_options(BLOCK_WARPS, capability)
    with current(device):
        composite_gradients[(len(lists.ranges),)](
            *(lists.ranges, lists.ids, lists.entries, records, *images, *gradients, rows),
            *(width, height, tiles_x, tiles_y),
            TILE=TILE, CHUNK=CHUNK, **compiler_options(tile_warps(capability), capability, tight=True),
        )  # fmt: skip
        sum_few_rows[(triton.cdiv(views * n, BLOCK),)](starts, counts, rows, views * n, BLOCK=BLOCK, **wide)
        many = (counts.view(-1) > FEW).nonzero()[:, 0]
        if len(many):
            sum_many_rows[(len(many),)](
                many, starts, counts, rows, BLOCK=ROW_BLOCK, **compiler_options(tile_warps(capability), capability)
            )
        color_gradients[(blocks, 3)](
            *(means, sh, settings.cameras, records, starts, counts, rows, d_sh, directions),
            *(n, views, sh.shape[1]), DEGREE=settings.degree, BLOCK=BLOCK, **wide,
        )  # fmt: skip
        shape_gradients[(blocks,)](
            *(means, quats, scales, opacities, settings.cameras, records, starts, counts, rows, directions, *results),
            *(n, views, width, height), BLOCK=BLOCK, **compiler_options(BLOCK_WARPS, capability, tight=True),
        )  # fmt: skip
    return [*results, d_sh]


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, *gaussians):
        images, kept = _forward(settings, list(gaussians), keep=True)
        ctx.settings, ctx.kept = settings, kept
        ctx.save_for_backward(*gaussians, *images)
        return images

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        saved = ctx.saved_tensors
        gaussians, images = saved[:5], saved[5:]
        if ctx.kept is None:  # nothing was drawn
            return None, *(torch.zeros_like(t) for t in gaussians)
        gradients = [g.to(torch.float32).contiguous() for g in gradients]
        return None, *_backward(ctx.settings, ctx.kept, gaussians, images, gradients)


def _device(means: Tensor) -> torch.device:
    if means.device.type in _GPUS or INTERPRETED:
        return means.device
    return torch.device(_GPUS[0], getattr(torch, _GPUS[0]).current_device())


def free_bytes(device: torch.device) -> int:
    """Memory a call could still take: what the driver has left and what torch holds but does not use."""
    backend = getattr(torch, device.type if device.type in _GPUS else _GPUS[0])
    device = device if device.type in _GPUS else None
    free, _ = backend.mem_get_info(device)
    return free + backend.memory_reserved(device) - backend.memory_allocated(device)


def draw_one_pixel(degree: int) -> None:
    """Compile every kernel of a degree by drawing one pixel, and its gradients."""
    device = torch.device(_GPUS[0] if _GPUS else "cpu")
    shapes = ((1, 3), (1, 4), (1, 3), (1,), (1, (degree + 1) ** 2, 3))
    one = [torch.ones(shape, device=device).requires_grad_() for shape in shapes]
    camera = torch.eye(4, device=device)[None]
    _tried.add(degree)
    with torch.enable_grad():
        rgb, _, _ = rasterize(
            *one, camera, camera[:, :3, :3], 1, 1, background=torch.zeros(1, 3), near=0.01, far=10.0, sh_degree=degree
        )
        rgb.sum().backward()
        float(one[0].grad.sum())


def _require_kernels() -> None:
    """Draw one pixel as generated scenes are: a machine where that fails is to be found now, not mid-render."""
    try:
        draw_one_pixel(2)
    except Exception as error:  # whatever the compiler, the driver or the build of the launcher raised
        raise ImportError(
            f"Triton {triton.__version__} could not compile or run its kernels here: {_reason(error)}"
        ) from error


if not INTERPRETED:
    _require_kernels()
