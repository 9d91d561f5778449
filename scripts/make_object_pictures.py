"""Makes the pictures on the help pages of the object nodes. Needs no ComfyUI; scikit-image for the mesh.

    python scripts/make_object_pictures.py

The object is drawn from formulas, not generated: no model of objects ships with the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image

from flashworld_core.cameras import Cameras
from flashworld_core.gaussians import Gaussians
from flashworld_core.generators import load_model
from flashworld_core.generators.base import Request, ViewImage
from flashworld_core.generators.vfusion3d.cameras import orbit, to_world
from flashworld_core.media.export import to_bytes
from flashworld_core.meshes import Mesh
from flashworld_core.ops.field_to_gaussians import field_to_gaussians
from flashworld_core.ops.field_to_mesh import field_to_mesh
from flashworld_core.ops.place import Placement, place, turn_towards
from flashworld_core.rendering.field import render_field
from flashworld_core.rendering.pick import point_at
from flashworld_core.rendering.render import render
from flashworld_core.sh import rgb_to_dc
from flashworld_core.trajectories.presets import make_trajectory

HELP, SIZE, GAP, QUALITY = ROOT / "web" / "docs", 224, 2, 88
DENSITY, SCALE = 60.0, 0.85
# Center and radii in VFusion3D's axes (towards the viewer, right, up), and color: a bird.
PARTS = (
    ((0.0, 0.0, -0.25), (0.62, 0.42, 0.40), (0.95, 0.75, 0.10)),
    ((0.42, 0.0, 0.32), (0.30, 0.30, 0.30), (0.97, 0.82, 0.20)),
    ((0.76, 0.0, 0.26), (0.14, 0.12, 0.06), (0.95, 0.40, 0.05)),
    ((0.64, 0.16, 0.42), (0.07, 0.06, 0.07), (0.08, 0.08, 0.10)),
    ((0.64, -0.16, 0.42), (0.07, 0.06, 0.07), (0.08, 0.08, 0.10)),
    ((-0.05, 0.40, -0.22), (0.34, 0.08, 0.20), (0.85, 0.60, 0.05)),
    ((-0.05, -0.40, -0.22), (0.34, 0.08, 0.20), (0.85, 0.60, 0.05)),
)


class Bird:
    """A field of ellipsoids; implements `flashworld_core.fields.Field`."""

    device, to_world, metadata = torch.device("cpu"), to_world(), {}

    def _parts(self, points: Tensor) -> Tensor:
        """[..., P] how far outside of each part a point is, in units of its radii."""
        points = points / SCALE
        return torch.stack([((points - torch.tensor(c)) / torch.tensor(r)).norm(dim=-1) - 1 for c, r, _ in PARTS], -1)

    def query(self, points: Tensor) -> tuple[Tensor, Tensor]:
        parts = self._parts(points)
        colors = torch.tensor([color for _, _, color in PARTS])[parts.argmin(dim=-1)]
        shade = 0.75 + 0.25 * F.normalize(points + 1e-6, dim=-1)[..., 2:]
        return self._raw(parts), (colors * shade).clamp(0, 1)

    def lattice(self, resolution: int, start: int, stop: int) -> Tensor:
        axis = torch.linspace(-1, 1, resolution)
        return self._raw(self._parts(torch.stack(torch.meshgrid(axis[start:stop], axis, axis, indexing="ij"), dim=-1)))

    @staticmethod
    def _raw(parts: Tensor) -> Tensor:
        return (-300 * parts.amin(dim=-1)).clamp(-20, DENSITY)

    def activate(self, raw: Tensor) -> Tensor:
        return F.softplus(raw - 1)


def around(count: int) -> Cameras:
    return orbit(8, SIZE, 20.0)[[7, 1, 3, 5][:count]]


def corners(mesh: Mesh) -> Gaussians:
    """A disc at each corner of a mesh, gray by the direction it faces."""
    v, f = mesh.vertices, mesh.faces
    across = torch.linalg.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
    normals = torch.zeros_like(v).index_add_(0, f.flatten(), across.repeat_interleave(3, dim=0))
    light = F.normalize(torch.tensor([-0.4, -0.8, -0.45]), dim=0)
    gray = (0.3 + 0.6 * (F.normalize(normals, dim=1) @ light).clamp_min(0))[:, None].expand(-1, 3)
    n = len(v)
    scales, quats = torch.full((n, 3), 0.008), torch.eye(4)[:1].repeat(n, 1)
    return Gaussians(v, quats, scales, torch.full((n,), 0.95), rgb_to_dc(gray)[:, None])


def save(name: str, rows: list[list[Tensor]]) -> None:
    height, width = rows[0][0].shape[:2]
    whole = Image.new("RGB", ((width + GAP) * len(rows[0]) - GAP, (height + GAP) * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            whole.paste(Image.fromarray(to_bytes(picture)), (x * (width + GAP), y * (height + GAP)))
    whole.save(HELP / f"FlashWorld_{name}.jpg", quality=QUALITY, optimize=True)


def main() -> None:
    field = Bird()
    views = around(4)
    exact, scene = render_field(field, views).rgb, field_to_gaussians(field, 128)
    splat = render(scene, views, background="white").rgb
    save("ImageToObject", [[exact[0], *splat[1:]]])
    mesh = render(corners(field_to_mesh(field, 160)), views, background="white").rgb
    save("FieldToMesh", [[exact[0], mesh[0], mesh[1], mesh[2]]])
    coarse = render(field_to_gaussians(field, 40), views[0], background="white").rgb
    save("FieldToSplat", [[exact[0], coarse[0], splat[0]]])

    model, demo = load_model("tiny"), ROOT / "flashworld_core" / "assets" / "demo"
    path = make_trajectory("arc", views=8, width=96, height=64)
    made = model.generate(Request(path, (ViewImage(demo / "picture.png", 4),)))
    shown = path[[2, 6]].resized(384, 256)
    spot = point_at(made.gaussians, shown[0], 0.45, 0.9)
    size = 0.25 * float((spot - shown.positions[0].double()).norm())
    turn = turn_towards(spot.tolist(), shown.positions[0].tolist()) + 20
    both = place(made.gaussians, scene, Placement(spot.tolist(), turn=turn, scale=size))
    before = render(made.gaussians, shown[0]).rgb
    save("PlaceObject", [[before[0], *render(both, shown).rgb]])


if __name__ == "__main__":
    main()
