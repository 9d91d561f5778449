"""Cross-mode consistency: the distance of the 3D mode's clean latents from the multi-view mode's prediction."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_mode_loss(rendered: Tensor, multiview: Tensor, *, detach_multiview: bool = True) -> Tensor:
    """FlashWorld, Eq. 6, without its weight: mean (E(R(G)) - Z_mv)^2 at the input views.

    Args:
        rendered: [B, C, T, h, w] latents of the rendered Gaussians at the input views.
        multiview: the same shape, clean latents of the multi-view mode.
        detach_multiview: hold the multi-view mode fixed, so that it regularizes the 3D mode; which side the paper holds
            is not written.
    """
    return F.mse_loss(rendered.float(), (multiview.detach() if detach_multiview else multiview).float())
