"""Fast, multi-threaded, differentiable CPU rasterizer on numba (no compiler needed on the user's machine).

Four steps: project every Gaussian of every view and count the tiles it touches; scatter (depth, index) entries into one
list per tile; sort each list and composite it; for gradients, composite once more into one gradient row per
(Gaussian, tile), then reduce the rows per Gaussian and take them back through the projection. Nothing is added
atomically, so the same input gives the same bits on every run and for any number of threads.

Importing this module imports numba; `render` does so on first use. Kernels compile on their first call and are cached
on disk; `warm_up` does it ahead of time, in the background.
"""

from __future__ import annotations

import atexit
import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ....errors import FlashWorldError
from ....text import get_logger
from ...constants import LOW_PASS
from .bounded import composite_in_pieces
from .composite import composite, composite_backward
from .project import CAMERA, GRADIENT, RECORD, TILE, project, project_backward
from .threads import run_ranges
from .tiles import scatter, sort_lists

logger = get_logger(__name__)

_GAUSSIANS_PER_TASK = 16384
_TILES_PER_TASK = 8
_ENTRIES_PER_TASK = 1 << 16  # of a task's lists together, so that a stop is noticed soon
LIST_BYTES = 512 << 20  # what the tiles' lists of one call may take; beyond, they are made and composited in pieces
COUNT_BYTES = 64 << 20  # for counting what falls into each tile of a very large image
GRADIENT_BYTES = 8 << 30  # what lists and gradient rows may take where gradients are wanted: those come whole

_warm_up_lock = threading.Lock()
_warm_up_threads: dict[bool, threading.Thread] = {}  # by whether gradients are included


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
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `torch_reference.rasterize`, in float32 on the CPU, differentiable in the five Gaussian tensors.

    Tensors of another dtype or device are brought over; the results stay on the CPU. No gradient flows to cameras or
    background. Beside records of 56 bytes a Gaussian, a call takes at most `LIST_BYTES`, however large the Gaussians
    are in the picture.

    Args:
        should_stop: asked all the time, by the calling thread; not during a backward pass.

    Raises:
        FlashWorldError: an image whose tiles 16 bits cannot count, or gradients of more than `GRADIENT_BYTES`.
        Cancelled: ``should_stop`` answered True.
    """
    if max(width, height) > TILE * np.iinfo(np.int16).max:  # `render` refuses far smaller ones
        raise FlashWorldError(f"An image of {width}x{height} is too large.")
    gaussians = [t.to("cpu", torch.float32).contiguous() for t in (means, quats, scales, opacities, sh)]
    w2c = world_to_camera.detach().to("cpu", torch.float32)
    k = intrinsics.detach().to("cpu", torch.float32)
    cameras = torch.empty(len(w2c), CAMERA)
    cameras[:, :12] = w2c[:, :3].reshape(-1, 12)
    cameras[:, 12], cameras[:, 13], cameras[:, 14], cameras[:, 15] = k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]
    cameras[:, 16:] = -(w2c[:, :3, :3].transpose(1, 2) @ w2c[:, :3, 3:])[..., 0]
    settings = _Settings(
        cameras=cameras.numpy(),
        backgrounds=background.detach().to("cpu", torch.float32).contiguous().numpy(),
        size=(int(width), int(height)),
        planes=(np.float32(near), np.float32(far)),
        degree=int(sh_degree),
        eps2d=np.float32(eps2d),
        should_stop=should_stop,
    )
    if torch.is_grad_enabled() and any(t.requires_grad for t in gaussians):
        return _Rasterize.apply(settings, *gaussians)
    return _forward(settings, *gaussians, keep_lists=False)[0]


@dataclasses.dataclass(frozen=True)
class _Settings:
    cameras: np.ndarray  # [V, CAMERA]
    backgrounds: np.ndarray  # [V, 3]
    size: tuple[int, int]
    planes: tuple[np.float32, np.float32]
    degree: int
    eps2d: np.float32
    should_stop: Callable[[], bool] | None = None

    def view(self, index: int) -> _Settings:
        one = slice(index, index + 1)
        return dataclasses.replace(self, cameras=self.cameras[one], backgrounds=self.backgrounds[one])


@dataclasses.dataclass(frozen=True)
class _Lists:
    """What compositing works on, kept for the backward pass."""

    records: np.ndarray  # [V, N, RECORD] float32
    rects: np.ndarray  # [V, N, 4] int16
    tile_starts: np.ndarray  # [V * tiles + 1] int64
    entries: np.ndarray  # [E] uint64: depth bits << 32 | Gaussian index, sorted inside each tile


def _forward(settings: _Settings, *gaussians: Tensor, keep_lists: bool):
    """Images, and the lists where they are wanted (``keep_lists``) and so may not be made in pieces."""
    arrays = [t.detach().numpy() for t in gaussians]
    views, n, (width, height) = len(settings.cameras), len(arrays[0]), settings.size
    stop = settings.should_stop
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    tiles = tiles_x * tiles_y
    records = np.empty((views, n, RECORD), np.float32)
    rects = np.empty((views, n, 4), np.int16)
    # A view's Gaussians are cut into parts that count and scatter independently: part p of view v owns counts[v, p].
    parts = max(1, min(-(-n // _GAUSSIANS_PER_TASK), COUNT_BYTES // (8 * views * tiles)) if views else 1)
    step = -(-n // parts)
    counts = np.zeros((views, parts, tiles), np.int64)
    limit = LIST_BYTES // 8
    pairs = [0] * (views * parts)

    def project_part(start, stop):
        for task in range(start, stop):
            v, part = divmod(task, parts)
            pairs[task] = project(
                *(part * step, min(n, (part + 1) * step), *arrays, settings.degree, settings.cameras[v]),
                *(settings.size, settings.planes, settings.eps2d, records[v], rects[v], counts[v, part]),
                limit if sum(pairs) <= limit else 0,  # beyond the limit the counts are not used
            )

    run_ranges(project_part, views * parts, 1, stop)
    total = sum(pairs)
    if keep_lists and total * (8 + 4 * GRADIENT) > GRADIENT_BYTES:
        raise FlashWorldError(
            f"Gradients of this view need {total * (8 + 4 * GRADIENT) / 1e9:.1f} GB, since the Gaussians reach "
            f"{total / max(1, n * views):,.0f} tiles each; use smaller images, fewer views or smaller Gaussians."
        )
    rgb = torch.empty(views, height, width, 3)
    depth, alpha = torch.empty(views, height, width), torch.empty(views, height, width)
    images = rgb.numpy(), depth.numpy(), alpha.numpy()
    if total > limit and not keep_lists:
        del counts
        if views > 1:
            del records, rects
            for v in range(views):
                one = _forward(settings.view(v), *gaussians, keep_lists=False)[0]
                rgb[v], depth[v], alpha[v] = one[0][0], one[1][0], one[2][0]
        else:
            composite_in_pieces(records, rects[0], settings.backgrounds, settings.size, images, limit, stop)
        return (rgb, depth, alpha), None

    # Lists in (view, tile, part) order keep each tile's entries in index order, which makes the depth sort stable.
    by_tile = counts.transpose(0, 2, 1).reshape(-1)
    ends = np.cumsum(by_tile)
    cursors = np.ascontiguousarray((ends - by_tile).reshape(views, tiles, parts).transpose(0, 2, 1))
    tile_starts = np.append(cursors[:, 0].reshape(-1), total)
    entries = np.empty(total, np.uint64)

    def scatter_part(start, stop):
        for task in range(start, stop):
            v, part = divmod(task, parts)
            scatter(part * step, min(n, (part + 1) * step), rects[v], records[v], tiles_x, cursors[v, part], entries)

    run_ranges(scatter_part, views * parts, 1, stop)
    live = np.ones(views * tiles, np.bool_)

    def composite_tiles(start, stop):
        sort_lists(start, stop, tile_starts, entries)
        composite(
            *(start, stop, 0, tile_starts, entries, records, settings.backgrounds, settings.size, *images, live),
            *(False, True),
        )

    grain = max(1, min(_TILES_PER_TASK, _ENTRIES_PER_TASK * views * tiles // max(1, total)))
    run_ranges(composite_tiles, views * tiles, grain, stop)
    return (rgb, depth, alpha), _Lists(records, rects, tile_starts, entries)


def _backward(settings: _Settings, lists: _Lists, gaussians, outputs, gradients) -> list[Tensor]:
    arrays = [t.detach().numpy() for t in gaussians]
    per_gaussian = lists.rects[..., 2].astype(np.int64) * lists.rects[..., 3]
    row_starts = (np.cumsum(per_gaussian) - per_gaussian.reshape(-1)).reshape(per_gaussian.shape)
    rows = np.empty((len(lists.entries), GRADIENT), np.float32)
    images = [t.detach().numpy() for t in (*outputs, *gradients)]

    def composite_tiles(start, stop):
        composite_backward(
            *(start, stop, lists.tile_starts, lists.entries, lists.records, lists.rects, row_starts),
            *(settings.size, *images, rows),
        )

    run_ranges(composite_tiles, len(lists.tile_starts) - 1, _TILES_PER_TASK)
    results = [torch.empty_like(t) for t in gaussians]
    outputs = [t.numpy() for t in results]

    def project_part(start, stop):
        project_backward(
            *(start, stop, *arrays, settings.degree, settings.cameras, settings.size),
            *(lists.records, lists.rects, row_starts, rows, *outputs),
        )

    run_ranges(project_part, len(arrays[0]), _GAUSSIANS_PER_TASK // 8)
    return results


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, *gaussians):
        outputs, lists = _forward(settings, *gaussians, keep_lists=True)
        ctx.settings, ctx.lists = settings, lists
        ctx.save_for_backward(*gaussians, *outputs)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        saved = ctx.saved_tensors
        gradients = [g.to(torch.float32).contiguous() for g in gradients]
        return None, *_backward(ctx.settings, ctx.lists, saved[:5], saved[5:], gradients)


def bytes_per_view(gaussians: int, width: int, height: int) -> int:
    """Working memory of one view in bytes, taking two tiles per Gaussian; with gradients about twice as much."""
    return gaussians * (4 * RECORD + 8 + 2 * 8) + 20 * width * height


def warm_up(wait: bool = True, gradients: bool = False) -> None:
    """Compile the kernels (seconds; from the disk cache, a fraction of one), those for ``gradients`` too if asked.

    Without ``wait`` it happens in a background thread. A render that starts meanwhile waits for the kernels it needs:
    which backend draws a picture never depends on timing.
    """
    with _warm_up_lock:
        thread = _warm_up_threads.get(gradients)
        if thread is None:
            thread = threading.Thread(
                target=_render_one_pixel, args=(gradients,), name="flashworld-warm-up", daemon=True
            )
            _warm_up_threads[gradients] = thread
            thread.start()
            atexit.register(thread.join)  # a compiler that is still at work when the interpreter goes aborts it
    if wait:
        thread.join()


def _render_one_pixel(gradients: bool) -> None:
    one = [torch.tensor([[0.0, 0, 1]]), torch.ones(1, 4), torch.ones(1, 3), torch.ones(1), torch.zeros(1, 1, 3)]
    one[0].requires_grad_(gradients)
    settings = {"background": torch.zeros(1, 3), "near": 0.01, "far": 10.0, "sh_degree": 0}
    try:
        with torch.enable_grad():
            rgb, _, _ = rasterize(*one, torch.eye(4)[None], torch.eye(3)[None], 1, 1, **settings)
            if gradients:
                rgb.sum().backward()
    except Exception:  # the render that follows fails the same way, in the caller's thread
        logger.exception("CPU renderer: warming up failed.")
