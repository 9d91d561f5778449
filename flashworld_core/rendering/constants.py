"""How wide a footprint must be at least, for pictures larger than those a scene was made at.

A generator sees its Gaussians through the renderer's low-pass filter of about one pixel of its own small views. In a
larger picture that filter is smaller against the scene, and gaps open between Gaussians that were meant to touch.
"""

from __future__ import annotations

from ..cameras import Cameras
from ..gaussians import FOCAL_PX, positive_number

LOW_PASS = 0.3  # pixels squared, as in 3D Gaussian splatting and in training
ALPHA_MIN = 1.0 / 255.0  # below, a Gaussian adds nothing to a pixel
ALPHA_MAX = 0.999  # above, alpha is capped
TRANSMITTANCE_MIN = 1e-4  # a pixel stops before the Gaussian that would bring its transmittance to this or less
JACOBIAN_MARGIN = 0.15  # of the image size beyond each edge, to which x/z and y/z are clamped inside the Jacobian


def matching_low_pass(metadata: dict, cameras: Cameras) -> float:
    """`render`'s ``low_pass`` at which a scene is as soft at ``cameras`` as in the views it was generated at.

    The filter's width is that of the generation views in angle: LOW_PASS times the square of the ratio of focal
    lengths in pixels. Cameras that see less detail than those keep LOW_PASS.

    Args:
        metadata: of the scene; without ``focal_px`` (not made by a generator of ours) LOW_PASS is the answer.
        cameras: at least one; their mean focal length counts.
    """
    generated = positive_number(metadata, FOCAL_PX)
    ratio = mean_focal(cameras) / generated if len(cameras) and generated is not None and generated > 1e-3 else 1.0
    return LOW_PASS * max(1.0, ratio) ** 2


def mean_focal(cameras: Cameras) -> float:
    """Mean of the horizontal and vertical focal lengths over all views, in pixels."""
    return float((cameras.intrinsics[:, 0, 0] + cameras.intrinsics[:, 1, 1]).double().mean() / 2)
