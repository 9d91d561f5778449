"""`render`: Gaussians and cameras to images, by whichever backend suits the machine."""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import FlashWorldError, check_stop, is_out_of_memory, out_of_memory
from ..gaussians import Gaussians
from ..ops.measure import clip_planes
from .antialias import is_antialiased, thinning
from .backends import BackendFailed
from .constants import matching_low_pass
from .normals import normals_from_depth

logger = logging.getLogger(__name__)

Mode = Literal["rgb", "depth", "expected_depth", "alpha", "normal"]
MODES: tuple[Mode, ...] = ("rgb", "depth", "expected_depth", "alpha", "normal")
Backend = Literal["auto", "gsplat", "triton", "cpu", "torch"]

_MODULES = {
    "gsplat": ".backends.gsplat_cuda",
    "triton": ".backends.triton_gpu.rasterize",
    "cpu": ".backends.cpu.rasterize",
    "torch": ".backends.torch_reference",
}
_AUTO = {  # by the type of the Gaussians' device, best first
    # The CPU renderer would pull a CUDA scene over the bus and back: torch takes over on the device instead.
    "cuda": ("gsplat", "triton", "torch"),
    "xpu": ("triton", "cpu", "torch"),
}
_AUTO_ELSEWHERE = ("cpu", "torch")
_ON_GPU = ("gsplat", "triton")
_FIELDS = ("means", "quats", "scales", "opacities", "sh")
_CHUNK_BYTES = 1 << 30  # working memory a chunk of views may take on the CPU
_ASKS = ("cpu",)  # backends that take should_stop: they can end in the middle of a view
MAX_SIDE = 65536  # pixels
_missing: dict[str, str] = {}  # backends that did not load, and why: looked up once, said once
_loading = threading.Lock()
_announced: set[str] = set()  # backends whose choice was logged


@dataclasses.dataclass(frozen=True)
class RenderOutput:
    """Images of V views, float32, on the device of the Gaussians; None where a mode was not asked for.

    Attributes:
        rgb: [V, H, W, 3], background included, not clamped above 1.
        depth: [V, H, W] accumulated sum of weight * z, camera z in world units; the background adds nothing.
        expected_depth: [V, H, W] depth / alpha, 0 where alpha is 0.
        alpha: [V, H, W] in [0, 1].
        normals: [V, H, W, 3] in the camera frame (OpenCV axes), from the expected depth, unit length and facing the
            camera, 0 where alpha is 0.
    """

    rgb: Tensor | None = None
    depth: Tensor | None = None
    expected_depth: Tensor | None = None
    alpha: Tensor | None = None
    normals: Tensor | None = None


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    modes: Sequence[Mode] = ("rgb",),
    background: str | Sequence[float] | Tensor = "white",
    sh_degree: int | None = None,
    near: float | None = None,
    far: float | None = None,
    low_pass: float | None = None,
    backend: Backend = "auto",
    views_per_chunk: int | None = None,
    progress: Callable[..., None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RenderOutput:
    """Render a scene from every camera. Differentiable in the five Gaussian tensors, on every backend.

    A scene whose metadata say that it was made with the antialiased filter (mip-splatting) is drawn with it, one view
    at a time. Quaternions need not be unit; a zero one is the identity. No Gaussians, or none in sight, is the plain
    background.

    Args:
        gaussians: N Gaussians; any float dtype, computed in float32.
        cameras: V cameras.
        modes: what to return, any of "rgb", "depth", "expected_depth", "alpha", "normal".
        background: "white", "black", one color (r, g, b) or [3], or one color per view [V, 3].
        sh_degree: spherical-harmonic bands to use, 0 to what the Gaussians carry; None for all.
        near, far: Gaussians whose camera z is outside are dropped; world units, 0 < near < far. None: what suits the
            scene and the cameras, at any size of the scene (`ops.measure.clip_planes`).
        low_pass: added to every footprint's covariance, in pixels squared; what keeps it at least a pixel wide. None:
            as soft as in the views the scene was generated at (`constants.matching_low_pass`); `constants.LOW_PASS`
            for the sharpest.
        backend: "auto" takes gsplat for Gaussians on a CUDA or ROCm device if its kernels load, else Triton, else
            torch; Triton for those on an Intel GPU; the compiled CPU renderer otherwise. "gsplat", "triton", "cpu"
            and "torch" ask for one. A backend that does not load is replaced by the next one, and the log says so
            once.
        views_per_chunk: views rendered together; None plans it from memory. Images do not depend on it.
        progress: called as progress(views done, views) once per view.
        should_stop: asked before every chunk, by the compiled CPU renderer many times a second. On the CPU, with it or
            with progress, a chunk is one view unless told otherwise.

    Raises:
        FlashWorldError: not finite or out of range values (the message names the field), or arguments that do not fit.
        OutOfMemory: the images of all views do not fit in the machine's memory.
        Cancelled: should_stop() answered True.
    """
    views, n = len(cameras), len(gaussians)
    degree = _checked_degree(gaussians, sh_degree)
    modes = _checked_modes(modes)
    if near is None or far is None:
        planes = clip_planes(gaussians, cameras)
        near = planes[0] if near is None else near
        far = max(planes[1], 2 * near) if far is None else far
    low_pass = matching_low_pass(gaussians.metadata, cameras) if low_pass is None else low_pass
    if not (0 < near < far and math.isfinite(near)):
        raise FlashWorldError(f"near and far must satisfy 0 < near < far, got {near} and {far}.")
    if not (math.isfinite(low_pass) and low_pass > 0):
        raise FlashWorldError(f"low_pass must be above 0 (pixels squared), got {low_pass}.")
    if views_per_chunk is not None and views_per_chunk < 1:
        raise FlashWorldError(f"views_per_chunk must be at least 1, got {views_per_chunk}.")
    if max(cameras.width, cameras.height) > MAX_SIDE:
        raise FlashWorldError(
            f"An image of {cameras.width}x{cameras.height} is too large; its sides may have up to {MAX_SIDE:,} pixels."
        )
    _check_values(gaussians)
    name, rasterize = _load_backend(backend, gaussians.device)
    asked = backend

    device = gaussians.device
    tensors = [getattr(gaussians, field).float() for field in _FIELDS]
    cameras = cameras.to(device, torch.float32)
    backgrounds = _background(background, views, device)
    antialiased = is_antialiased(gaussians)
    chunk = (
        1
        if antialiased
        else views_per_chunk
        or _plan_chunk(name, n, cameras, device, watched=progress is not None or should_stop is not None)
    )

    def draw(begin: int, some: Cameras):
        nonlocal name, rasterize
        while True:
            try:
                return rasterize(
                    *(_thinned(tensors, some, low_pass) if antialiased else tensors),
                    some.world_to_camera,
                    some.intrinsics,
                    some.width,
                    some.height,
                    background=backgrounds[begin : begin + chunk],
                    near=near,
                    far=far,
                    sh_degree=degree,
                    eps2d=low_pass,
                    **({"should_stop": should_stop} if name in _ASKS else {}),
                )
            except BackendFailed as error:
                failed, reason = name, str(error)
            name, rasterize = _load_backend(asked, device, failed={failed: reason})

    def render_all() -> RenderOutput:
        outputs = []
        for begin in range(0, views, chunk):
            check_stop(should_stop)
            some = cameras[begin : begin + chunk]
            images = draw(begin, some)
            outputs.append(_select(modes, *(image.to(device) for image in images), some.intrinsics))
            if progress is not None:
                for done in range(begin, begin + len(some)):
                    progress(done + 1, views)
        if not outputs:
            shape = (0, cameras.height, cameras.width)
            empty = torch.zeros(shape, device=device)
            return _select(modes, torch.zeros(*shape, 3, device=device), empty, empty, cameras.intrinsics)
        fields = [[getattr(o, f.name) for o in outputs] for f in dataclasses.fields(RenderOutput)]
        return RenderOutput(*(None if f[0] is None else f[0] if len(f) == 1 else torch.cat(f) for f in fields))

    try:
        return render_all()
    except (MemoryError, RuntimeError) as error:
        # A GPU's shortage is left to whoever manages its memory.
        if device.type != "cpu" or not is_out_of_memory(error):
            raise
        numbers = sum({"rgb": 3, "normal": 3}.get(mode, 1) for mode in modes)
        size = 4 * numbers * views * cameras.width * cameras.height
        raise out_of_memory(
            error,
            f"{views} views of {cameras.width}x{cameras.height} take {size:,} bytes ({size / 1e9:.2f} GB), and "
            "rendering about as much again: use a smaller size or fewer views.",
        ) from error


def _thinned(tensors: list[Tensor], view: Cameras, low_pass: float) -> list[Tensor]:
    """The five tensors with opacities for one view of a scene made with the antialiased filter."""
    means, quats, scales, opacities, sh = tensors
    factor = thinning(
        means, quats, scales, view.world_to_camera[0], view.intrinsics[0], view.width, view.height, low_pass
    )
    return [means, quats, scales, opacities * factor, sh]


def warm_up(device: torch.device | str = "cpu", wait: bool = False, gradients: bool = False) -> None:
    """Get the backend for ``device`` ready; some compile on first use (seconds), then cache on disk.

    Call it early: it works in a background thread unless ``wait``, and a render that comes before it is done waits.
    ``gradients`` includes what only backward passes need.
    """
    device = torch.device(device)
    if device.type in _AUTO and not wait:
        loader = threading.Thread(
            target=_load_backend, args=("auto", device), name="flashworld-load-renderer", daemon=True
        )
        loader.start()
        atexit.register(loader.join)  # as the CPU renderer's: libraries that are loading do not bear the end
        return
    name, _ = _load_backend("auto", device)
    if name == "cpu":
        importlib.import_module(_MODULES[name], __package__).warm_up(wait, gradients)


def has_backend(name: Backend) -> bool:
    """Whether a backend can be used here; looking the first time loads it."""
    return _load_backend(name, torch.device("cpu"))[0] == name


def expected_backend(device_type: str) -> str:
    """The backend that "auto" will take on a device, as far as is known without loading any.

    On a machine without such a device it is the best one there is.
    """
    order = _AUTO.get(device_type, _AUTO_ELSEWHERE)
    present = device_type == "cpu" or getattr(torch, device_type).is_available()
    return next((name for name in order if not (present and name in _missing)), order[-1])


def _load_backend(wanted: str, device: torch.device, failed: Mapping[str, str] | None = None):
    """Load the wanted backend, or the next one that loads, and log the choice with its reason once.

    Args:
        failed: backends that loaded and turned out not to work, and why; not taken from now on.

    Returns:
        Its name and its `rasterize`.
    """
    order = tuple(_MODULES)
    if wanted == "auto":
        order = _AUTO.get(device.type, _AUTO_ELSEWHERE)
    elif wanted in order:
        order = order[order.index(wanted) :]
    else:
        raise FlashWorldError(f"Unknown rendering backend {wanted!r}; choose one of {('auto', *_MODULES)}.")
    with _loading:
        known = len(_missing)
        _missing.update(failed or {})
        for name in order:
            if name in _missing:
                continue
            try:
                rasterize = importlib.import_module(_MODULES[name], __package__).rasterize
            except ImportError as error:
                _missing[name] = str(error)
                continue
            _announce(name, order, news=len(_missing) > known, wanted=wanted)
            return name, rasterize
    raise FlashWorldError(f"No rendering backend could be loaded: {_missing}.")


def _announce(name: str, order: Sequence[str], news: bool, wanted: str) -> None:
    """Log which backend renders and why, where that is new; a warning if it is slower than the one hoped for."""
    if not news and name in _announced:
        return
    _announced.add(name)
    reasons = [f"{skipped!r} is not available ({_missing[skipped]})" for skipped in order[: order.index(name)]]
    slower = news and (name not in _ON_GPU or wanted != "auto")
    level = logging.WARNING if slower else logging.INFO
    advice = ' For fast rendering without a GPU: pip install numba (or ".[cpu]").' if name == "torch" and slower else ""
    logger.log(level, "Rendering with backend %r%s.%s", name, ": " + ", ".join(reasons) if reasons else "", advice)


def _plan_chunk(name: str, n: int, cameras: Cameras, device: torch.device, watched: bool) -> int:
    if name == "torch" or (name == "cpu" and watched):
        return 1
    module = importlib.import_module(_MODULES[name], __package__)
    # On the GPU all views in one batch, which takes the fewest launches, unless that needs over half of what is free.
    budget = module.free_bytes(device) // 2 if name in _ON_GPU else _CHUNK_BYTES
    return min(max(len(cameras), 1), max(1, budget // module.bytes_per_view(n, cameras.width, cameras.height)))


def _select(modes, rgb, depth, alpha, intrinsics) -> RenderOutput:
    expected = None
    if "expected_depth" in modes or "normal" in modes:
        # The inner where keeps 0 / 0 out of the gradient.
        expected = torch.where(alpha > 0, depth / torch.where(alpha > 0, alpha, 1.0), 0.0)
    return RenderOutput(
        rgb=rgb if "rgb" in modes else None,
        depth=depth if "depth" in modes else None,
        expected_depth=expected if "expected_depth" in modes else None,
        alpha=alpha if "alpha" in modes else None,
        normals=normals_from_depth(expected, alpha, intrinsics) if "normal" in modes else None,
    )


def _checked_degree(gaussians: Gaussians, degree: int | None) -> int:
    if degree is None:
        return gaussians.sh_degree
    if not 0 <= degree <= gaussians.sh_degree:
        raise FlashWorldError(f"sh_degree must be 0..{gaussians.sh_degree} for this scene, got {degree}.")
    return int(degree)


def _checked_modes(modes: Sequence[str]) -> frozenset[str]:
    chosen = {modes} if isinstance(modes, str) else set(modes)
    if not chosen or not chosen <= set(MODES):
        raise FlashWorldError(f"modes must be some of {MODES}, got {tuple(modes)}.")
    return frozenset(chosen)


def _check_values(gaussians: Gaussians) -> None:
    for name in _FIELDS:
        values = getattr(gaussians, name).detach()
        if not values.is_floating_point():
            raise FlashWorldError(f"Gaussians.{name} must hold floating-point numbers, got {values.dtype}.")
        # A finite sum means finite values, in one pass and without a mask; an overflowing sum gets the full look.
        if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
            raise FlashWorldError(f"Gaussians.{name} holds NaN or infinite values; remove or repair them first.")
    if not len(gaussians):
        return
    if gaussians.scales.detach().amin() < 0:
        raise FlashWorldError("Gaussians.scales must not be negative (linear standard deviations, not logarithms).")
    low, high = gaussians.opacities.detach().aminmax()
    if low < 0 or high > 1 + 1e-5:
        raise FlashWorldError("Gaussians.opacities must be in [0, 1] (activated, not logits).")


def _background(background, views: int, device: torch.device) -> Tensor:
    """[V, 3] float32."""
    named = {"white": 1.0, "black": 0.0}
    if isinstance(background, str):
        if background not in named:
            raise FlashWorldError(f"background must be 'white', 'black' or a color, got {background!r}.")
        return torch.full((views, 3), named[background], device=device)
    try:
        colors = torch.as_tensor(background, dtype=torch.float32, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FlashWorldError(f"background must be 'white', 'black' or numbers, got {background!r}.") from error
    if tuple(colors.shape) not in ((3,), (views, 3)):
        raise FlashWorldError(f"background must be [3] or [{views}, 3], got {list(colors.shape)}.")
    if not torch.isfinite(colors).all():
        raise FlashWorldError("background holds NaN or infinite values.")
    return colors.expand(views, 3)
