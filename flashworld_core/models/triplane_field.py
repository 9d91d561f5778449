"""`TriplaneField`: three planes and a small MLP as a field, with fast exact evaluation on the CPU.

Sampling is linear, and so is the decoder's first layer. So each plane goes through its part of that layer once, and a
point costs three lookups of `hidden` channels in place of `channels`, and no large matrix. On a lattice the lookups
are shared by whole rows. `TriplaneField.query_directly` is the slow twin.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..rendering.backends.cpu.threads import run_ranges
from .triplane import FieldDecoder, split_output

# Which coordinates run along a plane's columns and rows.
AXES = ((0, 1), (0, 2), (2, 1))
POINTS_PER_PASS = 1 << 13  # keeps the layers' values in the processor's cache
POINTS_PER_RANGE = 1 << 11  # of the compiled lookup, for each thread at a time


@functools.cache
def _compiled_gather():
    """The compiled lookup; None without numba: torch does it then, at about half the speed."""
    try:
        from .triplane_gather import gather
    except ImportError:
        return None
    return gather


class TriplaneField:
    """A field in the cube [-1, 1]^3; implements `fields.Field`.

    Bilinear, zeros beyond each plane, the outermost samples half a sample inside. Density is softplus(raw - 1).

    Args:
        planes: [3, C, R, R] (plane, channel, row, column), float32.
        decoder: of the same C.
        to_world: [3, 3] rotation, see `fields.Field`.
        metadata: where the field comes from.
    """

    def __init__(self, planes: Tensor, decoder: FieldDecoder, to_world: Tensor, metadata: dict | None = None):
        self.planes, self.decoder, self.to_world, self.metadata = planes, decoder, to_world, metadata or {}
        self._table: Tensor | None = None
        self._lattices: dict[int, list[Tensor]] = {}

    @property
    def device(self) -> torch.device:
        """Where the planes are."""
        return self.planes.device

    @staticmethod
    def activate(raw: Tensor) -> Tensor:
        """Density of raw density."""
        return F.softplus(raw - 1)

    def query_directly(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """As `query`, by the definition: for gradients and as a reference."""
        features = [
            F.grid_sample(plane[None], points[None, None, :, axes], padding_mode="zeros", align_corners=False)
            for plane, axes in zip(self.planes, map(list, AXES), strict=True)
        ]
        return self.decoder(torch.cat([feature[0, :, 0] for feature in features]).T)

    @torch.no_grad()
    def query(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Raw density [N] and rgb [N, 3] at points [N, 3], without gradients."""
        out = points.new_empty(len(points), 4)
        spare = self._spare()
        for start in range(0, len(points), POINTS_PER_PASS):
            part = slice(start, start + POINTS_PER_PASS)
            self._rest(self._first_layer(points[part], spare[0]), spare, out[part])
        return split_output(out)

    @torch.no_grad()
    def lattice(self, resolution: int, start: int, stop: int) -> Tensor:
        """Raw density on slices ``start`` to ``stop`` (exclusive) of the lattice, see `fields.Field`."""
        first, second, third = self._lattice_planes(resolution)  # [x, y], [x, z], [y, z] of hidden channels
        density = self.planes.new_empty(stop - start, resolution, resolution)
        spare, rows = self._spare(max(POINTS_PER_PASS, resolution)), max(1, POINTS_PER_PASS // resolution)
        out = self.planes.new_empty(rows * resolution, 4)
        for x in range(start, stop):
            for y in range(0, resolution, rows):
                count = min(rows, resolution - y)
                hidden = spare[0, : count * resolution]
                torch.add(first[x, y : y + count, None], second[x], out=hidden.view(count, resolution, -1))
                hidden.view(count, resolution, -1).add_(third[y : y + count])
                self._rest(hidden.relu_(), spare, out[: len(hidden)])
                density[x - start, y : y + count] = out[: len(hidden), 0].view(count, resolution)
        return density

    def _spare(self, points: int = POINTS_PER_PASS) -> Tensor:
        """[2, points, hidden]: room for two layers' values. Taking it anew for every pass costs more than the pass."""
        return self.planes.new_empty(2, points, self.decoder.net[0].out_features)

    def _rest(self, hidden: Tensor, spare: Tensor, out: Tensor) -> None:
        """Write the decoder's output [N, 4] for its first layer's values [N, hidden], a part of ``spare[0]``."""
        layers = [layer for layer in self.decoder.net if isinstance(layer, nn.Linear)][1:]
        for number, layer in enumerate(layers[:-1]):
            into = spare[(number + 1) % 2, : len(hidden)]
            hidden = torch.addmm(layer.bias, hidden, layer.weight.T, out=into).relu_()
        torch.addmm(layers[-1].bias, hidden, layers[-1].weight.T, out=out)

    def _first_layer(self, points: Tensor, spare: Tensor) -> Tensor:
        """[N, hidden]: the decoder's first layer and its ReLU at points [N, 3]; written into ``spare`` or new."""
        table, side = self._samples()
        if points.device.type == "cpu" and (gather := _compiled_gather()):
            out = spare[: len(points)]
            arrays = (points.contiguous().numpy(), table.numpy(), side, self.decoder.net[0].bias.numpy(), out.numpy())
            run_ranges(lambda start, stop: gather(*arrays, start, stop), len(points), POINTS_PER_RANGE)
            return out
        size = side - 2  # without the border of zeros
        indices, weights = [], []
        position = ((points + 1) * (size / 2) + 0.5).clamp(0, size + 1)  # of the bordered plane; beyond it: zeros
        low = position.floor().clamp_max(size).to(torch.int32)
        upper = position - low
        lower = 1 - upper
        for plane, (column, row) in enumerate(AXES):
            corner = low[:, row] * side + low[:, column] + plane * side * side
            indices += [corner, corner + 1, corner + side, corner + side + 1]
            left, right, top, bottom = lower[:, column], upper[:, column], lower[:, row], upper[:, row]
            weights += [top * left, top * right, bottom * left, bottom * right]
        found = F.embedding_bag(torch.stack(indices, 1), table, mode="sum", per_sample_weights=torch.stack(weights, 1))
        return found.add_(self.decoder.net[0].bias).relu_()

    def _samples(self) -> tuple[Tensor, int]:
        """[3 S S, hidden] samples of the planes behind the first layer, each with a border of zeros; and S."""
        side = self.planes.shape[-1] + 2
        if self._table is None:
            self._table = F.pad(self._projected(), (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(0, 2).contiguous()
        return self._table, side

    @torch.no_grad()
    def _projected(self) -> Tensor:
        """[3, hidden, R, R]: each plane through its part of the decoder's first layer."""
        parts = self.decoder.net[0].weight.chunk(3, dim=1)
        return torch.stack([torch.einsum("hc,cyx->hyx", w, p) for w, p in zip(parts, self.planes, strict=True)])

    def _lattice_planes(self, resolution: int) -> list[Tensor]:
        """The planes' parts of the first layer at the lattice's points: [x, y], [x, z], [y, z] of hidden channels."""
        if resolution not in self._lattices:
            axis = torch.linspace(-1, 1, resolution, device=self.device)
            rows, columns = torch.meshgrid(axis, axis, indexing="ij")
            grid = torch.stack([columns, rows], dim=-1)[None].expand(3, -1, -1, -1)
            found = F.grid_sample(self._projected(), grid, padding_mode="zeros", align_corners=False)
            first, second, third = found.permute(0, 2, 3, 1)  # row, column
            first = first.transpose(0, 1) + self.decoder.net[0].bias
            self._lattices = {resolution: [first.contiguous(), second.transpose(0, 1).contiguous(), third.contiguous()]}
        return self._lattices[resolution]
