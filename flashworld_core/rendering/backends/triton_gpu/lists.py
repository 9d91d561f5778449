"""Tile lists of all views in one buffer, from records and depths: two stable sorts with short keys."""

from __future__ import annotations

import dataclasses

import torch
import triton
from torch import Tensor

from ....errors import FlashWorldError
from .launch import ENTRY_BLOCK, TILE
from .tiles import list_tiles

_MOST_ENTRIES = 2**31 - 1  # places and Gaussians of all views are numbered in int32
_LARGEST_KEY = 2**15 - 1  # of int16, which sorts in half as many passes as int32


@dataclasses.dataclass(frozen=True)
class Lists:
    """One list per tile of every view, front to back, and how entries lay before the sort by tile.

    Attributes:
        ranges: [V * tiles, 2] int32, where each tile's list begins and ends.
        ids: [E] int32, view * N + Gaussian.
        entries: [E] int32, place of each entry in (view, depth, tile) order.
        order: [V, N] int64, Gaussians by depth.
        first: [V, N] int64, by rank in ``order``: place of the Gaussian's first entry in (view, depth, tile) order.
    """

    ranges: Tensor
    ids: Tensor
    entries: Tensor
    order: Tensor
    first: Tensor


def build_lists(
    records: Tensor, depths: Tensor, counts: Tensor, width: int, height: int, options: dict, keep_places: bool
) -> Lists:
    """List every Gaussian in the tiles it reaches.

    Args:
        records, depths, counts: as `project` writes them.
        width, height: image size in pixels.
        options: of the kernel launches.
        keep_places: keep what only gradients need; else ``entries`` is empty.

    Raises:
        FlashWorldError: more list entries than 32-bit places can number.
    """
    views, gaussians = depths.shape
    tiles_x, tiles_y = triton.cdiv(width, TILE), triton.cdiv(height, TILE)
    tiles = tiles_x * tiles_y
    # Views whose tiles fit one 16-bit key are sorted together.
    per_slice = max(1, min(views, _LARGEST_KEY // tiles))
    key_type = torch.int16 if per_slice * tiles <= _LARGEST_KEY else torch.int32

    order = depths.sort(dim=1, stable=True).indices
    by_rank = counts.gather(1, order).view(-1)
    last = by_rank.cumsum(0)
    first = last - by_rank
    # The one time the host waits for the device: it has to know how much to allocate.
    bounds = [0, *last[torch.arange(per_slice, views + per_slice, per_slice).clamp_max(views) * gaussians - 1].tolist()]
    total = bounds[-1]
    check_entries(views, total)
    owners = torch.repeat_interleave(by_rank, output_size=total)
    keys = torch.empty(total, dtype=key_type, device=depths.device)
    unsorted = torch.empty(total, dtype=torch.int32, device=depths.device)
    if total:
        list_tiles[(triton.cdiv(total, ENTRY_BLOCK),)](
            *(owners, order, first, records, keys, unsorted),
            *(total, gaussians, width, height, tiles_x, tiles_y, per_slice),
            TILE=TILE, BLOCK=ENTRY_BLOCK, **options,
        )  # fmt: skip
    del owners
    ids = torch.empty_like(unsorted)
    entries = torch.empty_like(unsorted if keep_places else unsorted[:0])
    edges = torch.arange(per_slice * tiles + 1, device=depths.device).to(key_type)
    ranges = []
    for i, (begin, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        ordered, places = keys[begin:end].sort(stable=True)
        cuts = torch.searchsorted(ordered, edges[: min(per_slice, views - i * per_slice) * tiles + 1]) + begin
        ranges.append(torch.stack([cuts[:-1], cuts[1:]], 1).int())
        torch.index_select(unsorted[begin:end], 0, places, out=ids[begin:end])
        if keep_places:
            entries[begin:end] = places + begin
    return Lists(torch.cat(ranges), ids, entries, order, first.view(views, gaussians))


def check_entries(views: int, entries: int) -> None:
    """Raise FlashWorldError if ``entries`` of ``views`` views exceed what 32-bit places can number."""
    if entries > _MOST_ENTRIES:
        raise FlashWorldError(
            f"{views} views of this scene make {entries} entries, more than one call can hold. Lower views_per_chunk."
        )
