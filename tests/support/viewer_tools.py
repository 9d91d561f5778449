"""Scenes, cameras and a page with viewers for the browser tests."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.formats.scenes.stream import write_stream
from flashworld_core.gaussians import Gaussians
from flashworld_core.geometry import intrinsics_from_vertical_fov, pose, quats_to_matrices
from flashworld_core.ops.measure import clip_planes
from flashworld_core.rendering.render import render

WIDTH, HEIGHT = 360, 240
BACKGROUND = "#204060"
POSES = [
    {"position": [0, 0, 0], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 60},
    {"position": [0.4, -0.3, 0.6], "quaternion": [0.97, 0.05, 0.2, 0.05], "vertical_fov_degrees": 45},
    {"position": [-3, 0.5, 3], "quaternion": [0.75, 0.1, 0.65, -0.05], "vertical_fov_degrees": 70},
    {"position": [0.2, 0.1, 7], "quaternion": [0.05, 0.02, 1, 0.1], "vertical_fov_degrees": 60},
]


def scene(n=12_000, degree=3, seed=0) -> Gaussians:
    """Four balls in a box, mostly opaque, with colors that depend on the direction."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    direction = torch.nn.functional.normalize(normal(n, 3), dim=1)
    ball = torch.tensor([[-1.2, 0.4, 3.0], [0.9, 0.6, 2.4], [0.1, -0.6, 3.8], [1.6, -0.2, 4.2]])
    means = ball[torch.randint(0, 4, (n,), generator=g)] + 0.7 * direction
    wall = uniform(n) < 0.4
    box = direction / direction.abs().amax(dim=1, keepdim=True) * torch.tensor([3.0, 1.8, 2.8])
    means[wall] = (box + torch.tensor([0, 0, 3.2]))[wall]
    scales = 0.035 * torch.exp(0.6 * normal(n, 3)) * (1 + wall[:, None].float())
    sh = normal(n, (degree + 1) ** 2, 3) * 0.12
    sh[:, 0] += 1.2 * torch.sin(3 * means + torch.tensor([0.0, 1, 2]))
    if degree:
        sh[:, 1:4] += 0.35 * direction[:, :, None]
    return Gaussians(means, normal(n, 4), scales, uniform(n).sqrt().clamp(0.02, 1), sh)


def cameras(view: dict, width=WIDTH, height=HEIGHT) -> Cameras:
    quaternion = torch.tensor(view["quaternion"], dtype=torch.float64)
    quaternion = quaternion / quaternion.norm()
    c2w = pose(quats_to_matrices(quaternion[None]), torch.tensor([view["position"]], dtype=torch.float64))
    k = intrinsics_from_vertical_fov(view["vertical_fov_degrees"], width, height)
    return Cameras(c2w.float(), k[None].float(), width, height)


def picture(encoded: str) -> torch.Tensor:
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))) / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(max(float((a - b.clamp(0, 1)).square().mean()), 1e-10))


def reference(gaussians: Gaussians, view: dict, **options) -> torch.Tensor:
    near, far = clip_planes(gaussians, cameras(view))
    options = {"near": near, "far": far, **options}
    background = [int(BACKGROUND[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return render(gaussians, cameras(view), background=background, **options).rgb[0]


@pytest.fixture
def viewer(page, site, tmp_path):
    """A page with the tools of pages/viewer.html; ``serve`` puts a scene where it can be fetched."""

    class Tools:
        def __init__(self):
            self.page, self.count = page, 0
            page.goto(f"{site}/tests/web/pages/viewer.html")
            page.wait_for_function("window.ready")

        def serve(self, gaussians: Gaussians, **options) -> str:
            self.count += 1
            path = tmp_path / f"{self.count}.fws"
            write_stream(path, gaussians, **options)
            address = f"{site}/scene{self.count}.fws"
            page.route(address, lambda route: route.fulfill(body=path.read_bytes()))
            return address

        def call(self, name: str, *arguments):
            return page.evaluate("([name, ...rest]) => tools[name](...rest)", [name, *arguments])

        def open(self, name: str, gaussians: Gaussians | None, options: dict | None = None, load: dict | None = None):
            settings = {"settings": {"background": BACKGROUND, "path": False}}
            url = None if gaussians is None else self.serve(gaussians)
            self.call("open", name, url, {**settings, **(options or {})}, load or {})

        def see(self, name: str, view: dict) -> torch.Tensor:
            return picture(self.call("view", name, view))

        def run(self, script: str, argument=None):
            return page.evaluate(script, argument)

    return Tools()


def keep(shots, name: str, seen: torch.Tensor, wanted: torch.Tensor) -> None:
    """Both pictures and ten times their difference, to be looked at."""
    from PIL import Image

    row = torch.cat([seen, wanted.clamp(0, 1), (10 * (seen - wanted).abs()).clamp(0, 1)], dim=1)
    Image.fromarray((row * 255).byte().numpy()).save(shots / f"viewer_{name}.png")
