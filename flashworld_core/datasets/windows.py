"""Which frames of a clip a sample takes: input views in order, novel views between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGEST_DEPTH = 30.0
"""Median depth of a scene in units of the window's largest camera distance; beyond, cameras hardly move."""
SMALLEST_SHARE = 0.01
"""Of a clip's own largest camera distance that a window must cover where the scene's depth is not known."""


def frames_needed(views: int, strides: Sequence[int], novel: bool) -> int:
    """Frames a clip must have for the smallest of its strides."""
    return (views - 1) * min(strides) + 1 + (1 if novel and min(strides) == 1 else 0)


def choose_window(
    rng: np.random.Generator, frames: int, views: int, novel_views: int, strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Draw a window: stride and start uniform among those that fit.

    At a stride above 1, input views are every stride-th frame and novel views frames between the first and the last
    of them. At stride 1 there are none between: then input views are drawn, in order, from a window of ``views +
    novel_views`` frames (or what the clip has), and novel views are the rest. Novel views do not repeat unless there
    are fewer frames than are asked for.

    Returns:
        Frame numbers of the input and of the novel views, each in order.
    """
    fitting = [stride for stride in strides if frames_needed(views, (stride,), novel_views > 0) <= frames]
    stride = fitting[int(rng.integers(len(fitting)))]
    if stride > 1 or not novel_views:
        start = int(rng.integers(frames - (views - 1) * stride))
        inputs = [start + i * stride for i in range(views)]
        free = sorted(set(range(inputs[0], inputs[-1] + 1)) - set(inputs))
    else:
        length = min(frames, views + novel_views)
        start = int(rng.integers(frames - length + 1))
        window = range(start, start + length)
        inputs = sorted(int(i) for i in rng.choice(window, views, replace=False))
        free = sorted(set(window) - set(inputs))
    novel = _spread(rng, free, novel_views)
    return inputs, novel


def _spread(rng: np.random.Generator, free: list[int], count: int) -> list[int]:
    """``count`` of the free frames, each as often as another, give or take one."""
    if not count:
        return []
    rounds, rest = divmod(count, len(free))
    return sorted(free * rounds + [int(i) for i in rng.choice(free, rest, replace=False)])


def hardly_moves(positions: Tensor, clip_positions: Tensor, depth: float) -> bool:
    """Whether a window's cameras [V, 3] move so little that dividing by their distance would amplify noise.

    Args:
        clip_positions: [F, 3] of all frames.
        depth: median depth of the scene in the same unit; 0: not known.
    """
    reach = float((positions - positions[0]).norm(dim=1).max())
    if depth > 0:
        return depth > LARGEST_DEPTH * reach
    whole = float((clip_positions - clip_positions[0]).norm(dim=1).max())
    return whole <= 0 or reach < SMALLEST_SHARE * whole


def mirrored(images: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images [V, H, W, 3], poses and intrinsics of the scene seen in a mirror that swaps left and right."""
    sign = torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=camera_to_world.dtype)
    poses = camera_to_world * sign[:, None] * sign
    k = intrinsics.clone()
    k[:, 0, 2] = images.shape[2] - k[:, 0, 2]
    return images.flip(2), poses, k
