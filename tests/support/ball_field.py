"""A field whose surfaces and colors are known: two balls of a plain color in each octant."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BALLS = (((0.1, 0.0, 0.0), 0.5), ((0.0, 0.5, 0.5), 0.25))  # centers and radii, in the field's axes


class BallField:
    """Implements `flashworld_core.fields.Field`; counts the points it is asked about."""

    device = torch.device("cpu")

    def __init__(self, density: float = 60.0, to_world: torch.Tensor | None = None):
        self.density, self.metadata, self.asked = density, {"generator": "balls"}, 0
        # A quarter turn, so that axes mixed up are noticed.
        turn = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]], dtype=torch.float64)
        self.to_world = turn if to_world is None else to_world

    def raw(self, points: torch.Tensor) -> torch.Tensor:
        distances = [(points - points.new_tensor(center)).norm(dim=-1) - radius for center, radius in BALLS]
        return (-torch.stack(distances).amin(dim=0) * 10 * self.density).clamp(-20, self.density)

    def query(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += len(points)
        return self.raw(points), 0.1 + 0.8 * (points > 0).float()

    def lattice(self, resolution: int, start: int, stop: int) -> torch.Tensor:
        axis = torch.linspace(-1, 1, resolution)
        grid = torch.meshgrid(axis[start:stop], axis, axis, indexing="ij")
        return self.raw(torch.stack(grid, dim=-1))

    def activate(self, raw: torch.Tensor) -> torch.Tensor:
        return F.softplus(raw - 1)
