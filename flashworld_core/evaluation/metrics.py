"""Image metrics."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr_db(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per image, in dB.

    Args:
        prediction, target: [V, ...] in [0, 1]; the prediction is clamped to that range first.

    Returns:
        [V].
    """
    error = (prediction.clamp(0, 1) - target).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10))
