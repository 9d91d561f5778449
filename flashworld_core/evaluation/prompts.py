"""Scenes for a list of prompts, where there is no truth: renders between the generated views, and what they show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..datasets.draws import stream
from ..datasets.ood_paths import along
from ..errors import FlashWorldError
from ..generators.base import Request
from ..media.export import save_png
from ..progress import Progress
from ..rendering.render import render
from ..trajectories.presets import make_trajectory
from .geometry_metrics import depth_disagreement
from .metrics import Figure, gradient_energy, mean_of

VIEWS = 4
"""Renders a prompt, at random places between the generated views, where nothing was optimized to look right."""


def judge_prompts(
    model, prompts: list[str], folder: Path, *, moves: str = "orbit:30", seed: int = 0,
    score: Callable[[Tensor, str], Tensor] | None = None, progress: Progress | None = None,
) -> dict:  # fmt: skip
    """Generate a scene for each prompt and measure its renders.

    Args:
        model: a `generators.base.Generator`.
        folder: where renders go, ``prompt_0000.png`` and so on.
        moves: the camera path, see `trajectories.presets.make_trajectory`.
        seed: of all scenes and of the views they are rendered at.
        score: (renders, prompt) -> [V]: a `clip.ClipScore`.

    Returns:
        ``figures``: {name: Figure} (gradient energy without a truth to compare with, depth disagreement, opacity, CLIP
        score), and ``rows``.

    Raises:
        FlashWorldError: no prompts.
    """
    if not prompts:
        raise FlashWorldError("There are no prompts to make scenes from; write one a line.")
    info = model.info
    folder.mkdir(parents=True, exist_ok=True)
    path = make_trajectory(moves, views=info.views, width=info.width, height=info.height)
    progress = (progress or Progress()).start(len(prompts))
    rows = []
    for i, prompt in enumerate(prompts):
        progress.check()
        generation = model.generate(Request(path, (), prompt, seed))
        places = np.sort(stream(seed, "evaluation views", i).uniform(0, 1, VIEWS))
        poses = along(path.camera_to_world, places).float()
        between = Cameras(poses, path.intrinsics[:1].repeat(VIEWS, 1, 1), path.width, path.height)
        out = render(generation.gaussians, between)
        own = render(generation.gaussians, path, modes=("expected_depth", "alpha"))
        row = {
            "prompt": prompt,
            "gradient_energy": float(gradient_energy(out.rgb).mean()),
            "depth_disagreement": depth_disagreement(own.expected_depth, own.alpha, path),
            "opacity": float(own.alpha.mean()),
        }
        if score is not None:
            row["clip_score"] = float(score(out.rgb, prompt).mean())
        rows.append(row)
        save_png(folder / f"prompt_{i:04d}.png", torch.cat(list(out.rgb), 1))
        progress.advance()
    figures: dict[str, Figure] = {}
    for name in rows[0]:
        if name != "prompt":
            values = torch.tensor([row[name] for row in rows])
            figures[name] = (
                mean_of(values[values.isfinite()]) if bool(values.isfinite().any()) else Figure(float("nan"))
            )
    return {"figures": figures, "rows": rows, "cameras": path}
