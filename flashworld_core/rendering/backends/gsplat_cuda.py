"""gsplat's CUDA rasterizer behind the common `rasterize` signature; all views of a call go in one batch.

Its kernels have our constants built in: alpha is capped at 0.999 and skipped below 1/255, a pixel stops at
transmittance 1e-4, depths sort stably. Importing this module raises ImportError where a CUDA device, gsplat or its
compiled kernels are missing, which is how `render` learns to take the next backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import ALPHA_MIN, LOW_PASS

if not torch.cuda.is_available():
    raise ImportError("no CUDA device is available")

import gsplat


def _require_kernels() -> None:
    """gsplat imports without its kernels (it then builds them, or gives up silently): find out now, not mid-render."""
    try:
        from gsplat.cuda import _backend
    except ImportError:
        return  # another version's layout: its first call will tell
    except Exception as error:  # a failed build surfaces as whatever the build tool raised
        raise ImportError(f"gsplat could not build its CUDA kernels: {error}") from error
    if _backend._C is None:
        raise ImportError("gsplat has no CUDA kernels and found no CUDA toolkit to build them with")


_require_kernels()


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
    """As `torch_reference.rasterize`, in float32 on a CUDA device: the tensors' own, or the current one."""
    device = _device(means)
    gaussians = [t.to(device, torch.float32) for t in (means, quats, scales, opacities, sh)]
    # Gaussians that can never reach alpha 1/255 are dropped before projection: exact, and on generated scenes many.
    kept = gaussians[3].detach() >= ALPHA_MIN
    # The kernels want contiguous tensors; slices of one wide parameter tensor would be copied on every call.
    means, quats, scales, opacities, sh = (t[kept].contiguous() for t in gaussians)
    background = background.to(device, torch.float32).contiguous()
    world_to_camera = world_to_camera.to(device, torch.float32).contiguous()
    views = len(world_to_camera)
    if views == 0 or len(means) == 0:
        # Kernels are not asked to launch on nothing; adding zero keeps the result attached to the inputs' graph.
        nothing = sum(t.sum() for t in (means, quats, scales, opacities, sh))
        depth = torch.zeros(views, height, width, device=device) + nothing
        return background[:, None, None, :].expand(views, height, width, 3) + nothing, depth, depth.clone()
    # Colors per view: given coefficients, an unpacked call would first copy them once per view, 10 GB for 24 views
    # of a full scene.
    centers = -(world_to_camera[:, :3, :3].transpose(1, 2) @ world_to_camera[:, :3, 3:])[..., 0]
    colors = torch.stack([gsplat.spherical_harmonics(sh_degree, means - center, sh) for center in centers])
    images, alpha, _ = gsplat.rasterization(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=(colors + 0.5).clamp_min(0.0),
        viewmats=world_to_camera,
        Ks=intrinsics.to(device, torch.float32).contiguous(),
        width=width,
        height=height,
        near_plane=near,
        far_plane=far,
        eps2d=eps2d,
        sh_degree=None,
        # Unpacked: most Gaussians of a generated scene are in most views, and packing costs a synchronization.
        packed=False,
        backgrounds=background,
        render_mode="RGB+D",
        rasterize_mode="classic",
    )
    return images[..., :3], images[..., 3], alpha[..., 0]


def _device(means: Tensor) -> torch.device:
    return means.device if means.device.type == "cuda" else torch.device("cuda", torch.cuda.current_device())


def bytes_per_view(gaussians: int, width: int, height: int) -> int:
    """Working memory of one view in bytes: projected values, and sort buffers for two tiles per Gaussian."""
    return gaussians * (4 * 16 + 2 * 24) + 20 * width * height


def free_bytes(device: torch.device) -> int:
    """Memory a call could still take: what the driver has left and what torch holds but does not use."""
    device = device if device.type == "cuda" else torch.device("cuda", torch.cuda.current_device())
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
