"""How inconsistent views are: the best Gaussian scene that explains them, and what it leaves unexplained."""

from __future__ import annotations

import torch
from torch import Tensor

from ...cameras import Cameras
from ...gaussians import Gaussians
from ...rendering.render import render

_RATES = {"means": 4e-3, "quats": 1e-2, "scales": 2e-2, "opacities": 5e-2, "sh": 4e-2}


def fit_scene(images: Tensor, cameras: Cameras, start: Gaussians, steps: int = 300) -> tuple[Gaussians, float]:
    """A scene fitted to views by Adam, and the mean squared error it ends with.

    Args:
        images: [V, H, W, 3] in [0, 1].
        cameras: V cameras.
        start: one Gaussian for each 2x2 pixels of each view, say, at a plausible depth.
        steps: of Adam.
    """
    logit = start.opacities.clamp(0.02, 0.98).logit()
    parts = {
        "means": start.means, "quats": start.quats, "scales": start.scales.clamp_min(1e-5).log(), "opacities": logit,
        "sh": start.sh[:, :1],
    }  # fmt: skip
    parts = {name: tensor.detach().clone().requires_grad_() for name, tensor in parts.items()}
    extent = float(start.means.std().clamp_min(1e-3))
    rates = _RATES | {"means": _RATES["means"] * extent}
    optimizer = torch.optim.Adam([{"params": [parts[name]], "lr": rate} for name, rate in rates.items()])

    def scene() -> Gaussians:
        return Gaussians(
            parts["means"], torch.nn.functional.normalize(parts["quats"], dim=-1), parts["scales"].exp(),
            parts["opacities"].sigmoid(), parts["sh"],
        )  # fmt: skip

    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates.values(), strict=True):
            group["lr"] = rate * (0.1 + 0.9 * (1 - step / steps))
        loss = (render(scene(), cameras).rgb - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        fitted = scene()
        return fitted, float((render(fitted, cameras).rgb - images).square().mean())
