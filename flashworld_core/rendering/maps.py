"""A scene filmed along a path as pictures people and other networks use: color, mask, depth, normals, holes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError, check_stop
from ..gaussians import Gaussians
from ..ops.measure import clip_planes
from .constants import matching_low_pass
from .render import Backend, render

COLORS = {
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "gray": (0.5, 0.5, 0.5),
    "grey": (0.5, 0.5, 0.5),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
OPAQUE_ALPHA = 0.5  # from this alpha on a pixel's depth and normal are shown in full; below they fade to black
FAINTEST = 1 / 255  # alpha of the most opaque pixel below which nothing counts as seen
NUMBERS_PER_PIXEL = 12  # that `render_maps` keeps of every view
_RANGE = (0.01, 0.99)  # quantiles of 1 / depth that become black and white
_VIEWS_PER_CALL = {"cpu": 1, "cuda": 8}


@dataclasses.dataclass(frozen=True)
class RenderedMaps:
    """V views on the CPU, in [0, 1].

    Attributes:
        images: [V, H, W, 3] color over the background.
        alpha: [V, H, W] 0 where nothing is.
        depth: [V, H, W, 3] gray, linear in 1 / depth with one range for all views: white is near, black is far or
            nothing. This is what depth networks give and depth ControlNets take.
        normals: [V, H, W, 3] a normal map of the OpenGL kind: red to the right, green up, blue towards the viewer, each
            0.5 + 0.5 * component; black where nothing is.
        holes: [V, H, W] 1 where alpha is below the threshold, else 0: what an inpainting network should fill.
        nearest, farthest: camera z, in world units, that are white and black in ``depth``; 0 where nothing is seen.
    """

    images: Tensor
    alpha: Tensor
    depth: Tensor
    normals: Tensor
    holes: Tensor
    nearest: float
    farthest: float


def render_maps(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    sh_degree: int | None = None,
    hole_threshold: float = 0.5,
    low_pass: float | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    backend: Backend = "auto",
    progress: Callable[..., None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RenderedMaps:
    """Render every picture of every view; near and far planes are chosen so that the whole scene shows.

    Memory for the result is taken once, at the beginning: `NUMBERS_PER_PIXEL` for every pixel.

    Args:
        sh_degree: spherical-harmonic bands to use; more than the scene has means all.
        hole_threshold: alpha below which a pixel is a hole.
        low_pass: as in `render.render`.
        device: where to render; the scene is brought there.
        dtype: of the result.
        progress: called as progress(views done, views, preview) once per view, preview [H, W, 3].
        should_stop: asked before every view on the CPU, before every few on a GPU.

    Raises:
        FlashWorldError: not finite or out of range values, an empty path.
        Cancelled: should_stop() answered True.
    """
    views, height, width = len(cameras), cameras.height, cameras.width
    if views == 0:
        raise FlashWorldError("The camera path is empty.")
    near, far = clip_planes(gaussians, cameras)  # of the whole path, so that every view drops the same
    low_pass = matching_low_pass(gaussians.metadata, cameras) if low_pass is None else low_pass
    degree = gaussians.sh_degree if sh_degree is None else max(0, min(sh_degree, gaussians.sh_degree))
    images, depth, normals = (torch.empty(views, height, width, 3, dtype=dtype) for _ in range(3))
    alpha, holes = (torch.empty(views, height, width, dtype=dtype) for _ in range(2))
    distance = torch.empty(views, height, width)

    gaussians = gaussians.detach().to(device)
    step = _VIEWS_PER_CALL.get(gaussians.device.type, 1)
    for begin in range(0, views, step):
        check_stop(should_stop)
        chosen = slice(begin, min(begin + step, views))
        out = render(
            gaussians,
            cameras[chosen],
            modes=("rgb", "expected_depth", "alpha", "normal"),
            background=background,
            sh_degree=degree,
            near=near,
            far=far,
            low_pass=low_pass,
            backend=backend,
            should_stop=should_stop,
        )
        images[chosen] = out.rgb.clamp(0, 1)
        alpha[chosen] = out.alpha.clamp(0, 1)
        holes[chosen] = (out.alpha < hole_threshold).to(holes)
        distance[chosen] = torch.where(out.alpha >= FAINTEST / 2, out.expected_depth, 0.0)
        normals[chosen] = normal_map(out.normals)
        if progress is not None:
            for done in range(chosen.start, chosen.stop):
                progress(done + 1, views, images[done])
    # A scene that is translucent everywhere is shown by its own most opaque pixels.
    solid = min(OPAQUE_ALPHA, max(FAINTEST, float(alpha.max())))
    for view in range(views):  # one at a time: no second copy of everything
        distance[view] = torch.where(alpha[view] >= solid / 2, distance[view], 0.0)
    nearest, farthest = depth_range(distance, alpha, solid)
    for view in range(views):
        fade = (alpha[view].float() / solid).clamp(0, 1)
        depth[view] = (disparity_map(distance[view], nearest, farthest) * fade)[..., None]
        normals[view] = normals[view].float() * fade[..., None]
    return RenderedMaps(images, alpha, depth, normals, holes, nearest, farthest)


def depth_range(depth: Tensor, alpha: Tensor, solid: float = OPAQUE_ALPHA) -> tuple[float, float]:
    """The nearest and farthest camera z to show of [V, H, W] depths where alpha is at least ``solid``, without the
    outermost hundredth; (0, 0) where nothing is seen."""
    step = max(1, depth.numel() // 1_000_000)
    depth, alpha = depth.flatten()[::step], alpha.flatten()[::step]
    seen = depth[(alpha >= solid * (1 - 1e-3)) & (depth > 0)]
    if not len(seen):
        return 0.0, 0.0
    far, near = (1 / seen.double()).quantile(torch.tensor(_RANGE, dtype=torch.float64, device=seen.device)).tolist()
    return 1 / near, 1 / far


def disparity_map(depth: Tensor, nearest: float, farthest: float) -> Tensor:
    """[...] gray values: 1 at ``nearest`` and closer, 0 at ``farthest`` and beyond, even steps of 1 / depth between;
    0 where nothing is."""
    if not nearest > 0:
        return torch.zeros_like(depth)
    spread = 1 / nearest - 1 / farthest
    nearness = 1 / depth.clamp_min(1e-30) - 1 / farthest
    gray = (nearness / spread).clamp(0, 1) if spread > 1e-6 / nearest else torch.ones_like(depth)  # a flat wall
    return torch.where(depth > 0, gray, 0.0)


def normal_map(normals: Tensor) -> Tensor:
    """[..., 3] colors of camera-frame normals [..., 3] (OpenCV axes): OpenGL's normal map, black where nothing is."""
    colors = normals * normals.new_tensor([0.5, -0.5, -0.5]) + 0.5
    return torch.where((normals != 0).any(dim=-1, keepdim=True), colors, 0.0)


def color_from_text(text: str, name: str = "background") -> tuple[float, float, float]:
    """A color in [0, 1] from "#rrggbb", "#rgb" or a name of `COLORS`.

    Raises:
        FlashWorldError: anything else.
    """
    word = text.strip().lower() if isinstance(text, str) else ""
    if word in COLORS:
        return COLORS[word]
    match = re.fullmatch(r"#?([0-9a-f]{6}|[0-9a-f]{3})", word)
    if match is None:
        raise FlashWorldError(
            f"{name} must be a color like #4080ff, or one of {', '.join(COLORS)}; got {str(text)[:40]!r}."
        )
    digits = match[1] if len(match[1]) == 6 else "".join(2 * digit for digit in match[1])
    return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))


# A perceptually ordered ramp from near (warm, light) to far (cool, dark), sampled at equal steps.
_DEPTH_RAMP = np.array(
    [[253, 231, 180], [250, 186, 110], [236, 128, 82], [196, 77, 100], [135, 49, 117], [76, 34, 105], [22, 16, 50]]
)


def colorize_depth(depth: Tensor, near: float | None = None, far: float | None = None) -> Tensor:
    """Colors [..., 3] for depths [...]: equal steps of 1/depth, near is warm and light, nothing (0) is white.

    Args:
        near, far: the ends of the ramp; default the 2nd and 98th percentile of the positive depths.
    """
    valid = depth > 0
    if not valid.any():
        return torch.ones(*depth.shape, 3)
    some = depth[valid].float()
    some = some[:: max(1, some.numel() // 100_000)]
    near = float(some.quantile(0.02)) if near is None else near
    far = float(some.quantile(0.98)) if far is None else far
    inverse = 1 / depth.float().clamp_min(1e-6)
    place = ((1 / near - inverse) / max(1 / near - 1 / far, 1e-12)).clamp(0, 1) * (len(_DEPTH_RAMP) - 1)
    low = place.long().clamp_max(len(_DEPTH_RAMP) - 2)
    ramp = torch.tensor(_DEPTH_RAMP, dtype=torch.float32, device=depth.device) / 255
    color = torch.lerp(ramp[low], ramp[low + 1], (place - low)[..., None])
    return torch.where(valid[..., None], color, torch.ones_like(color))


def colorize_normals(normals: Tensor) -> Tensor:
    """The usual normal-map colors (x right, y up, z towards the viewer) of camera-frame OpenCV normals [..., 3]."""
    flipped = normals * normals.new_tensor([1.0, -1.0, -1.0])
    color = flipped * 0.5 + 0.5
    return torch.where(normals.square().sum(-1, keepdim=True) > 0, color, torch.ones_like(color))
