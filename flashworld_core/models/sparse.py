"""Sparse voxel operations in plain torch: submanifold convolution, resampling, attention over samples and windows.

Features are a tensor [n, C]; where their voxels are is a `SparseLayout`, which finds neighbors, coarser voxels and
windows once and keeps them, so that every layer and every step at that resolution uses the same tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FlashWorldError

_MAX_KEY = 2**62  # linear keys of voxels are int64


@dataclasses.dataclass(frozen=True)
class Groups:
    """Voxels that attend to each other, padded to sets of equal length.

    Attributes:
        rows: [g, L] voxel of each place; padding repeats a group's first voxel.
        keep: [g, L] bool, which places are no padding; None: all.
        places: [m] the places that are no padding, in the order of ``voxels``, counted over the flattened [g * L].
        voxels: [m] their voxels.
        samples: [g] the batch entry of each group.
    """

    rows: Tensor
    keep: Tensor | None
    places: Tensor
    voxels: Tensor
    samples: Tensor

    def to(self, device) -> Groups:
        moved = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Groups(**{k: None if v is None else v.to(device) for k, v in moved.items()})


class SparseLayout:
    """Where the voxels of a batch are.

    Args:
        coords: [n, 4] whole numbers: batch entry, x, y, z; the batch entry does not fall. A voxel occurs once.

    Raises:
        FlashWorldError: another shape, no voxels, or entries out of order.
    """

    def __init__(self, coords: Tensor):
        if coords.ndim != 2 or coords.shape[1] != 4 or not len(coords):
            raise FlashWorldError(f"Voxel coordinates must be [n, 4] with n >= 1, got {list(coords.shape)}.")
        coords = coords.long()
        if coords.device.type != "meta" and bool((coords[1:, 0] < coords[:-1, 0]).any()):
            raise FlashWorldError("Voxel coordinates must be sorted by batch entry.")
        self.coords = coords
        self._kept: dict[object, object] = {}

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def batch_index(self) -> Tensor:
        """[n] the batch entry of each voxel."""
        return self.coords[:, 0]

    @property
    def samples(self) -> int:
        """How many batch entries there are."""
        return self._once("samples", lambda: int(self.coords[-1, 0]) + 1)

    def to(self, device) -> SparseLayout:
        """The same voxels on another device, with every table made so far."""
        moved = object.__new__(SparseLayout)
        moved.coords = self.coords.to(device)
        moved._kept = {key: _moved(value, device) for key, value in self._kept.items()}
        return moved

    def neighbors(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of voxels by offset: entry k holds (p, q), voxel q lying at offset k from voxel p.

        Offsets count (a, b, c) in {0, 1, 2}^3 as 9 a + 3 b + c, each axis less 1. Only the first 13 are listed: 13 is
        the voxel itself, and at 26 - k lie the same pairs the other way round.
        """
        return self._once("neighbors", self._find_neighbors)

    def coarser(self) -> tuple[SparseLayout, Tensor, Tensor]:
        """The layout of half the resolution, each voxel's row in it [n], and how many voxels each row has [m].

        Rows are ordered by batch entry, x, y, z.
        """
        return self._once("coarser", self._find_coarser)

    def whole(self) -> list[Groups]:
        """Groups in which all voxels of a sample attend to each other."""
        return self._once("whole", lambda: _groups(self.batch_index, self.batch_index))

    def windows(self, size: int, shift: int) -> list[Groups]:
        """Groups of the voxels in cubes of ``size``, the cubes shifted by ``-shift`` voxels on every axis."""

        def find() -> list[Groups]:
            cubes = torch.cat([self.coords[:, :1], (self.coords[:, 1:] + shift) // size], 1)
            return _groups(_keys(cubes)[0], self.batch_index)

        return self._once(("windows", size, shift), find)

    def _once(self, key: object, make: Callable):
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _find_neighbors(self) -> list[tuple[Tensor, Tensor]]:
        keys, strides = _keys(self.coords, margin=1)
        ordered, order = torch.sort(keys)
        found = []
        for k in range(13):
            step = sum((axis - 1) * stride for axis, stride in zip((k // 9, k // 3 % 3, k % 3), strides, strict=True))
            wanted = ordered + step  # rises, as the search likes it
            place = torch.searchsorted(ordered, wanted).clamp_(max=len(keys) - 1)
            hit = torch.nonzero(ordered[place] == wanted).flatten()
            found.append((order[hit], order[place[hit]]))
        return found

    def _find_coarser(self) -> tuple[SparseLayout, Tensor, Tensor]:
        halved = torch.cat([self.coords[:, :1], self.coords[:, 1:] // 2], 1)
        _, inverse, counts = torch.unique(_keys(halved)[0], return_inverse=True, return_counts=True)
        coords = halved.new_empty(len(counts), 4)
        coords[inverse] = halved
        return SparseLayout(coords), inverse, counts


def _moved(value, device):
    if isinstance(value, (Tensor, Groups, SparseLayout)):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(part, device) for part in value)
    return value


def _keys(coords: Tensor, margin: int = 0) -> tuple[Tensor, tuple[int, int, int]]:
    """One number per voxel [n], in the order of batch, x, y, z, and what a step along x, y, z adds to it."""
    low = coords[:, 1:].min(0).values
    size = [int(s) + 1 + 2 * margin for s in coords[:, 1:].max(0).values - low]
    if size[0] * size[1] * size[2] * (int(coords[-1, 0]) + 1) > _MAX_KEY:
        raise FlashWorldError("Voxel coordinates lie too far apart.")
    b, (x, y, z) = coords[:, 0], (coords[:, 1:] - low + margin).unbind(1)
    return ((b * size[0] + x) * size[1] + y) * size[2] + z, (size[1] * size[2], size[2], 1)


def _groups(keys: Tensor, batch: Tensor) -> list[Groups]:
    """Sets of groups by length: a set holds those whose lengths have the same power of two, padded to its longest."""
    ordered, order = torch.sort(keys, stable=True)
    counts = torch.unique_consecutive(ordered, return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    classes = torch.ceil(torch.log2(counts.double())).long()
    found = []
    for c in torch.unique(classes).tolist():
        mine = torch.nonzero(classes == c).flatten()
        length = int(counts[mine].max())
        place = torch.arange(length, device=keys.device)
        keep = place < counts[mine, None]
        rows = order[starts[mine, None] + torch.where(keep, place, 0)]
        places = torch.nonzero(keep.flatten()).flatten()
        found.append(
            Groups(rows, None if bool(keep.all()) else keep, places, rows.flatten()[places], batch[rows[:, 0]])
        )
    return found


def submanifold_conv(features: Tensor, weight: Tensor, bias: Tensor | None, layout: SparseLayout) -> Tensor:
    """3^3 convolution at the occupied voxels only: y[p] = b + sum_abc W[:, a, b, c] x[p + (a-1, b-1, c-1)].

    Args:
        features: [n, in]; absent neighbors count as 0.
        weight: [out, 3, 3, 3, in].
        bias: [out] or None.

    Returns:
        [n, out].
    """
    weight = weight.flatten(1, 3)
    result = F.linear(features, weight[:, 13], bias)
    for k, (p, q) in enumerate(layout.neighbors()):
        if len(p):
            result.index_add_(0, p, F.linear(features.index_select(0, q), weight[:, k]))
            result.index_add_(0, q, F.linear(features.index_select(0, p), weight[:, 26 - k]))
    return result


def downsample(features: Tensor, layout: SparseLayout) -> tuple[Tensor, SparseLayout]:
    """Features of half the resolution: the sum over a coarse voxel divided by its voxels + 1, and their layout."""
    coarse, inverse, counts = layout.coarser()
    total = features.new_zeros(len(coarse), features.shape[1]).index_add(0, inverse, features)
    return total / (counts + 1)[:, None].to(features.dtype), coarse


def upsample(features: Tensor, fine: SparseLayout) -> Tensor:
    """Features of ``fine.coarser()`` brought back to the voxels of ``fine``: each takes its coarse voxel's."""
    return features.index_select(0, fine.coarser()[1])


def grouped_attention(query: Tensor, key: Tensor, value: Tensor, groups: list[Groups]) -> Tensor:
    """Softmax attention among the voxels of each group.

    Args:
        query, key, value: [n, heads, d].
        groups: every voxel in exactly one.

    Returns:
        [n, heads, d].
    """
    result = torch.zeros_like(query)
    for g in groups:
        q, k, v = (_rows(t, g.rows).transpose(1, 2) for t in (query, key, value))
        mask = None if g.keep is None else g.keep[:, None, None, :]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(0, 1)
        result.index_copy_(0, g.voxels, seen.index_select(0, g.places))
    return result


def cross_attention(query: Tensor, key: Tensor, value: Tensor, layout: SparseLayout) -> Tensor:
    """Softmax attention of each voxel to the tokens of its own sample.

    Args:
        query: [n, heads, d].
        key, value: [samples, tokens, heads, d].

    Returns:
        [n, heads, d].
    """
    result = torch.zeros_like(query)
    for g in layout.whole():
        q = _rows(query, g.rows).transpose(1, 2)
        k, v = (t[g.samples].transpose(1, 2) for t in (key, value))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
        result.index_copy_(0, g.voxels, seen.index_select(0, g.places))
    return result


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """``values[rows]`` for rows [g, L]; its gradient is the faster one of `index_select`."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


class SubmanifoldConv(nn.Module):
    """`submanifold_conv` with weights; they lie under ``conv``, as in published checkpoints."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = _ConvWeights(in_channels, out_channels)

    def forward(self, features: Tensor, layout: SparseLayout) -> Tensor:
        return submanifold_conv(features, self.conv.weight, self.conv.bias, layout)


class _ConvWeights(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        bound = (27 * in_channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))
